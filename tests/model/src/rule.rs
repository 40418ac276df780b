//! The rules of the protocol that are easy to lose: each can be taken away, and then something is lost.

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
    /// A grant is fresh each time, under an id of its own. Without: one key a reason, written again.
    FreshGrant,
    /// KEEP: the grant is written before the mark is read.
    GrantBeforeMark,
    /// KEEP: the mark is read before the blob is looked at.
    MarkBeforeBlob,
    /// A manifest's blobs are looked at after KEEP. Without: the right to them, found before, is enough.
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
    /// BOUND on an owner's life: the age of its claim is looked at before every delete.
    BoundOnOwner,
    /// Condemned is created only if no mark is there.
    CondemnedIfAbsent,
    /// State, time and nonce of a mark are in its body. Without: an empty body with metadata.
    NonceInMark,
    /// Exactly one closer a session. Without: a retried closing goes on as if it were the closer.
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
    /// Referrers entries have ids of their own.
    ReferrerId,
    /// Referrers entries are written before the manifest.
    ReferrerBeforeManifest,
    /// The record is read again where an extent that a link names is gone.
    RecordReread,
    /// BOUND on a chunk, from putting its extent to adding it to the session.
    BoundOnChunk,
    /// BOUND on what was read of a session's chain: nothing is claimed on a reading that is too old.
    BoundOnChain,
    /// Of a chain's two steps, the one after the last is read before the last. Without: the other way round.
    NextBeforeHere,
    /// A chain's keys stand until its dead or done step is as old as the grace period. Without: they go with the extents.
    DeadStands,
    /// A chain's keys are deleted in order, the last step last. Without: it goes first.
    DeadLast,
    /// Of a chain's other keys none is deleted before those of earlier steps. Without: the last first, but for the dead one.
    StepsInOrder,
    /// A session is killed by the age of its last step. Without: by the age of an extent.
    AgeOfLastStep,
    /// Extents of a dead or done session stay where the blob's record names them.
    RecordBeforeExtents,
    /// An extent that no step names is a stray only where steps name others, or there are none: what a mirror fills has no step for
    /// its extents. Without: they go as strays.
    FillsHaveNoStrays,
    /// A chunk that is added by a write whose answer was lost is not added again blindly. Without: the second write finds the
    /// first there and takes it for another's, and the extent goes.
    NoBlindRetry,
    /// Condemned is as old as the grace period before it moves to deleting. Without: an owner that deletes the session with
    /// the extents leaves no time to those who read its chain. (An owner that leaves the session to the sweep of sessions was
    /// not found to depend on it.)
    CondemnedStands,
    /// A blob that is wrong is set aside by compare-and-swap of what was read. Without: its object is deleted, whatever is there by then.
    AsideBySwap,
    /// The extents of a blob that is wrong go before it is set aside. Without: after, and links name them when it is there again.
    ExtentsBeforeNote,
    /// Of several grants for a manifest the one stays that was written last. Without: the first by its key, which a late sweeper may
    /// delete, for it looked before the manifest was pushed again.
    LastGrantStays,
    /// BOUND on a tag.
    BoundOnTag,
    /// What a tag's body says is another thing with each push. Without: a tag that is pushed again, as it was, goes as the old one.
    NonceInTag,
    /// What nothing names is claimed before the reading that counts. Without: after.
    ClaimBeforeReading,
    /// Who pushes looks for claims after the manifest is stored. Without: before.
    ClaimsAfterStoring,
    /// Who pushes looks for a claim first, and then whether what it may be of is still there. Without: the other way round.
    StillThereAfterClaims,
    /// Who pushes an index looks for claims on what it lists as well.
    LooksAtChildren,
    /// And on what the indexes list that it lists.
    LooksThroughIndexes,
    /// What is not there is claimed only if no claim is.
    ClaimIfAbsent,
    /// A claim that is old is taken over by compare-and-swap.
    ClaimBySwap,
    /// A nonce in a claim's body.
    NonceInClaim,
    /// BOUND on a claimer's life: the age of its claim is looked at before a manifest is deleted.
    BoundOnClaimer,
    /// And before the claim is.
    BoundOnUnclaim,
    /// What is young stays, though nothing names it yet.
    YoungStay,
    /// What is about a manifest that stays, stays.
    ReferrersStay,
    /// What is young is told by when the reading began. Without: by when it is listed, which is after the tags were.
    AgeBeforeReading,
    /// Of an index that was gone when it was read, it is not known what it lists. Without: nothing, even when it is there again.
    GoneIsNotEmpty,
    /// A grant `Mirrored` gives no right, whatever the settings say. Without: it does, if its
    /// manifest is stored.
    MirroredGivesNoRight,
    /// A grant `Claim` gives no right.
    ClaimGivesNoRight,
    /// In a mirrored repository only `Filled` gives a right. Without: `Upload` and `Manifest` do,
    /// which an older version wrote for blobs that nobody had hashed for it.
    OldGrantsGiveNoRight,
    /// In a mirrored repository a link is believed only if it says that it was written for a fill.
    LinkSaysWhy,
    /// `Filled` is written after the bytes are hashed. Without: before, and it stays if they are
    /// wrong.
    HashBeforeFilled,
    /// The bytes of a blob that is there are fetched, unless a mirrored repository has `Filled` on
    /// it. Without: the upstream's `HEAD` is enough.
    ReuseNeedsRight,
    /// That repository is mirrored from the same upstream.
    ReuseOfSameUpstream,
    /// And the upstream's `HEAD` for the repository that asks is 200.
    ReuseNeedsHead,
    /// A blob that is reused is looked at after KEEP. Without: what was seen before is enough.
    LookAfterReuse,
    /// A filled blob is created after KEEP. Without: before.
    KeepBeforeFill,
    /// A stored manifest says that it came from an upstream. Without: a repair writes `Manifest`
    /// for it once the upstream is removed.
    ManifestSaysOrigin,
    /// `Filled` stays while a manifest of the repository names the blob. Without: it goes after the
    /// grace period.
    FilledStays,
    /// `Filled` goes after the grace period if no manifest names the blob. Without: it stays.
    FilledGoes,
    /// Of several grants for a manifest those of one reason are compared. Without: a younger
    /// `Mirrored` takes the place of `Manifest`.
    KindsApart,
}

impl Rule {
    /// Where its absence shows, and what is lost.
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
        }
    }
}
