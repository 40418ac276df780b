//! The registry: a request and stores in, a response out.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::{
    access::{Caller, Need, cross_site, network, rule::Action},
    end_point::{Change, EndPoint},
    error::{Code, Error, RETRY_AFTER},
    host::{Host as _, Level},
    ledger::{Ledger, STRANGER},
    metrics::{self, Metrics},
    name::{Name, Reference},
    platform::Platform,
    registry::{
        blob::Blobs,
        grant::Grants,
        inside::Inside,
        list::Lists,
        manifest::Manifests,
        mirror::{Mirror, Services},
        parts::Parts,
        reply::{
            Answer, OCI_NAMESPACE, ResponseOf, describe_response, log_failure, respond,
            respond_with_error, respond_with_json, value,
        },
        request::text,
        slots::Slots,
        upkeep::Upkeep,
        upload::Uploads,
        visit::{origin, visit},
    },
    route::{self, InRepository, Operation},
    settings::{Log, Settings},
    store::{
        Bytes as _, Streams as _,
        bucket::Bucket,
        policy::Tier,
        tiers::Tiers,
        trace::{Rest, Trace},
    },
};

pub use self::{
    reply::{Body, refuse},
    request::{HEADERS, Request},
};

mod audit;
mod blob;
mod bound;
mod grant;
mod inside;
mod list;
mod manifest;
mod mirror;
mod parts;
mod reply;
mod request;
mod slots;
mod token;
mod upkeep;
mod upload;
mod visit;

/// A registry: authenticates requests, calls the service of each operation, and describes the
/// response.
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
    slots: Rc<Slots>,
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
    /// Makes a registry with a ledger of its own.
    pub fn new(
        cold: P::Cold,
        warm: P::Warm,
        host: P::Host,
        settings: Settings,
        metrics: Rc<Metrics>,
    ) -> Self {
        Self::with_ledger(cold, warm, host, settings, metrics, Ledger::default())
    }

    /// Makes a registry that draws from a ledger which others in the isolate share.
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
            tiers: Rc::new(Tiers::new(warm, host.clone(), policy, metrics.clone())),
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
            slots: Rc::default(),
            requests: Cell::default(),
        }
    }

    /// The ledger of the isolate's memory.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The store.
    pub fn store(&self) -> &P::Cold {
        &self.store
    }

    /// The host.
    pub const fn host(&self) -> &P::Host {
        &self.host
    }

    /// Answers a request. There is always an answer; where it is an error that is not the client's, it is logged. What is
    /// left to do after it is for [`Registry::finish`].
    pub async fn answer(&self, mut request: Request<P::Body>) -> (ResponseOf<P>, Rest<P::Bytes>) {
        let _in_flight = InFlight::enter(&self.metrics);
        let start = self.host.now();
        let number = self.requests.get();
        self.requests.set(number.wrapping_add(1));
        let id = format!("{}-{number}", self.isolate);
        let trace = Trace::default();
        let namespace = route::namespace(&request.target);
        let asked = Operation::parse(&request.method, &request.target);
        // A request that is refused for its method has an end-point and a repository, too.
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
            is_version: matches!(named, Some(Operation::Version)),
            repository: named
                .and_then(Operation::repository)
                .map(ToString::to_string),
            change: end_point.as_ref().and_then(|row| row.change.clone()),
            user: RefCell::default(),
        };
        let sender = address_of(&request.address);
        let dispatch = self.dispatch(&mut request, operation, end_point, &about, &trace);
        let answer = self.ledger.scope(Some(sender.into()), dispatch).await;
        if let Some(body) = request.body.take() {
            self.store.discard(body).await;
        }
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
            // Docker asks this one, and believes no other.
            let version = HeaderValue::from_static("registry/2.0");
            let headers = response.headers_mut();
            headers.insert("docker-distribution-api-version", version);
        }
        describe_response(&mut response, origin(&self.settings, &request), &id, &trace);
        if let Some(namespace) = namespace
            .as_deref()
            .filter(|_| response.status().is_success())
        {
            response
                .headers_mut()
                .insert(OCI_NAMESPACE, value(namespace));
        }
        let took = self.host.now().since(start);
        self.count(&about, &request.method, &response, &trace, took);
        self.audit(&about, &request, &response);
        (response, trace.into_rest())
    }

    /// Does what is left to do after a reply.
    pub async fn finish(&self, mut rest: Rest<P::Bytes>) {
        let sender = rest.sender.take();
        self.ledger.scope(sender, self.finish_rest(rest)).await;
    }

    async fn finish_rest(&self, mut rest: Rest<P::Bytes>) {
        rest.work().await;
        for learnt in rest.learnt {
            if let Err(error) = self.mirror.store_learnt(learnt).await {
                log_failure(&self.host, "what an upstream said is not stored", &error);
            }
        }
        for promotion in rest.promotions {
            self.manifests.promote(promotion).await;
        }
        if let Err(error) = self.inside.index_pushed(&rest.layers).await {
            log_failure(&self.host, "layers not indexed", &error);
        }
    }

    /// Finds the repository that is meant: of an upstream, where the client, the name or the settings say so.
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

    /// Counts a request that was answered, and tells the log of it.
    fn count(
        &self,
        about: &About<'_>,
        method: &Method,
        response: &ResponseOf<P>,
        trace: &Trace<P::Bytes>,
        took: Duration,
    ) {
        let status = response.status();
        let sent = match response.body() {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Held(bytes) => bytes.len(),
            Body::Stream(_) => text(response.headers(), header::CONTENT_LENGTH)
                .and_then(|length| length.parse().ok())
                .unwrap_or_default(),
        };
        // A method that no end-point has is the client's word, and counters are not for those.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        self.metrics.sent.inc_by(sent);
        self.metrics
            .answered(about.route, method, status.as_str(), took.as_secs_f64());
        if self.settings.log == Log::Requests {
            let fields = [
                ("request", about.id),
                ("user", &about.user.borrow()),
                ("method", method),
                ("route", about.route),
                (
                    "repository",
                    about.repository.as_deref().unwrap_or_default(),
                ),
                ("status", status.as_str()),
                ("tier", trace.tier().map_or("", Tier::name)),
                ("milliseconds", &took.as_millis().to_string()),
                ("bytes", &sent.to_string()),
            ];
            self.host.log(Level::Info, "request", &fields);
        }
    }

    async fn metrics(&self) -> Answer<P> {
        self.upkeep.show_inventory().await;
        let text = self.metrics.text().map_err(|error| {
            Error::unavailable("the metrics can't be written", Duration::from_secs(60))
                .with_cause(error.to_string())
        })?;
        let mut response = respond(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, value(metrics::MEDIA_TYPE));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        *response.body_mut() = Body::Bytes(text);
        Ok(response)
    }

    /// Does what is due by the clock: a step of the sweep, passes over layers that were paused, a step of the scrub. What fails is logged.
    pub async fn tick(&self) {
        if let Err(error) = self.upkeep.sweep_due().await {
            log_failure(&self.host, "not swept", &error);
        }
        if let Err(error) = self.inside.advance_passes().await {
            log_failure(&self.host, "layers not indexed", &error);
        }
        // The last: what it reads may take longer than the platform allows.
        if let Err(error) = self.upkeep.scrub_due().await {
            log_failure(&self.host, "not scrubbed", &error);
        }
    }

    /// Lets a request in, and has it answered.
    async fn dispatch(
        &self,
        request: &mut Request<P::Body>,
        operation: Result<&Operation, &Error>,
        end_point: Option<EndPoint<'_>>,
        about: &About<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        require_lengths(request)?;
        self.require_own_site(request, end_point.as_ref())?;
        if let Ok(Operation::IssueToken { scopes }) = operation {
            return self.token(request, scopes, about).await;
        }
        // A path or a method that there is none of needs no more than to be let in.
        let need = end_point.map_or(Need::Entry, |row| row.need);
        let access = &self.settings.access;
        let caller = access
            .identify(visit(&self.settings, request), need, &self.host)
            .await?;
        about.made_by(&caller);
        let sender = match caller.user() {
            Some(user) => format!("user {user}"),
            None => address_of(&request.address),
        };
        self.ledger.charge(Some(sender.as_str().into()));
        trace.charge(self.ledger.sender());
        access.permit(&caller, need, visit(&self.settings, request))?;
        if let Need::Repository(name, Action::Push | Action::Delete) = need
            && let Some(mirrored) = self.settings.upstreams.mirrored(name)
        {
            let upstream = mirrored.upstream.name();
            let found = format!("{name} is mirrored from {upstream}, push to and delete from that");
            return Err(Error::new(Code::Unsupported, found)
                .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        let _taken = match (need, &request.body) {
            (Need::Repository(..), Some(_)) => {
                Some(self.slots.take(sender, self.settings.uploads)?)
            }
            _ => None,
        };
        if let Need::Repository(name, _) = need {
            // Who may push may have pushed a moment ago, through another isolate.
            let pushes = access.may(&caller, name, Action::Push);
            trace.believes_absence.set(!pushes);
        }
        match operation.map_err(Error::clone)? {
            Operation::In(name, operation) => {
                let asked = about.asked.unwrap_or(name);
                let of = Of {
                    caller: &caller,
                    name,
                    asked,
                    trace,
                };
                self.dispatch_in(request, operation, of).await
            }
            of_registry => self.dispatch_registry(of_registry, &caller).await,
        }
    }

    /// Answers a request to an end-point of the registry.
    async fn dispatch_registry(&self, operation: &Operation, caller: &Caller) -> Answer<P> {
        match operation {
            Operation::ShowMetrics => self.metrics().await,
            Operation::ListExtensions => Ok(inside::file::extensions()),
            Operation::ListRepositories { limit, last } => {
                self.lists
                    .list_repositories(caller, *limit, last.as_ref())
                    .await
            }
            Operation::Sweep {
                is_dry,
                max,
                cursor,
            } => {
                self.upkeep
                    .sweep_on_demand(*is_dry, *max, cursor.as_deref())
                    .await
            }
            Operation::Scrub {
                is_dry,
                digest,
                cursor,
            } => {
                self.upkeep
                    .scrub_on_demand(*is_dry, digest.as_ref(), cursor.as_deref())
                    .await
            }
            Operation::ListHolders(digest) => self.upkeep.blob_holders(digest).await,
            Operation::ListDoubtfulRights { cursor } => {
                self.upkeep.doubtful_rights(cursor.as_deref()).await
            }
            Operation::Version => Ok(respond_with_json(StatusCode::OK, b"{}".to_vec())),
            Operation::IssueToken { .. } | Operation::In(..) => {
                let found = "this end-point is not the registry's own";
                Err(Error::unavailable(found, RETRY_AFTER))
            }
        }
    }

    /// Answers a request to an end-point of a repository.
    async fn dispatch_in(
        &self,
        request: &mut Request<P::Body>,
        operation: &InRepository,
        Of {
            caller,
            name,
            asked,
            trace,
        }: Of<'_, P::Bytes>,
    ) -> Answer<P> {
        use InRepository as In;
        let called = || list::Called::of(&request.target, asked);
        let mirrored = self.settings.upstreams.mirrored(name);
        match operation {
            In::PullBlob(digest) => {
                let stored = self.blobs.pull(request, name, digest, trace).await?;
                match (stored, mirrored) {
                    (Some(response), _) => Ok(response),
                    (None, Some(mirrored)) => {
                        self.mirror.pull(request, &mirrored, digest, trace).await
                    }
                    (None, None) => Err(Error::blob_unknown(name, digest)),
                }
            }
            In::DeleteBlob(digest) => self.blobs.delete(name, digest).await,
            In::PullManifest(reference) => {
                let read = self.mirror.read_manifest(name, reference, trace);
                let (digest, content) = read.await?;
                Ok(self
                    .manifests
                    .respond(request, reference, &digest, &content))
            }
            In::PushManifest { reference, tags } => {
                self.manifests
                    .push_manifest(request, caller, name, reference, tags, trace)
                    .await
            }
            In::DeleteManifest(Reference::Digest(digest)) => {
                self.manifests.delete_manifest(caller, name, digest).await
            }
            In::DeleteManifest(Reference::Tag(tag)) => {
                self.manifests.delete_tag(caller, name, tag).await
            }
            In::StartUpload(start) => {
                self.uploads
                    .start_upload(request, caller, name, start)
                    .await
            }
            In::ShowUpload(id) => self.uploads.upload_status(name, *id).await,
            In::PushChunk { id, step } => self.uploads.push_chunk(request, name, *id, *step).await,
            In::CloseUpload { id, step, digest } => {
                self.uploads
                    .close_upload(request, name, *id, *step, digest.as_ref())
                    .await
            }
            In::CancelUpload(id) => self.uploads.cancel_upload(name, *id).await,
            In::ListTags { limit, last } => match mirrored {
                Some(mirrored) => {
                    self.mirror
                        .list_mirrored_tags(&mirrored, &called(), *limit, last.as_ref(), trace)
                        .await
                }
                None => {
                    self.lists
                        .list_tags(&called(), name, *limit, last.as_ref())
                        .await
                }
            },
            In::ListReferrers {
                subject,
                artifact_type,
                limit,
                last,
            } => {
                let wanted = list::WantedReferrers {
                    subject,
                    artifact_type: artifact_type.as_deref(),
                    limit: *limit,
                    last: last.as_ref(),
                };
                match mirrored {
                    Some(mirrored) => {
                        self.mirror
                            .list_mirrored_referrers(&mirrored, &called(), &wanted, trace)
                            .await
                    }
                    None => self.lists.list_referrers(&called(), name, &wanted).await,
                }
            }
            In::ListLayer {
                digest,
                prefix,
                page,
            } => {
                self.inside
                    .layer_contents(request, name, digest, prefix, page, trace)
                    .await
            }
            In::ReadLayerFile { digest, path, page } => {
                self.inside
                    .layer_file(request, name, digest, path, page, trace)
                    .await
            }
            In::ReadImageFile {
                reference,
                platform,
                path,
                page,
            } => {
                let platform = platform.as_deref();
                let image = inside::file::ImageOf {
                    name,
                    reference,
                    platform,
                };
                self.inside
                    .image_file(request, &image, path, page, trace)
                    .await
            }
            In::Invalidate { tag } => self.mirror.invalidate(name, tag.as_ref()).await,
        }
    }

    /// Refuses a request that a page of another site caused, unless it only reads what is stored here.
    fn require_own_site(
        &self,
        request: &Request<P::Body>,
        end_point: Option<&EndPoint<'_>>,
    ) -> Result<(), Error> {
        let Some(found) = cross_site::foreign(&request.headers, origin(&self.settings, request))
        else {
            return Ok(());
        };
        let is_open = end_point.is_none_or(|row| {
            let is_mirrored = match row.need {
                Need::Repository(name, _) => self.settings.upstreams.mirrored(name).is_some(),
                _ => false,
            };
            row.effect.is_open(is_mirrored)
        });
        if request.method.is_safe() && is_open {
            return Ok(());
        }
        Err(found.into())
    }
}

/// The repository that a request is about, and who makes it.
struct Of<'a, B> {
    caller: &'a Caller,
    name: &'a Name,
    /// The name by which the client asked for the repository.
    asked: &'a Name,
    trace: &'a Trace<B>,
}

/// What the log and the metrics say a request is about.
struct About<'a> {
    id: &'a str,
    route: &'static str,
    /// The name by which the client asked for the repository.
    asked: Option<&'a Name>,
    /// Whether it asks whether this is a registry, as every client does first.
    is_version: bool,
    repository: Option<String>,
    /// What it changes, if it succeeds.
    change: Option<Change>,
    /// Who makes it; empty for who did not sign in.
    user: RefCell<String>,
}

impl About<'_> {
    fn made_by(&self, caller: &Caller) {
        self.user
            .replace(caller.user().unwrap_or_default().to_owned());
    }
}

/// The most bytes of a path with its query.
const MAX_TARGET: usize = 8 * 1024;

/// The most bytes of a header: a token for many repositories fits.
const MAX_HEADER: usize = 16 * 1024;

fn require_lengths<B>(request: &Request<B>) -> Result<(), Error> {
    if request.target.len() > MAX_TARGET {
        let found = format!(
            "path and query have {} bytes, at most {MAX_TARGET} are taken",
            request.target.len()
        );
        return Err(Error::new(Code::Unsupported, found).with_status(StatusCode::URI_TOO_LONG));
    }
    match request
        .headers
        .iter()
        .find(|(_, value)| value.len() > MAX_HEADER)
    {
        Some((name, value)) => {
            let found = format!(
                "header {name} has {} bytes, at most {MAX_HEADER} are taken",
                value.len()
            );
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            Err(Error::new(Code::Unsupported, found).with_status(status))
        }
        None => Ok(()),
    }
}

/// Counts a request for as long as it is being answered, however that ends.
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
