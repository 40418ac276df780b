//! The table of end-points: for each operation its name in the metrics and the log, the permission
//! that it needs, whether a page of another site may cause it, and its line in the audit.

use http::StatusCode;

use crate::{
    access::{Need, cross_site::Effect, rule::Action},
    name::Name,
    name::Tag,
    route::{
        InRepository, InspectOperation, ListOperation, Operation, RegistryOperation,
        UploadOperation, UploadStart,
    },
    upload::UploadId,
};

/// A row of the table: the properties of an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndPoint<'a> {
    /// The name in the metrics and the log, such as `manifest`. Operations at one path share it.
    pub name: &'static str,
    /// The permission that a request needs, before the store is read.
    pub need: Need<'a>,
    /// The upload that a request continues: a token for that upload is enough.
    pub upload: Option<UploadId>,
    /// The source of a mount. The caller should be able to pull from it, too.
    pub source: Option<&'a Name>,
    /// The effect of a request that a page of another site caused.
    pub effect: Effect,
    /// The change for the audit. `None` for an operation that changes no content.
    pub change: Option<Change>,
}

/// A change of the registry's content, for a line of the audit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The verb and its object, such as `push blob`.
    pub what: &'static str,
    /// The digest, the tags or the reference that the request names. Empty if it names none, as for
    /// background jobs.
    pub of: String,
    /// The statuses of a response that changed something. Some requests succeed and change nothing.
    pub statuses: &'static [StatusCode],
}

impl<'a> EndPoint<'a> {
    /// The row of an operation, with the need in its repository.
    pub fn of(operation: &'a Operation) -> Self {
        match operation {
            Operation::IssueToken { .. } => row("token", Need::Token, Effect::Works),
            Operation::Registry(operation) => Self::in_registry(operation),
            Operation::In(name, operation) => {
                let need = |action| Need::Repository(name, action);
                Self::in_repository(operation, need)
            }
        }
    }

    fn in_registry(operation: &RegistryOperation) -> Self {
        use Effect::{Reads, Works};
        use RegistryOperation as Registry;
        let administer = Need::Registry(Action::Administer);
        match operation {
            Registry::Version => row("version", Need::SignIn, Reads),
            Registry::ShowMetrics => row("metrics", Need::Registry(Action::Metrics), Reads),
            Registry::CheckHealth => row("healthz", Need::Nothing, Reads),
            Registry::CheckReadiness => row("readyz", Need::Nothing, Reads),
            Registry::ListExtensions => row("extensions", Need::Entry, Reads),
            Registry::ListRepositories { .. } => row("catalog", Need::Catalog, Reads),
            Registry::Sweep { is_dry, .. } => {
                row("sweep", administer, Works).changes(!is_dry, "sweep", "", STEP)
            }
            Registry::Scrub { is_dry, .. } => {
                row("scrub", administer, Works).changes(!is_dry, "scrub", "", STEP)
            }
            // Hundreds of operations: one reads a manifest for each grant, the other lists the
            // bucket.
            Registry::ListHolders(_) => row("holders", administer, Works),
            Registry::ListDoubtfulRights { .. } => row("rights", administer, Works),
        }
    }

    fn in_repository(operation: &'a InRepository, need: impl Fn(Action) -> Need<'a>) -> Self {
        use Effect::{ReadsStored, Works};
        use InRepository as In;
        use UploadOperation as Upload;
        let [pull, push] = [Action::Pull, Action::Push].map(&need);
        let [delete, administer] = [Action::Delete, Action::Administer].map(&need);
        match operation {
            In::PullBlob(_) => row("blob", pull, ReadsStored),
            In::DeleteBlob(digest) => row("blob", delete, Works).changes(
                true,
                "delete blob",
                digest,
                &[StatusCode::ACCEPTED],
            ),
            In::PullManifest(_) => row("manifest", pull, ReadsStored),
            // A push that moves a tag needs `overwrite` too: the stored tag decides.
            In::PushManifest { reference, tags } => {
                let mut names = vec![reference.to_string()];
                names.extend(tags.iter().map(Tag::to_string));
                row("manifest", push, Works).changes(
                    true,
                    "push manifest",
                    &names.join(" "),
                    &[StatusCode::CREATED],
                )
            }
            In::DeleteManifest(reference) => row("manifest", delete, Works).changes(
                true,
                "delete manifest",
                reference,
                &[StatusCode::ACCEPTED],
            ),
            In::Upload(Upload::Start(start)) => {
                let row = row("start_upload", push, Works);
                match start {
                    UploadStart::Session { .. } => row,
                    UploadStart::Whole(digest) => {
                        row.changes(true, "push blob", digest, &[StatusCode::CREATED])
                    }
                    UploadStart::Mount { digest, from } => EndPoint {
                        source: from.as_ref(),
                        ..row.changes(true, "mount blob", digest, &[StatusCode::CREATED])
                    },
                }
            }
            In::Upload(Upload::Show(id)) => row("upload", push, Effect::Reads).continues(*id),
            In::Upload(Upload::PushChunk { id, .. } | Upload::Cancel(id)) => {
                row("upload", push, Works).continues(*id)
            }
            In::Upload(Upload::Close { id, digest, .. }) => {
                let of = digest.as_ref().map(ToString::to_string);
                let row = row("upload", push, Works).continues(*id);
                row.changes(
                    of.is_some(),
                    "push blob",
                    &of.unwrap_or_default(),
                    &[StatusCode::CREATED],
                )
            }
            In::List(ListOperation::Tags { .. }) => row("tags", pull, ReadsStored),
            In::List(ListOperation::Referrers { .. }) => row("referrers", pull, ReadsStored),
            // These may index a layer.
            In::Inspect(InspectOperation::Layer { .. }) => row("layer", pull, Works),
            In::Inspect(InspectOperation::LayerFile { .. }) => row("layer_file", pull, Works),
            In::Inspect(InspectOperation::ImageFile { .. }) => row("image_file", pull, Works),
            In::Invalidate { tag } => {
                let tag = tag.as_ref().map_or("", Tag::as_str);
                row("invalidate", administer, Works).changes(
                    true,
                    "invalidate",
                    tag,
                    &[StatusCode::ACCEPTED],
                )
            }
        }
    }

    /// Makes a token for an upload enough.
    const fn continues(mut self, id: UploadId) -> Self {
        self.upload = Some(id);
        self
    }

    fn changes(
        self,
        is_change: bool,
        what: &'static str,
        of: &(impl ToString + ?Sized),
        statuses: &'static [StatusCode],
    ) -> Self {
        let change = || Change {
            what,
            of: of.to_string(),
            statuses,
        };
        Self {
            change: is_change.then(change),
            ..self
        }
    }
}

/// A step of a background job changes the store, whether or not it is the last one.
const STEP: &[StatusCode] = &[StatusCode::OK, StatusCode::ACCEPTED];

/// A row of an operation that changes nothing.
const fn row<'a>(name: &'static str, need: Need<'a>, effect: Effect) -> EndPoint<'a> {
    EndPoint {
        name,
        need,
        upload: None,
        source: None,
        effect,
        change: None,
    }
}
