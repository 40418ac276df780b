//! The registry: a request and stores in, a response out.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    rc::Rc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use crate::{
    access::{Caller, Need, Visit, cross_site, network, rule::Action},
    digest::Digest,
    end_point::{Change, EndPoint},
    error::{Code, Error},
    host::{Host, Level},
    ledger::{Full, Ledger, STRANGER},
    metrics::{self, Metrics},
    name::{Name, Reference},
    registry::{
        layer::Progress,
        stack::{Blocks, Indexes},
        uploads::Uploads,
        upstream::Acquaintance,
    },
    route::{self, InRepository, Operation},
    settings::{Log, Settings},
    store::{
        Bytes as _, StoreError, Streams, Values,
        bucket::Bucket,
        flight::Flights,
        policy::Tier,
        tiers::Tiers,
        trace::{Rest, Trace},
    },
    time::Timestamp,
};

mod audit;
mod blob;
mod delete;
mod file;
mod fill;
mod grant;
mod holders;
mod layer;
mod list;
mod manifest;
mod mirrored;
mod promote;
mod rights;
mod stack;
mod sweep;
mod token;
mod upload;
mod uploads;
mod upstream;

/// The digest of what a response is about.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Which request a response is to, in its header and in the log.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The tier that gave what a response is made of.
const X_STRATA_TIER: HeaderName = HeaderName::from_static("x-strata-tier");
/// Which tiers were asked, and how long they took.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Which origins may load a response (Fetch, section 3.7).
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Which upstream an answer is from, to a client that named one.
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// Why what is stored was served, where an upstream should have been asked again.
const X_STRATA_STALE: HeaderName = HeaderName::from_static("x-strata-stale");

/// A registry over a store, with tiers before it.
#[derive(Debug)]
pub struct Registry<S, W: Values, H> {
    store: Bucket<S>,
    tiers: Rc<Tiers<W, H>>,
    host: H,
    settings: Rc<Settings>,
    metrics: Rc<Metrics>,
    passes: Rc<Flights<Progress>>,
    /// Blocks of tables of contents, for all requests together.
    blocks: Rc<Blocks>,
    /// Indexes of layers that requests have open, for all of them together.
    indexes: Rc<Indexes<W::Bytes>>,
    /// The bodies that are being taken, by who sends them.
    uploads: Rc<Uploads>,
    /// Who holds how much of the isolate's memory.
    ledger: Ledger,
    /// What is known of upstreams.
    acquaintance: Rc<Acquaintance<W::Bytes>>,
    /// What the requests of this isolate are numbered with.
    isolate: Rc<str>,
    requests: Rc<Cell<u64>>,
}

/// Clones are the same registry: a reply that is made while it is read takes one along.
impl<S, W: Values, H: Clone> Clone for Registry<S, W, H> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            tiers: self.tiers.clone(),
            host: self.host.clone(),
            settings: self.settings.clone(),
            metrics: self.metrics.clone(),
            passes: self.passes.clone(),
            blocks: self.blocks.clone(),
            indexes: self.indexes.clone(),
            uploads: self.uploads.clone(),
            ledger: self.ledger.clone(),
            acquaintance: self.acquaintance.clone(),
            isolate: self.isolate.clone(),
            requests: self.requests.clone(),
        }
    }
}

/// A request as the core needs it.
#[derive(Debug)]
pub struct Request<B> {
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// How the client reached the registry, as `https://registry.example.com`.
    pub origin: String,
    /// The address that it comes from, as text; empty where that is not known.
    pub address: String,
    /// The headers; of those that a client may send, only [`HEADERS`] are looked at.
    pub headers: HeaderMap,
    /// The body, where there is one.
    pub body: Option<B>,
}

impl<B> Request<B> {
    /// Whether it says who makes it.
    fn is_signed(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION)
    }
}

/// The headers that the core looks at.
pub const HEADERS: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::ORIGIN,
    header::RANGE,
    cross_site::SEC_FETCH_SITE,
];

/// The body of a response.
#[derive(Debug)]
pub enum Body<S: Streams> {
    /// None. A `Content-Length` is that of the same request made by `GET`.
    Empty,
    /// Bytes that are in memory.
    Bytes(Vec<u8>),
    /// Bytes that are in the platform's memory.
    Held(S::Bytes),
    /// A stream, handed on untouched.
    Stream(S::Body),
}

type Answer<S> = Result<Response<Body<S>>, Error>;

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Registry<S, W, H> {
    /// Makes a registry of its parts: the cold store, the warm one, and what counts their operations and the rest.
    pub fn new(store: S, warm: W, host: H, settings: Settings, metrics: Rc<Metrics>) -> Self {
        let policy = settings.policy.clone();
        Self {
            store: Bucket::new(store),
            tiers: Rc::new(Tiers::new(warm, host.clone(), policy, metrics.clone())),
            isolate: host
                .random()
                .iter()
                .take(6)
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
            host,
            settings: Rc::new(settings),
            metrics,
            passes: Rc::default(),
            blocks: Rc::default(),
            indexes: Rc::default(),
            uploads: Rc::default(),
            ledger: Ledger::default(),
            acquaintance: Rc::default(),
            requests: Rc::default(),
        }
    }

    /// Draws from this ledger, which others in the isolate share.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = ledger;
        self
    }

    /// The ledger of the isolate's memory.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The host.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// Answers a request. There is always an answer; where it is an error that is not the client's, it is logged. What is
    /// left to do after it is for [`Registry::finish`].
    pub async fn answer(
        &self,
        mut request: Request<S::Body>,
    ) -> (Response<Body<S>>, Rest<S::Bytes>) {
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
        describe_response(&mut response, self.origin(&request), &id, &trace);
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
    pub async fn finish(&self, mut rest: Rest<S::Bytes>) {
        let sender = rest.sender.take();
        self.ledger.scope(sender, self.finish_rest(rest)).await;
    }

    async fn finish_rest(&self, mut rest: Rest<S::Bytes>) {
        rest.work().await;
        for learnt in rest.learnt {
            if let Err(error) = self.store_learnt(learnt).await {
                self.log_failure("what an upstream said is not stored", &error);
            }
        }
        for promotion in rest.promotions {
            self.promote(promotion).await;
        }
        if let Err(error) = self.index_pushed(&rest.layers).await {
            self.log_failure("layers not indexed", &error);
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
        response: &Response<Body<S>>,
        trace: &Trace<S::Bytes>,
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

    async fn metrics(&self) -> Answer<S> {
        self.show_inventory().await;
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
        if let Err(error) = self.sweep_due().await {
            self.log_failure("not swept", &error);
        }
        if let Err(error) = self.advance_passes().await {
            self.log_failure("layers not indexed", &error);
        }
        // The last: what it reads may take longer than the platform allows.
        if let Err(error) = self.scrub_due().await {
            self.log_failure("not scrubbed", &error);
        }
    }

    fn log_failure(&self, what: &'static str, error: &Error) {
        let message = error.message();
        let fields = [
            ("error", &*message),
            ("cause", error.cause().unwrap_or_default()),
        ];
        self.host.log(Level::Error, what, &fields);
    }

    /// Lets a request in, and has it answered.
    async fn dispatch(
        &self,
        request: &mut Request<S::Body>,
        operation: Result<&Operation, &Error>,
        end_point: Option<EndPoint<'_>>,
        about: &About<'_>,
        trace: &Trace<S::Bytes>,
    ) -> Answer<S> {
        require_lengths(request)?;
        self.require_own_site(request, end_point.as_ref())?;
        if let Ok(Operation::IssueToken { scopes }) = operation {
            return self.token(request, scopes, about).await;
        }
        // A path or a method that there is none of needs no more than to be let in.
        let need = end_point.map_or(Need::Entry, |row| row.need);
        let access = &self.settings.access;
        let caller = access
            .identify(self.visit(request), need, &self.host)
            .await?;
        about.made_by(&caller);
        let sender = match caller.user() {
            Some(user) => format!("user {user}"),
            None => address_of(&request.address),
        };
        self.ledger.charge(Some(sender.as_str().into()));
        trace.charge(self.ledger.sender());
        access.permit(&caller, need, self.visit(request))?;
        if let Need::Repository(name, Action::Push | Action::Delete) = need
            && let Some(mirrored) = self.mirrored(name)
        {
            let upstream = mirrored.upstream.name();
            let found = format!("{name} is mirrored from {upstream}, push to and delete from that");
            return Err(Error::new(Code::Unsupported, found)
                .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        let _taken = match (need, &request.body) {
            (Need::Repository(..), Some(_)) => {
                Some(self.uploads.take(sender, self.settings.uploads)?)
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
    async fn dispatch_registry(&self, operation: &Operation, caller: &Caller) -> Answer<S> {
        match operation {
            Operation::ShowMetrics => self.metrics().await,
            Operation::ListExtensions => Ok(file::extensions()),
            Operation::ListRepositories { limit, last } => {
                self.list_repositories(caller, *limit, last.as_ref()).await
            }
            Operation::Sweep {
                is_dry,
                max,
                cursor,
            } => self.sweep_on_demand(*is_dry, *max, cursor.as_deref()).await,
            Operation::Scrub {
                is_dry,
                digest,
                cursor,
            } => {
                self.scrub_on_demand(*is_dry, digest.as_ref(), cursor.as_deref())
                    .await
            }
            Operation::ListHolders(digest) => self.blob_holders(digest).await,
            Operation::ListDoubtfulRights { cursor } => {
                self.doubtful_rights(cursor.as_deref()).await
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
        request: &mut Request<S::Body>,
        operation: &InRepository,
        Of {
            caller,
            name,
            asked,
            trace,
        }: Of<'_, S::Bytes>,
    ) -> Answer<S> {
        use InRepository as In;
        let called = || list::Called::of(&request.target, asked);
        match operation {
            In::PullBlob(digest) => self.pull_blob(request, name, digest, trace).await,
            In::DeleteBlob(digest) => self.delete_blob(name, digest).await,
            In::PullManifest(reference) => {
                self.pull_manifest(request, name, reference, trace).await
            }
            In::PushManifest { reference, tags } => {
                self.push_manifest(request, caller, name, reference, tags, trace)
                    .await
            }
            In::DeleteManifest(Reference::Digest(digest)) => {
                self.delete_manifest(caller, name, digest).await
            }
            In::DeleteManifest(Reference::Tag(tag)) => self.delete_tag(caller, name, tag).await,
            In::StartUpload(start) => self.start_upload(request, caller, name, start).await,
            In::ShowUpload(id) => self.upload_status(name, *id).await,
            In::PushChunk { id, step } => self.push_chunk(request, name, *id, *step).await,
            In::CloseUpload { id, step, digest } => {
                self.close_upload(request, name, *id, *step, digest.as_ref())
                    .await
            }
            In::CancelUpload(id) => self.cancel_upload(name, *id).await,
            In::ListTags { limit, last } => {
                self.list_tags(&called(), name, *limit, last.as_ref(), trace)
                    .await
            }
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
                self.list_referrers(&called(), name, &wanted, trace).await
            }
            In::ListLayer {
                digest,
                prefix,
                page,
            } => {
                self.layer_contents(request, name, digest, prefix, page, trace)
                    .await
            }
            In::ReadLayerFile { digest, path, page } => {
                self.layer_file(request, name, digest, path, page, trace)
                    .await
            }
            In::ReadImageFile {
                reference,
                platform,
                path,
                page,
            } => {
                let platform = platform.as_deref();
                let image = file::ImageOf {
                    name,
                    reference,
                    platform,
                };
                self.image_file(request, &image, path, page, trace).await
            }
            In::Invalidate { tag } => self.invalidate(name, tag.as_ref()).await,
        }
    }

    /// Refuses a request that a page of another site caused, unless it only reads what is stored here.
    fn require_own_site(
        &self,
        request: &Request<S::Body>,
        end_point: Option<&EndPoint<'_>>,
    ) -> Result<(), Error> {
        let Some(found) = cross_site::foreign(&request.headers, self.origin(request)) else {
            return Ok(());
        };
        let is_open = end_point.is_none_or(|row| {
            let is_mirrored = match row.need {
                Need::Repository(name, _) => self.mirrored(name).is_some(),
                _ => false,
            };
            row.effect.is_open(is_mirrored)
        });
        if request.method.is_safe() && is_open {
            return Ok(());
        }
        Err(found.into())
    }

    /// Starts the clock of an operation that must not go on for longer than half the grace period.
    fn bound(&self) -> Bound {
        Bound {
            start: self.host.now(),
            limit: self.settings.grace / 2,
        }
    }

    fn nonce(&self) -> String {
        hex::encode(self.host.random())
    }

    /// What a request says of who makes it.
    fn visit<'a>(&'a self, request: &'a Request<S::Body>) -> Visit<'a> {
        Visit {
            authorization: text(&request.headers, header::AUTHORIZATION),
            address: &request.address,
            origin: self.origin(request),
        }
    }

    /// How clients reach the registry.
    fn origin<'a>(&'a self, request: &'a Request<S::Body>) -> &'a str {
        self.settings.origin.as_deref().unwrap_or(&request.origin)
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

/// Headers that every response has.
fn describe_response<S: Streams>(
    response: &mut Response<Body<S>>,
    origin: &str,
    id: &str,
    trace: &Trace<S::Bytes>,
) {
    let is_bare = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let headers = response.headers_mut();
    if !is_bare {
        // The platform compresses a reply without a type, an empty one as well, and drops its length.
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/octet-stream"));
    }
    harden(headers);
    if origin.starts_with("https:") {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    headers.insert(X_REQUEST_ID, value(id));
    if let Some(tier) = trace.tier() {
        headers.insert(X_STRATA_TIER, HeaderValue::from_static(tier.name()));
        headers.insert(SERVER_TIMING, value(&trace.server_timing()));
    }
    if let Some(reason) = trace.stale.get() {
        headers.insert(X_STRATA_STALE, HeaderValue::from_static(reason));
        // RFC 7234, section 5.5.1.
        let warning = HeaderValue::from_static("110 strata \"Response is Stale\"");
        headers.insert(header::WARNING, warning);
    }
}

/// Keeps a browser from running, styling with, embedding or guessing the type of a reply. The bytes of blobs, manifests and
/// files are anybody's, and the page that shows them has the same origin.
fn harden(headers: &mut HeaderMap) {
    const HARDENING: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ];
    for (name, text) in HARDENING {
        headers.insert(name, HeaderValue::from_static(text));
    }
}

/// The answer to every request while the registry can't be set up.
pub fn refuse<S: Streams>(error: &impl fmt::Display) -> Response<Body<S>> {
    let error = Error::unavailable(error.to_string(), Duration::from_secs(60));
    let mut response = respond_with_error(&error);
    harden(response.headers_mut());
    response
}

/// BOUND of the removal protocol: an operation starts no further write once half the grace period has passed since its
/// first, because from then on a sweeper may take what it wrote for abandoned.
#[derive(Clone, Copy, Debug)]
struct Bound {
    start: Timestamp,
    limit: Duration,
}

impl Bound {
    fn check(self, host: &impl Host) -> Result<(), Error> {
        if host.now().since(self.start) < self.limit {
            Ok(())
        } else {
            Err(Error::unavailable(
                "this push took longer than half the grace period, start it again",
                RETRY_AFTER,
            ))
        }
    }
}

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How soon a request that found no memory may be repeated.
const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::unavailable(full.to_string(), MEMORY_RETRY_AFTER)
    }
}

/// The sender that is charged for a request without credentials.
fn address_of(address: &str) -> String {
    format!("{STRANGER}{}", network(address))
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Digest => Self::new(
                Code::DigestInvalid,
                "the bytes received have another digest",
            ),
            StoreError::Length => Self::new(
                Code::SizeInvalid,
                "the body ended before or after its announced length",
            ),
            StoreError::Busy => Self::unavailable(
                "no memory is free for this body while other uploads use it, try again",
                MEMORY_RETRY_AFTER,
            ),
            StoreError::Throttled(cause) => {
                Self::unavailable("the store asks for fewer requests, try again", RETRY_AFTER)
                    .with_cause(cause)
            }
            StoreError::Failed(cause) => Self::unavailable(
                "the store did not do what it was asked, try again",
                RETRY_AFTER,
            )
            .with_cause(cause),
        }
    }
}

/// How many store operations of one request run at the same time: the platform lets six wait for their headers.
const CONCURRENCY: usize = 6;

/// Runs an operation for each item, several at a time, and answers their results in no particular order; the first
/// failure ends it.
async fn for_each<T, R, F: Future<Output = Result<R, Error>>>(
    items: impl IntoIterator<Item = T>,
    operation: impl FnMut(T) -> F,
) -> Result<Vec<R>, Error> {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    futures_util::stream::iter(items)
        .map(operation)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

fn respond_with_error<S: Streams>(error: &Error) -> Response<Body<S>> {
    let mut response = respond_with_json(error.status(), error.body());
    for (name, value) in error.headers() {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn respond_with_json<S: Streams>(status: StatusCode, bytes: Vec<u8>) -> Response<Body<S>> {
    let mut response = respond(status);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *response.body_mut() = Body::Bytes(bytes);
    response
}

fn respond<S: Streams>(status: StatusCode) -> Response<Body<S>> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// A response that says where something is, with no body.
fn respond_with_location<S: Streams>(
    status: StatusCode,
    location: &str,
    digest: Option<&Digest>,
) -> Response<Body<S>> {
    let mut response = respond(status);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    if let Some(digest) = digest {
        headers.insert(DOCKER_CONTENT_DIGEST, value(&digest.to_string()));
    }
    response
}

/// A header of the request, where it is text.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A header of a response. What is put there was parsed or made here and is printable ASCII; but for a media type, which a
/// client may have made of anything and which is then left empty.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| text.is_ascii())
        .unwrap_or_else(|| HeaderValue::from_static(""))
}

/// Headers of content that is named by its digest and so never changes.
fn describe_content(headers: &mut HeaderMap, digest: &Digest, media_type: &str) {
    headers.insert(header::CONTENT_TYPE, value(media_type));
    if !is_json(media_type) {
        // A browser that opens it by its address saves it, whatever its type would make of it.
        let attachment = HeaderValue::from_static("attachment");
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    headers.insert(DOCKER_CONTENT_DIGEST, value(&digest.to_string()));
    headers.insert(header::ETAG, value(&format!("\"{digest}\"")));
}

/// Whether a media type is JSON, which a browser shows as text. The type of a manifest is its author's text: of a list of
/// types a browser would believe another one than the last.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_one = essence
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte));
    let essence = essence.to_ascii_lowercase();
    is_one && (essence == "application/json" || essence.ends_with("+json"))
}

/// Whether `If-None-Match` names this content (RFC 9110, section 13.1.2).
fn is_unchanged(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = format!("\"{digest}\"");
    text(headers, header::IF_NONE_MATCH).is_some_and(|value| {
        value
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}
