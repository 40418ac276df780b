//! Dispatch: admits a request, calls a service for its operation, and builds the response.

use std::rc::Rc;

use http::{HeaderValue, StatusCode, header};

use crate::{
    access::{Caller, Need, Visit, cross_site, rule::Action},
    digest::Digest,
    end_point::EndPoint,
    error::{Code, Error},
    name::{Name, Reference},
    platform::Platform,
    registry::{
        Registry,
        about::About,
        address_of,
        inside::image::ImageOf,
        list::{WantedReferrers, without_namespace},
        manifest::push::Names,
        pull::{Pull, Pulled},
        reply::{self, Answer, accepted, list::Called, respond_with_json},
        request::Request,
        slots::TakenSlot,
        visit::{origin, visit},
    },
    route::{InRepository, InspectOperation, ListOperation, Operation, RegistryOperation},
    store::trace::Trace,
};

mod upload;

/// A request in a repository: its caller, the repository, and the trace of its cost.
#[derive(Clone, Copy)]
pub(super) struct InRepositoryRequest<'a, B> {
    caller: &'a Caller,
    name: &'a Name,
    /// The name of the repository in the client's request.
    asked: &'a Name,
    trace: &'a Trace<B>,
}

/// The error for a sender whose slots for bodies are all taken.
fn too_many_bodies(most: u32) -> Error {
    let found =
        format!("{most} uploads of this client are in progress; try again when one has ended");
    Error::new(Code::TooManyRequests, found)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
}

impl<P: Platform> Registry<P> {
    /// Admits a request, and calls the service of its operation.
    pub(super) async fn dispatch(
        &self,
        request: &mut Request<P::Body>,
        operation: Result<&Operation, &Error>,
        end_point: Option<EndPoint<'_>>,
        about: &About<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Answer<P> {
        request.require_lengths()?;
        self.require_own_site(request, end_point.as_ref())?;
        match operation {
            Ok(Operation::IssueToken { scopes }) => self.token(request, scopes, about).await,
            Ok(Operation::Registry(operation)) => {
                let (caller, _) = self.admit(request, end_point, about, trace).await?;
                let origin = origin(&self.settings, request);
                self.dispatch_registry(operation, &caller, origin).await
            }
            Ok(Operation::In(name, operation)) => {
                let (caller, slot) = self.admit(request, end_point, about, trace).await?;
                let of = InRepositoryRequest {
                    caller: &caller,
                    name,
                    asked: about.asked.unwrap_or(name),
                    trace,
                };
                let answer = self.dispatch_in(request, operation, of);
                match slot {
                    Some(slot) => slot.hold(answer).await,
                    None => answer.await,
                }
            }
            Err(error) => {
                self.admit(request, end_point, about, trace).await?;
                Err(error.clone())
            }
        }
    }

    /// Admits a request: its caller, and the slot that its body takes until it is answered.
    async fn admit(
        &self,
        request: &Request<P::Body>,
        end_point: Option<EndPoint<'_>>,
        about: &About<'_>,
        trace: &Trace<P::Bytes>,
    ) -> Result<(Caller, Option<TakenSlot>), Error> {
        // A path or method without an end-point needs no more than entry.
        let need = end_point.as_ref().map_or(Need::Entry, |row| row.need);
        let visit = Visit {
            source: end_point.as_ref().and_then(|row| row.source),
            ..visit(&self.settings, request)
        };
        let access = &self.settings.access;
        let caller = access.identify(visit, need, &self.host).await?;
        about.made_by(&caller);
        let sender = match caller.user() {
            Some(user) => format!("user {user}"),
            None => address_of(&request.address),
        };
        self.ledger.charge(Some(sender.as_str().into()));
        trace.after.charge(self.ledger.sender());
        let continues = end_point.and_then(|row| row.upload);
        let is_permitted = match (need, continues) {
            (Need::Repository(name, _), Some(id)) => access.may_continue(&caller, name, id),
            _ => false,
        };
        if !is_permitted {
            access.permit(&caller, need, visit)?;
        }
        if let Need::Repository(name, Action::Push | Action::Delete) = need
            && let Some(mirrored) = self.settings.upstreams.mirrored(name)
        {
            let upstream = mirrored.upstream.name();
            let found =
                format!("repository {name} is mirrored from {upstream}: push and delete there");
            return Err(Error::new(Code::Unsupported, found)
                .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        let slot = match (need, &request.body) {
            (Need::Repository(..), Some(_)) => {
                let most = self.settings.uploads;
                let slot = self.slots.take(&sender, most, &self.host);
                Some(slot.ok_or_else(|| too_many_bodies(most))?)
            }
            _ => None,
        };
        about.is_admitted.set(true);
        if let Need::Repository(name, _) = need {
            // A caller that may push may have pushed a moment ago, through another isolate, so it
            // gets no cached "absent".
            let pushes = access.may(&caller, name, Action::Push);
            trace.believes_absence.set(!pushes);
            trace.believes_tags.set(!access.may_change(&caller, name));
        }
        Ok((caller, slot))
    }

    /// Answers a request to an end-point of the registry.
    async fn dispatch_registry(
        &self,
        operation: &RegistryOperation,
        caller: &Caller,
        origin: &str,
    ) -> Answer<P> {
        use RegistryOperation as Op;
        match operation {
            Op::ShowMetrics => self.metrics().await,
            Op::CheckHealth => Ok(reply::health::healthy()),
            Op::CheckReadiness => {
                self.readiness.check().await?;
                Ok(reply::health::healthy())
            }
            Op::ListExtensions => Ok(reply::extensions::extensions(origin)),
            Op::ListRepositories { limit, last } => {
                let listed = self.lists.list_repositories(caller, *limit, last.as_ref());
                Ok(reply::list::repositories(listed.await?))
            }
            Op::Sweep {
                is_dry,
                max,
                cursor,
            } => {
                let swept = self
                    .upkeep
                    .sweep_on_demand(*is_dry, *max, cursor.as_deref());
                Ok(reply::upkeep::step(&swept.await?))
            }
            Op::Scrub {
                is_dry,
                digest,
                cursor,
            } => {
                let cursor = cursor.as_deref();
                let scrubbed = self
                    .upkeep
                    .scrub_on_demand(*is_dry, digest.as_ref(), cursor);
                Ok(reply::upkeep::step(&scrubbed.await?))
            }
            Op::ListHolders(digest) => {
                let holders = self.upkeep.blob_holders(digest).await?;
                Ok(reply::upkeep::found(&holders))
            }
            Op::ListDoubtfulRights { cursor } => {
                let rights = self.upkeep.doubtful_rights(cursor.as_deref()).await?;
                Ok(reply::upkeep::found(&rights))
            }
            Op::Version => Ok(respond_with_json(StatusCode::OK, "{}")),
        }
    }

    /// Answers a request to an end-point of a repository.
    async fn dispatch_in(
        &self,
        request: &mut Request<P::Body>,
        operation: &InRepository,
        of: InRepositoryRequest<'_, P::Bytes>,
    ) -> Answer<P> {
        use InRepository as In;
        let InRepositoryRequest {
            caller,
            name,
            trace,
            ..
        } = of;
        let manifests = &self.manifests;
        match operation {
            In::PullBlob(digest) => {
                let pull = Pull::of(request);
                let pulled = self.pull_blob(&pull, name, digest, trace).await?;
                Ok(reply::blob::pulled(digest, pulled))
            }
            In::DeleteBlob(digest) => {
                self.blobs.delete(name, digest).await?;
                Ok(accepted())
            }
            In::PullManifest(reference) => {
                let read = self.mirror.read_manifest(name, reference, trace);
                let (digest, content) = read.await?;
                let pull = Pull::of(request);
                Ok(reply::manifest::pulled::<P>(
                    &pull, reference, &digest, &content,
                ))
            }
            In::PushManifest { reference, tags } => {
                let names = Names { reference, tags };
                let overwrite = Need::Repository(name, Action::Overwrite);
                let visit = visit(&self.settings, request);
                let may_overwrite = self.settings.access.permit(caller, overwrite, visit);
                let payload = request.payload();
                let pushed = manifests.push(payload, caller, name, names, may_overwrite, trace);
                Ok(reply::manifest::pushed(name, names, &pushed.await?))
            }
            In::DeleteManifest(Reference::Digest(digest)) => {
                manifests.delete_manifest(caller, name, digest).await?;
                Ok(accepted())
            }
            In::DeleteManifest(Reference::Tag(tag)) => {
                manifests.delete_tag(caller, name, tag).await?;
                Ok(accepted())
            }
            In::Upload(operation) => {
                let answer = self.dispatch_upload(request, operation, of).await;
                answer.map_err(|error| reply::upload::refused(name, error))
            }
            In::List(operation) => self.list(&request.target, operation, of).await,
            In::Inspect(operation) => self.inspect(&Pull::of(request), operation, of).await,
            In::Invalidate { tag } => {
                let tags = self.mirror.invalidate(name, tag.as_ref()).await?;
                Ok(reply::upkeep::invalidated(name, tags))
            }
        }
    }

    /// Pulls a blob: a stored one, or one of an upstream.
    async fn pull_blob(
        &self,
        pull: &Pull<'_>,
        name: &Name,
        digest: &Digest,
        trace: &Trace<P::Bytes>,
    ) -> Result<Pulled<P>, Error> {
        if let Some(pulled) = self.blobs.pull(pull, name, digest, trace).await? {
            return Ok(pulled);
        }
        match self.settings.upstreams.mirrored(name) {
            Some(mirrored) => self.mirror.pull(pull, &mirrored, digest, trace).await,
            None => Err(Error::blob_unknown(name, digest)),
        }
    }

    /// Lists tags or referrers: stored ones, or those of an upstream.
    async fn list(
        &self,
        target: &str,
        operation: &ListOperation,
        InRepositoryRequest {
            name, asked, trace, ..
        }: InRepositoryRequest<'_, P::Bytes>,
    ) -> Answer<P> {
        let called = Called {
            name: asked,
            target,
        };
        let (_, query) = target.split_once('?').unwrap_or((target, ""));
        let query = without_namespace(query);
        let mirrored = self.settings.upstreams.mirrored(name);
        let (lists, mirror) = (&self.lists, &self.mirror);
        match operation {
            ListOperation::Tags { limit, last } => {
                let (limit, last) = (*limit, last.as_ref());
                let page = match mirrored {
                    Some(of) => mirror.list_tags(&of, &query, limit, last, trace).await?,
                    None => Rc::new(lists.list_tags(name, limit, last).await?),
                };
                Ok(reply::list::tags(called, &page))
            }
            ListOperation::Referrers {
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
                let page = match mirrored {
                    Some(of) => mirror.list_referrers(&of, &query, &wanted, trace).await?,
                    None => lists.list_referrers(name, &wanted).await?,
                };
                reply::list::referrers(called, &wanted, &page)
            }
        }
    }

    /// Answers a request about the inside of a layer or an image.
    async fn inspect(
        &self,
        pull: &Pull<'_>,
        operation: &InspectOperation,
        InRepositoryRequest { name, trace, .. }: InRepositoryRequest<'_, P::Bytes>,
    ) -> Answer<P> {
        let inside = &self.inside;
        match operation {
            InspectOperation::Layer {
                digest,
                prefix,
                page,
            } => {
                let found = inside.layer_contents(pull, name, digest, prefix, page, trace);
                Ok(reply::inside::contents(name, digest, found.await?))
            }
            InspectOperation::LayerFile { digest, path, page } => {
                let found = inside.layer_file(pull, name, digest, path, page, trace);
                Ok(reply::inside::layer_file(name, digest, path, found.await?))
            }
            InspectOperation::ImageFile {
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
                let found = inside.image_file(pull, &image, path, page, trace);
                Ok(reply::inside::image_file(&image, path, found.await?))
            }
        }
    }

    /// Refuses a request that a page of another site caused, unless it only reads stored content.
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
