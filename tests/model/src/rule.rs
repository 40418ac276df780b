//! The rules of the protocol that are easy to lose. Each can be taken away, and the search then
//! finds a loss.

use crate::{
    promise::Loss,
    scenario::{self, Scenario},
};

macro_rules! rules {
    ($($(#[doc = $doc:expr])+ $rule:ident,)+) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Rule {
            $($(#[doc = $doc])+ $rule,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule,)+];
        }
    };
}

rules! {
    /// Each grant is a new one, under an id of its own. Without: one key for each reason, written
    /// again.
    FreshGrant,
    /// KEEP: the grant is written before the mark is read.
    GrantBeforeMark,
    /// KEEP: the mark is read before the blob is looked at.
    MarkBeforeBlob,
    /// A manifest's blobs are looked at after KEEP. Without: the right to them, checked earlier, is
    /// enough.
    LookAtBlobs,
    /// Condemned moves to deleting by compare-and-swap.
    DeletingBySwap,
    /// Condemned moves to lifted by compare-and-swap.
    LiftedBySwap,
    /// Grants are listed afresh before condemned moves to deleting.
    FreshLook,
    /// BOUND on a manifest PUT.
    BoundOnManifest,
    /// BOUND on closing, from the claim to the record.
    BoundOnClosing,
    /// BOUND on an owner: it checks the age of its claim before every delete.
    BoundOnOwner,
    /// Condemned is created only if no mark is there.
    CondemnedIfAbsent,
    /// State, time and nonce of a mark are in its body. Without: an empty body with metadata.
    NonceInMark,
    /// Exactly one closer a session. Without: a retried closing continues as if it were the closer.
    OneCloser,
    /// A session is killed before its extents are swept.
    SessionKilledFirst,
    /// Grants older than the grace period are listed before their reasons are read.
    GrantsBeforeReasons,
    /// A blob DELETE is confined to upload grants.
    UploadGrantsOnly,
    /// A nonce in an extent's key.
    NonceInExtent,
    /// Tags move to a tombstone by compare-and-swap.
    TombstoneBySwap,
    /// A push looks at the manifest after it has written the tag. Without: a tag that is written
    /// after a deletion has looked for tags leads to nothing.
    ManifestAfterTag,
    /// A push that does not find the manifest takes its tag back.
    TagTakenBack,
    /// A deletion looks for tags again after it has deleted the manifest. Without: it misses the
    /// tag of a push that has seen the manifest.
    TagsListedAgain,
    /// Such a tag is deleted only if the manifest is still absent. Without: a push that came after
    /// the deletion loses its tag.
    BuriedIfGone,
    /// A push of an index looks at the manifests that it lists after it has stored the index.
    /// Without: a deletion may have come in between.
    ChildrenAfterIndex,
    /// Referrers entries have ids of their own.
    ReferrerId,
    /// Referrers entries are written before the manifest.
    ReferrerBeforeManifest,
    /// The record is read again if an extent that a link names is gone.
    RecordReread,
    /// BOUND on a chunk, from putting its extent to adding it to the session.
    BoundOnChunk,
    /// BOUND on the reading of a session's chain: no step is claimed on a reading that is too old.
    BoundOnChain,
    /// Of the two steps that tell where a chain ends, the later one is read first. Without: the
    /// other way round.
    NextBeforeHere,
    /// A chain's keys stay until its dead or done step is as old as the grace period. Without: they
    /// are deleted with the extents.
    DeadStands,
    /// A chain's keys are deleted in order, the last step last. Without: it is deleted first.
    DeadLast,
    /// None of a chain's other keys is deleted before the keys of earlier steps. Without: the later
    /// first, except for the dead one.
    StepsInOrder,
    /// A session is killed by the age of its last step. Without: by the age of an extent.
    AgeOfLastStep,
    /// Extents of a dead or done session stay if the blob's record names them.
    RecordBeforeExtents,
    /// An extent that no step names is a stray only if the steps name others, or if there are no
    /// steps. The extents of a mirror's fill have no steps. Without: they are deleted as strays.
    FillsHaveNoStrays,
    /// A write that adds a chunk is not repeated blindly if its answer was lost. Without: the
    /// second write finds the first, takes it for another client's, and deletes the extent.
    NoBlindRetry,
    /// A condemned mark is as old as the grace period before it moves to deleting. Without: an
    /// owner that deletes the session with the extents leaves no time to the clients that read its
    /// chain. (No loss was found with an owner that leaves the session to the sweep of sessions.)
    CondemnedStands,
    /// A damaged blob is quarantined by compare-and-swap with the object that was read. Without:
    /// the object is deleted, even if it was written since.
    AsideBySwap,
    /// The extents of a damaged blob are deleted before it is quarantined. Without: after, and
    /// links still name them once the blob is stored again.
    ExtentsBeforeNote,
    /// Of several grants for a manifest, the one that was written last stays. Without: the first by
    /// its key stays, which a late sweeper may delete, because it looked before the manifest was
    /// pushed again.
    LastGrantStays,
    /// BOUND on a tag.
    BoundOnTag,
    /// The bytes of a tag differ with each push. Without: a tag that is pushed again unchanged is
    /// deleted as the old one.
    NonceInTag,
    /// Unnamed manifests are claimed before the decisive reading. Without: after it.
    ClaimBeforeReading,
    /// A push looks for claims after it has stored the manifest. Without: before.
    ClaimsAfterStoring,
    /// A push looks for claims first, and then checks whether the claimed manifests are still
    /// there. Without: the other way round.
    StillThereAfterClaims,
    /// A push of an index also looks for claims on the manifests that it lists.
    LooksAtChildren,
    /// It also looks for claims on the manifests that these list, if they are indexes.
    LooksThroughIndexes,
    /// A claim that is absent is created only if it is still absent.
    ClaimIfAbsent,
    /// An old claim is taken over by compare-and-swap.
    ClaimBySwap,
    /// A nonce in a claim's body.
    NonceInClaim,
    /// BOUND on a claimer: it checks the age of its claim before it deletes a manifest.
    BoundOnClaimer,
    /// It checks the age before it deletes the claim, too.
    BoundOnUnclaim,
    /// Young manifests stay, even if nothing names them yet.
    YoungStay,
    /// A manifest stays if its subject stays.
    ReferrersStay,
    /// The age of a manifest is judged at the start of the reading. Without: when it is listed,
    /// which is after the tags were.
    AgeBeforeReading,
    /// The list of an index that was absent when it was read is unknown. Without: it counts as
    /// empty, even when the index is stored again.
    GoneIsNotEmpty,
    /// A grant `Mirrored` gives no right, whatever the settings say. Without: it does, if its
    /// manifest is stored.
    MirroredGivesNoRight,
    /// A grant `Claim` gives no right.
    ClaimGivesNoRight,
    /// In a mirrored repository only `Filled` gives a right. Without: `Upload` and `Manifest` do,
    /// which an older version wrote for blobs whose bytes nobody had hashed for it.
    OldGrantsGiveNoRight,
    /// In a mirrored repository a link counts only if it says that it was written for a fill.
    LinkSaysWhy,
    /// `Filled` is written after the bytes are hashed. Without: before, and it stays if they are
    /// wrong.
    HashBeforeFilled,
    /// The bytes of a stored blob are fetched, unless a mirrored repository has `Filled` on it.
    /// Without: the upstream's `HEAD` is enough.
    ReuseNeedsRight,
    /// That repository is mirrored from the same upstream.
    ReuseOfSameUpstream,
    /// The upstream's `HEAD` for the requesting repository is 200.
    ReuseNeedsHead,
    /// A reused blob is looked at after KEEP. Without: the look before KEEP is enough.
    LookAfterReuse,
    /// A filled blob is created after KEEP. Without: before.
    KeepBeforeFill,
    /// A stored manifest says that it came from an upstream. Without: a repair writes `Manifest`
    /// for it once the upstream is removed.
    ManifestSaysOrigin,
    /// `Filled` stays while a manifest of the repository names the blob. Without: it is deleted
    /// after the grace period.
    FilledStays,
    /// `Filled` is deleted after the grace period if no manifest names the blob. Without: it stays.
    FilledGoes,
    /// Of several grants for a manifest, only those with the same reason are compared. Without: a
    /// younger `Mirrored` replaces `Manifest`.
    KindsApart,
    /// A join replaces the record that it has read by compare-and-swap. Without: the record is
    /// deleted, and the bytes are created if the blob is absent.
    JoinBySwap,
    /// The store checks the digest of joined bytes. Without: bytes that were read wrong replace the
    /// record, and the right ones are deleted later.
    JoinChecksDigest,
    /// The extents of a joined blob stay for the grace period after the join, for pulls that have
    /// read the record before. Without: they are deleted at once, as nothing names them.
    ExtentsOutliveJoin,
    /// A pull reads the record before it uses a link that names extents. Without: a pull by a link
    /// from before the join may begin just before the extents are deleted.
    RecordBeforePull,
}

impl Rule {
    /// The scenario in which the absence of the rule shows, and the loss.
    pub const fn proof(self) -> (&'static Scenario, Loss) {
        match self {
            Self::FreshGrant => (&scenario::WHOLE, Loss::Blob),
            Self::GrantBeforeMark
            | Self::MarkBeforeBlob
            | Self::DeletingBySwap
            | Self::LiftedBySwap
            | Self::FreshLook
            | Self::BoundOnOwner
            | Self::CondemnedIfAbsent
            | Self::NonceInMark => (&scenario::TAKEOVER, Loss::Blob),
            Self::LookAtBlobs | Self::BoundOnManifest => (&scenario::WHOLE, Loss::Blob),
            Self::GrantsBeforeReasons | Self::UploadGrantsOnly => (&scenario::AGAIN, Loss::Blob),
            Self::BoundOnClosing | Self::OneCloser | Self::SessionKilledFirst => {
                (&scenario::CLOSING, Loss::Extent)
            }
            Self::NonceInExtent | Self::BoundOnChunk | Self::NoBlindRetry => {
                (&scenario::CHUNKS, Loss::Extent)
            }
            Self::TombstoneBySwap => (&scenario::TAG, Loss::Tag),
            Self::ManifestAfterTag | Self::TagTakenBack | Self::TagsListedAgain => {
                (&scenario::TAG_AND_DELETE, Loss::Dangling)
            }
            Self::BuriedIfGone => (&scenario::TAG_AND_DELETE, Loss::Tag),
            Self::ChildrenAfterIndex => (&scenario::INDEX_AND_DELETE, Loss::Listed),
            Self::ReferrerId | Self::ReferrerBeforeManifest => {
                (&scenario::REFERRER, Loss::Referrer)
            }
            Self::RecordReread => (&scenario::LINK, Loss::Pull),
            Self::BoundOnChain
            | Self::NextBeforeHere
            | Self::DeadStands
            | Self::DeadLast
            | Self::AgeOfLastStep
            | Self::RecordBeforeExtents => (&scenario::SESSIONS, Loss::Extent),
            Self::StepsInOrder => (&scenario::STALE_HINT, Loss::Extent),
            Self::FillsHaveNoStrays => (&scenario::FILLED, Loss::Extent),
            Self::CondemnedStands => (&scenario::OWNER_SWEEPS_SESSION, Loss::Extent),
            Self::AsideBySwap => (&scenario::SCRUB, Loss::Healed),
            Self::LastGrantStays => (&scenario::PUSHED_AGAIN, Loss::Grant),
            Self::BoundOnTag
            | Self::ClaimBeforeReading
            | Self::ClaimsAfterStoring
            | Self::StillThereAfterClaims
            | Self::ClaimIfAbsent
            | Self::ClaimBySwap
            | Self::NonceInClaim
            | Self::BoundOnClaimer
            | Self::BoundOnUnclaim
            | Self::AgeBeforeReading => (&scenario::UNTAGGED, Loss::Tagged),
            Self::LooksAtChildren | Self::GoneIsNotEmpty => {
                (&scenario::UNTAGGED_INDEX, Loss::Tagged)
            }
            Self::YoungStay => (&scenario::UNTAGGED, Loss::Young),
            Self::ReferrersStay => (&scenario::UNTAGGED_REFERRER, Loss::About),
            Self::LooksThroughIndexes => (&scenario::UNTAGGED_INDEXES, Loss::Tagged),
            Self::NonceInTag => (&scenario::OLD_TAG, Loss::Tag),
            Self::ExtentsBeforeNote => (&scenario::SCRUB_OF_EXTENTS, Loss::Pull),
            Self::MirroredGivesNoRight | Self::HashBeforeFilled | Self::ReuseNeedsRight => {
                (&scenario::ATTACK, Loss::Right)
            }
            Self::ClaimGivesNoRight => (&scenario::GUESS, Loss::Right),
            Self::OldGrantsGiveNoRight | Self::LinkSaysWhy => (&scenario::OLD_FORMS, Loss::Right),
            Self::ReuseOfSameUpstream | Self::ReuseNeedsHead => (&scenario::REUSE, Loss::Right),
            Self::LookAfterReuse => (&scenario::REUSE, Loss::Fresh),
            Self::KeepBeforeFill => (&scenario::PULLED, Loss::Fresh),
            Self::ManifestSaysOrigin => (&scenario::REPAIRED, Loss::Right),
            Self::FilledStays => (&scenario::MIRRORED, Loss::Filled),
            Self::FilledGoes => (&scenario::PULLED, Loss::Room),
            Self::KindsApart => (&scenario::PUSHED_BEFORE, Loss::Grant),
            Self::JoinBySwap => (&scenario::JOIN_AND_PULLS, Loss::Blob),
            Self::JoinChecksDigest | Self::ExtentsOutliveJoin | Self::RecordBeforePull => {
                (&scenario::JOIN_AND_PULLS, Loss::Whole)
            }
        }
    }
}
