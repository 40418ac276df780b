//! Dispatch: a request is let in, and its operation answered by a service.

use http::{HeaderValue, StatusCode, header};

use crate::{
    access::{Caller, Need, cross_site, rule::Action},
    digest::Digest,
    end_point::EndPoint,
    error::{Code, Error, RETRY_AFTER},
    name::{Name, Reference},
    platform::Platform,
    registry::{
        Registry,
        about::About,
        address_of,
        inside::{extensions::extensions, image::ImageOf},
        list::{Called, WantedReferrers},
        manifest::push::Names,
        readiness::healthy,
        reply::{Answer, respond_with_json},
        request::Request,
        visit::{origin, visit},
    },
    route::{InRepository, Operation},
    store::trace::Trace,
};

/// The repository that a request is about, and who makes it.
#[derive(Clone, Copy)]
struct Of<'a, B> {
    caller: &'a Caller,
    name: &'a Name,
    /// The name by which the client asked for the repository.
    asked: &'a Name,
    trace: &'a Trace<B>,
}

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

/// An operation that came to the wrong part of the dispatch: an error of this registry.
fn misdirected() -> Error {
    Error::unavailable("the request was not dispatched", RETRY_AFTER)
}

/// The most bytes of a path with its query.
const MAX_TARGET: usize = 8 * 1024;

/// The most bytes of a header: a token for many repositories fits.
const MAX_HEADER: usize = 16 * 1024;

impl<P: Platform> Registry<P> {
    /// Lets a request in, and has it answered.
    pub(super) async fn dispatch(
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
        trace.after.charge(self.ledger.sender());
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
            Operation::CheckHealth => Ok(healthy()),
            Operation::CheckReadiness => self.readiness.check().await.map(|()| healthy()),
            Operation::ListExtensions => Ok(extensions()),
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
            Operation::IssueToken { .. } | Operation::In(..) => Err(misdirected()),
        }
    }

    /// Answers a request to an end-point of a repository.
    async fn dispatch_in(
        &self,
        request: &mut Request<P::Body>,
        operation: &InRepository,
        of: Of<'_, P::Bytes>,
    ) -> Answer<P> {
        use InRepository as In;
        let Of {
            caller,
            name,
            trace,
            ..
        } = of;
        let (uploads, manifests) = (&self.uploads, &self.manifests);
        match operation {
            In::PullBlob(digest) => self.pull_blob(request, name, digest, trace).await,
            In::DeleteBlob(digest) => self.blobs.delete(name, digest).await,
            In::PullManifest(reference) => {
                let read = self.mirror.read_manifest(name, reference, trace);
                let (digest, content) = read.await?;
                Ok(manifests.respond(request, reference, &digest, &content))
            }
            In::PushManifest { reference, tags } => {
                let names = Names { reference, tags };
                manifests.push(request, caller, name, names, trace).await
            }
            In::DeleteManifest(Reference::Digest(digest)) => {
                manifests.delete_manifest(caller, name, digest).await
            }
            In::DeleteManifest(Reference::Tag(tag)) => {
                manifests.delete_tag(caller, name, tag).await
            }
            In::StartUpload(start) => uploads.start_upload(request, caller, name, start).await,
            In::ShowUpload(id) => uploads.upload_status(name, *id).await,
            In::PushChunk { id, step } => uploads.push_chunk(request, name, *id, *step).await,
            In::CloseUpload { id, step, digest } => {
                let digest = digest.as_ref();
                uploads
                    .close_upload(request, name, *id, *step, digest)
                    .await
            }
            In::CancelUpload(id) => uploads.cancel_upload(name, *id).await,
            In::ListTags { .. } | In::ListReferrers { .. } => {
                self.list(request, operation, of).await
            }
            In::ListLayer { .. } | In::ReadLayerFile { .. } | In::ReadImageFile { .. } => {
                self.look_inside(request, operation, of).await
            }
            In::Invalidate { tag } => self.mirror.invalidate(name, tag.as_ref()).await,
        }
    }

    /// Pulls a blob: a stored one, or one of an upstream.
    async fn pull_blob(
        &self,
        request: &Request<P::Body>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        if let Some(response) = self.blobs.pull(request, name, digest, trace).await? {
            return Ok(response);
        }
        match self.settings.upstreams.mirrored(name) {
            Some(mirrored) => self.mirror.pull(request, &mirrored, digest, trace).await,
            None => Err(Error::blob_unknown(name, digest)),
        }
    }

    /// Lists tags or referrers: stored ones, or those of an upstream.
    async fn list(
        &self,
        request: &Request<P::Body>,
        operation: &InRepository,
        Of {
            name, asked, trace, ..
        }: Of<'_, P::Bytes>,
    ) -> Answer<P> {
        let called = Called::of(&request.target, asked);
        let mirrored = self.settings.upstreams.mirrored(name);
        let (lists, mirror) = (&self.lists, &self.mirror);
        match (operation, mirrored) {
            (InRepository::ListTags { limit, last }, Some(mirrored)) => {
                mirror
                    .list_tags(&mirrored, &called, *limit, last.as_ref(), trace)
                    .await
            }
            (InRepository::ListTags { limit, last }, None) => {
                lists.list_tags(&called, name, *limit, last.as_ref()).await
            }
            (
                InRepository::ListReferrers {
                    subject,
                    artifact_type,
                    limit,
                    last,
                },
                mirrored,
            ) => {
                let wanted = WantedReferrers {
                    subject,
                    artifact_type: artifact_type.as_deref(),
                    limit: *limit,
                    last: last.as_ref(),
                };
                match mirrored {
                    Some(mirrored) => {
                        mirror
                            .list_referrers(&mirrored, &called, &wanted, trace)
                            .await
                    }
                    None => lists.list_referrers(&called, name, &wanted).await,
                }
            }
            _ => Err(misdirected()),
        }
    }

    /// Looks into a layer or an image.
    async fn look_inside(
        &self,
        request: &Request<P::Body>,
        operation: &InRepository,
        Of { name, trace, .. }: Of<'_, P::Bytes>,
    ) -> Answer<P> {
        let inside = &self.inside;
        match operation {
            InRepository::ListLayer {
                digest,
                prefix,
                page,
            } => {
                inside
                    .layer_contents(request, name, digest, prefix, page, trace)
                    .await
            }
            InRepository::ReadLayerFile { digest, path, page } => {
                inside
                    .layer_file(request, name, digest, path, page, trace)
                    .await
            }
            InRepository::ReadImageFile {
                reference,
                platform,
                path,
                page,
            } => {
                let image = ImageOf {
                    name,
                    reference,
                    platform: platform.as_deref(),
                };
                inside.image_file(request, &image, path, page, trace).await
            }
            _ => Err(misdirected()),
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
