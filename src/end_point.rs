//! The table of end-points: for each operation its name in the metrics and the log, the permission
//! that it needs, whether a page of another site may cause it, and its line in the audit.

use http::StatusCode;

use crate::{
    access::{Need, cross_site::Effect, rule::Action},
    name::Tag,
    route::{InRepository, Operation, UploadStart},
};

/// A row of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndPoint<'a> {
    /// The name in the metrics and the log. Operations at one path share it.
    pub name: &'static str,
    /// The permission that a request needs.
    pub need: Need<'a>,
    /// What a page of another site can cause by it.
    pub effect: Effect,
    /// The change that the audit tells of. `None` for an operation that only reads.
    pub change: Option<Change>,
}

/// A change of what the registry holds, if a request succeeds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The verb, as `push blob`.
    pub what: &'static str,
    /// The digest or the names.
    pub of: String,
    /// The statuses of a change. Some requests succeed and change nothing yet.
    pub statuses: &'static [StatusCode],
}

impl<'a> EndPoint<'a> {
    /// The row of an operation.
    pub fn of(operation: &'a Operation) -> Self {
        use Effect::{Reads, Works};
        let administer = Need::Registry(Action::Administer);
        match operation {
            Operation::Version => row("version", Need::SignIn, Reads),
            Operation::IssueToken { .. } => row("token", Need::Token, Works),
            Operation::ShowMetrics => row("metrics", Need::Registry(Action::Metrics), Reads),
            Operation::CheckHealth => row("healthz", Need::Nothing, Reads),
            Operation::CheckReadiness => row("readyz", Need::Nothing, Reads),
            Operation::ListExtensions => row("extensions", Need::Entry, Reads),
            Operation::ListRepositories { .. } => row("catalog", Need::Catalog, Reads),
            Operation::Sweep { is_dry, .. } => {
                row("sweep", administer, Works).changes(!is_dry, "sweep", "", STEP)
            }
            Operation::Scrub { is_dry, .. } => {
                row("scrub", administer, Works).changes(!is_dry, "scrub", "", STEP)
            }
            // Hundreds of operations: one reads a manifest for each grant, the other lists the bucket.
            Operation::ListHolders(_) => row("holders", administer, Works),
            Operation::ListDoubtfulRights { .. } => row("rights", administer, Works),
            Operation::In(name, operation) => {
                let need = |action| Need::Repository(name, action);
                Self::in_repository(operation, need)
            }
        }
    }

    fn in_repository(operation: &InRepository, need: impl Fn(Action) -> Need<'a>) -> Self {
        use Effect::{ReadsStored, Works};
        use InRepository as In;
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
            // A mount needs `pull` in its source, too.
            In::StartUpload(start) => {
                let row = row("start_upload", push, Works);
                match start {
                    UploadStart::Session { .. } => row,
                    UploadStart::Whole(digest) => {
                        row.changes(true, "push blob", digest, &[StatusCode::CREATED])
                    }
                    UploadStart::Mount { digest, .. } => {
                        row.changes(true, "mount blob", digest, &[StatusCode::CREATED])
                    }
                }
            }
            In::ShowUpload(_) => row("upload", push, Effect::Reads),
            In::PushChunk { .. } | In::CancelUpload(_) => row("upload", push, Works),
            In::CloseUpload { digest, .. } => {
                let of = digest.as_ref().map(ToString::to_string);
                let row = row("upload", push, Works);
                row.changes(
                    of.is_some(),
                    "push blob",
                    &of.unwrap_or_default(),
                    &[StatusCode::CREATED],
                )
            }
            In::ListTags { .. } => row("tags", pull, ReadsStored),
            In::ListReferrers { .. } => row("referrers", pull, ReadsStored),
            // These may index a layer.
            In::ListLayer { .. } => row("layer", pull, Works),
            In::ReadLayerFile { .. } => row("layer_file", pull, Works),
            In::ReadImageFile { .. } => row("image_file", pull, Works),
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

/// A step of a background job changes what is stored, and is the last one or not.
const STEP: &[StatusCode] = &[StatusCode::OK, StatusCode::ACCEPTED];

/// A row of an operation that changes nothing.
const fn row<'a>(name: &'static str, need: Need<'a>, effect: Effect) -> EndPoint<'a> {
    EndPoint {
        name,
        need,
        effect,
        change: None,
    }
}
