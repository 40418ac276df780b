//! The registry: a request and stores in, a response out.
//!
//! | module | what it has |
//! |---|---|
//! | `request`, `visit`, `body` | requests; who makes one; bodies of responses |
//! | `dispatch`, `token` | an arm for each operation; the end-point that issues tokens |
//! | `pull`, `headers` | what a request selects of content; names and values of headers |
//! | `reply` | responses, one file for the operations of each service |
//! | `log`, `audit`, `about` | the log, the audit and the metrics of requests |
//! | `slots`, `readiness` | concurrent bodies by user; whether the bucket answers |
//! | `parts`, `bound`, `failure` | the parts of a service; deadlines; failures that no client waits for |
//! | `grant` | **Grants**: KEEP and marks, rights, links |
//! | `upload` | **Uploads**: sessions and chunks, whole blobs, closing |
//! | `blob` | **Blobs**: stored blobs, pulled and deleted |
//! | `manifest` | **Manifests**: read, pushed, deleted |
//! | `list` | **Lists**: the catalogue, tags, referrers |
//! | `mirror` | **Mirror**: manifests, tags, blobs and lists of upstreams |
//! | `inside` | **Inside**: indexes of layers, files and directories of layers and images |
//! | `upkeep` | **Upkeep**: the sweep, the scrub, the inventory, holders of blobs |

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use futures_util::future::join;
use http::{HeaderValue, Method};
use serde_json::json;

use crate::{
    access::network,
    end_point::EndPoint,
    error::{Code, Error},
    host::{Clock as _, Level, Log as _, Random as _},
    ledger::{Ledger, STRANGER},
    metrics::Metrics,
    platform::Platform,
    registry::{
        about::About,
        blob::Blobs,
        failure::log_failure,
        grant::Grants,
        inside::Inside,
        list::Lists,
        manifest::Manifests,
        mirror::{Mirror, Services},
        parts::Parts,
        readiness::Readiness,
        reply::{Answer, OCI_NAMESPACE, ResponseOf, describe_response, respond_with_error},
        slots::{DRAIN_TIMEOUT, Slots},
        upkeep::Upkeep,
        upload::Uploads,
        visit::origin,
    },
    route::{self, Operation, RegistryOperation},
    settings::Settings,
    store::{
        after::{After, Renewal},
        bucket::Bucket,
        tiers::Tiers,
        trace::Trace,
    },
};

pub use self::{
    body::Body,
    reply::refuse,
    request::{HEADERS, Request},
};

mod about;
mod audit;
mod blob;
mod body;
mod bound;
mod dispatch;
mod drain;
mod failure;
mod grant;
mod headers;
mod inside;
mod list;
mod log;
mod manifest;
mod mirror;
mod parts;
mod pull;
mod readiness;
mod reply;
mod request;
mod slots;
mod token;
mod upkeep;
mod upload;
mod visit;

/// A registry on one platform, with all the state of an isolate: caches, counters and leases.
///
/// It authenticates requests, calls the service of each operation, and describes the response. Make
/// one an isolate or thread: it is not `Send`. Several registries may share one store.
pub struct Registry<P: Platform> {
    store: Bucket<P::Cold>,
    host: P::Host,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    ledger: Ledger,
    uploads: Rc<Uploads<P>>,
    blobs: Rc<Blobs<P>>,
    manifests: Rc<Manifests<P>>,
    lists: Rc<Lists<P>>,
    mirror: Rc<Mirror<P>>,
    inside: Rc<Inside<P>>,
    upkeep: Upkeep<P>,
    readiness: Readiness<P>,
    /// Slots for bodies in a repository.
    slots: Rc<Slots>,
    /// Slots for bodies that no service took.
    drained: Rc<Slots>,
    /// The prefix of the ids of this isolate's requests.
    isolate: String,
    requests: Cell<u64>,
}

impl<P: Platform> fmt::Debug for Registry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("isolate", &self.isolate)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Registry<P> {
    /// Makes a registry with a ledger of its own, bounded by [`Ledger::BOUND`].
    ///
    /// `cold` is the durable store and the only source of truth. `warm` is a cache, which may
    /// forget. Wrap the stores in [`Counted`](crate::store::counted::Counted) to count their
    /// operations in `metrics`, and `cold` in [`Retry`](crate::store::retry::Retry) to retry failed
    /// ones.
    pub fn new(
        cold: P::Cold,
        warm: P::Warm,
        host: P::Host,
        settings: Settings,
        metrics: Rc<Metrics>,
    ) -> Self {
        Self::with_ledger(cold, warm, host, settings, metrics, Ledger::default())
    }

    /// Makes a registry that draws from a ledger which others in the isolate share, such as the
    /// buffers of the platform's uploads.
    ///
    /// The other arguments are those of [`Registry::new`].
    pub fn with_ledger(
        cold: P::Cold,
        warm: P::Warm,
        host: P::Host,
        settings: Settings,
        metrics: Rc<Metrics>,
        ledger: Ledger,
    ) -> Self {
        let policy = settings.policy.clone();
        let parts = Parts::<P> {
            store: Bucket::new(cold),
            tiers: Rc::new(Tiers::new(
                warm,
                host.clone(),
                policy,
                metrics.clone(),
                ledger.clone(),
            )),
            host,
            settings: Rc::new(settings),
            metrics,
            ledger,
        };
        let grants = Rc::new(Grants::new(&parts));
        let uploads = Rc::new(Uploads::new(&parts, grants.clone()));
        let blobs = Rc::new(Blobs::new(&parts, grants.clone()));
        let manifests = Rc::new(Manifests::new(&parts, grants.clone()));
        let lists = Rc::new(Lists::new(&parts, manifests.clone()));
        let services = Services {
            grants: grants.clone(),
            uploads: uploads.clone(),
            blobs: blobs.clone(),
            manifests: manifests.clone(),
            lists: lists.clone(),
        };
        let mirror = Rc::new(Mirror::new(&parts, services));
        let inside = Inside::new(&parts, grants.clone(), blobs.clone(), mirror.clone());
        let upkeep = Upkeep::new(&parts, grants, uploads.clone(), manifests.clone());
        let readiness = Readiness::new(&parts);
        let random = parts.host.random();
        Self {
            isolate: hex::encode(random.get(..6).unwrap_or_default()),
            store: parts.store,
            host: parts.host,
            settings: parts.settings,
            metrics: parts.metrics,
            ledger: parts.ledger,
            uploads,
            blobs,
            manifests,
            lists,
            mirror,
            inside: Rc::new(inside),
            upkeep,
            readiness,
            // Leases of memory expire after the same time.
            slots: Slots::new(Ledger::LEASE),
            drained: Slots::new(DRAIN_TIMEOUT),
            requests: Cell::default(),
        }
    }

    /// The ledger of the isolate's memory, from which all large buffers are leased.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The cold tier, as it was passed to [`Registry::new`].
    pub fn store(&self) -> &P::Cold {
        self.store.store()
    }

    /// The host, as it was passed to [`Registry::new`].
    pub const fn host(&self) -> &P::Host {
        &self.host
    }

    /// Answers a request, always with a response.
    ///
    /// An error becomes a response with the JSON of the specification (distribution-spec v1.1.1,
    /// "Error Codes"). A server error is logged as well. The body of the response may be a stream
    /// that still reads from the store.
    ///
    /// The second value is the work that remains after the response, for [`Registry::finish`]. Run
    /// it while the body is sent: a mirrored blob is downloaded by that work, and its body stalls
    /// and then fails without it.
    pub async fn answer(&self, mut request: Request<P::Body>) -> (ResponseOf<P>, After<P::Bytes>) {
        let _in_flight = InFlight::enter(&self.metrics);
        let start = self.host.now();
        let number = self.requests.get();
        self.requests.set(number.wrapping_add(1));
        let id = format!("{}-{number}", self.isolate);
        let trace = Trace::default();
        let namespace = route::namespace(&request.target);
        let asked = Operation::parse(&request.method, &request.target);
        // A request that is refused for its method has an end-point and a repository too.
        let at = match &asked {
            Ok(operation) => Some(operation.clone()),
            Err(_) => Operation::at(&request.target),
        };
        let settled = at
            .clone()
            .map(|operation| self.settle(operation, namespace.as_deref()));
        let operation = match (&settled, &asked) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(operation)), Ok(_)) | (None, Ok(operation)) => Ok(operation),
        };
        let named = settled.as_ref().and_then(|settled| settled.as_ref().ok());
        let end_point = operation.ok().map(EndPoint::of);
        let about = About {
            id: &id,
            route: named.map_or("unknown", |named| EndPoint::of(named).name),
            asked: at.as_ref().and_then(Operation::repository),
            is_version: matches!(named, Some(Operation::Registry(RegistryOperation::Version))),
            repository: named
                .and_then(Operation::repository)
                .map(ToString::to_string),
            change: end_point.as_ref().and_then(|row| row.change.clone()),
            user: RefCell::default(),
            is_admitted: Cell::default(),
        };
        let sender = address_of(&request.address);
        let answer = async {
            let dispatch = self.dispatch(&mut request, operation, end_point, &about, &trace);
            let answer = dispatch.await;
            self.drain(&mut request, about.is_admitted.get()).await;
            answer
        };
        let answer = self.ledger.scope(Some(sender.into()), answer).await;
        let mut response = answer.unwrap_or_else(|error| {
            if error.status().is_server_error() {
                let message = error.message();
                let fields = [
                    ("request", about.id),
                    ("method", request.method.as_str()),
                    ("route", about.route),
                    ("error", &message),
                    ("cause", error.cause().unwrap_or_default()),
                ];
                self.host.log(Level::Error, "request failed", &fields);
            }
            respond_with_error(&error)
        });
        if request.method == Method::HEAD {
            *response.body_mut() = Body::Empty;
        }
        if about.is_version {
            // Docker reads the version from this response only.
            let version = HeaderValue::from_static("registry/2.0");
            let headers = response.headers_mut();
            headers.insert("docker-distribution-api-version", version);
        }
        describe_response(&mut response, origin(&self.settings, &request), &id, &trace);
        let namespace = namespace.filter(|_| response.status().is_success());
        // Only operations in a repository have checked the namespace: in others it may be no valid
        // header value.
        if let Some(Ok(namespace)) = namespace.as_deref().map(HeaderValue::from_str) {
            response.headers_mut().insert(OCI_NAMESPACE, namespace);
        }
        let took = self.host.now().since(start);
        self.count(&about, &request.method, &response, &trace, took);
        self.audit(&about, &request, &response);
        (response, trace.after.into_after())
    }

    /// Does the work that remains after a response: it fills mirrored blobs, renews hot values
    /// and promotes content to the warm tier, stores answers of upstreams and indexes layers.
    ///
    /// Failures are logged. A fill that fails breaks off the body that it feeds; other failures
    /// change no response.
    pub async fn finish(&self, mut rest: After<P::Bytes>) {
        let sender = rest.sender.take();
        let work = rest.take_work();
        let all = async { join(work, self.finish_after(rest)).await };
        self.ledger.scope(sender, all).await;
    }

    async fn finish_after(&self, rest: After<P::Bytes>) {
        for learnt in rest.learnt {
            if let Err(error) = self.mirror.store_learnt(learnt).await {
                log_failure(&self.host, "response of an upstream not stored", &error);
            }
        }
        for renewal in rest.renewals {
            if let Err(error) = self.renew(&renewal).await {
                log_failure(&self.host, "value not renewed", &error);
            }
        }
        for promotion in rest.promotions {
            self.manifests.promote(promotion).await;
        }
        if let Err(error) = self.inside.index_pushed(&rest.layers).await {
            log_failure(&self.host, "layers not indexed", &error);
        }
    }

    async fn renew(
        &self,
        Renewal {
            name,
            digest,
            is_link,
        }: &Renewal,
    ) -> Result<(), Error> {
        if *is_link {
            self.blobs.renew_link(name, digest).await
        } else {
            self.manifests.renew(&self.blobs, name, digest).await
        }
    }

    /// Resolves the repository of an operation: one of an upstream if the client, the name or the
    /// settings say so.
    fn settle(&self, operation: Operation, namespace: Option<&str>) -> Result<Operation, Error> {
        let Some(name) = operation.repository() else {
            return Ok(operation);
        };
        let found = self.settings.upstreams.resolve(name, namespace);
        let mirrored = found.map_err(|error| {
            Error::new(Code::NameUnknown, error.to_string())
                .with_detail(json!({ "name": name.as_str(), "ns": namespace }))
        })?;
        Ok(match mirrored {
            Some(mirrored) => operation.in_repository(mirrored.name),
            None => operation,
        })
    }

    async fn metrics(&self) -> Answer<P> {
        self.upkeep.show_inventory().await;
        self.metrics
            .count_memory(self.ledger.counted(), self.ledger.peak());
        let text = self.metrics.text().map_err(|error| {
            Error::unavailable("metrics not written", Duration::from_secs(60))
                .with_cause(error.to_string())
        })?;
        Ok(reply::upkeep::metrics(text))
    }

    /// Does the scheduled work: a step of the sweep, paused passes over layers, a step of the
    /// scrub, and the joins that the sweep found.
    ///
    /// Each step is bounded by [`Settings::subrequests`] and by time, and stores a cursor at which
    /// the next one resumes. A job that is not due does nothing. Failures are logged.
    pub async fn tick(&self) {
        let joins = match self.upkeep.sweep_due().await {
            Ok(joins) => Some(joins),
            Err(error) => {
                log_failure(&self.host, "not swept", &error);
                None
            }
        };
        if let Err(error) = self.inside.advance_passes().await {
            log_failure(&self.host, "layers not indexed", &error);
        }
        if let Err(error) = self.upkeep.scrub_due().await {
            log_failure(&self.host, "not scrubbed", &error);
        }
        // The joins are last: they may take longer than the platform allows.
        if let Some(joins) = joins {
            self.upkeep.join_all(joins).await;
        }
    }
}

/// Counts a request while it is being answered, however that ends.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// The sender that is charged for a request without credentials.
fn address_of(address: &str) -> String {
    format!("{STRANGER}{}", network(address))
}
