//! Dispatch: a request is let in, and its operation answered by a service.

use http::{HeaderValue, StatusCode, header};

use crate::{
    access::{Caller, Need, cross_site, rule::Action},
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
        reply::{Answer, respond_with_json},
        request::Request,
        visit::{origin, visit},
    },
    route::{InRepository, Operation},
    store::trace::Trace,
};

/// The repository that a request is about, and who makes it.
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
        let called = || Called::of(&request.target, asked);
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
                let wanted = WantedReferrers {
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
                let image = ImageOf {
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
