//! The removal protocol as a model, which is searched state by state.
//!
//! The promise: *a manifest that was accepted with 201 can be pulled, whole, until it is deleted*.
//! It holds under any interleaving of pushes, mounts, deletes and sweeps, and across a crash at any
//! point. With retention, it holds for the manifests that a tag names, for all that these list if
//! they are indexes, and for the manifests whose subject is one of them. A manifest that nothing
//! names stays for the policy's minimum age, counted from its push. Once pushes and deletions have
//! ended, a tag names no manifest that is absent, and an index that was accepted has had all that
//! it lists.
//!
//! The promise of rights has two sides.
//!
//! - *Nobody reads a blob without a chain to bytes that were hashed.* A repository has a right only
//!   if the blob's bytes were hashed for it, or for a repository that it mounted the blob from, or
//!   for one of the same upstream if the upstream says that this repository has the blob too. This
//!   holds under any settings for grants that this version writes, and in mirrored repositories
//!   also for grants of older versions.
//! - *Nothing that was accepted is lost.* A pushed manifest keeps its right while its repository is
//!   mirrored, and after that. A blob that was there while a stored manifest names it stays. A
//!   filled blob stays for the grace period; the blob and the right to it stay while a manifest
//!   that names it is stored.
//!
//! # Scope
//!
//! Clients and sweepers do one store operation a step, in any order, over a store that promises the
//! same as R2 ([`store`]). The operations are in [`process`]. Their steps have the names of the
//! comments in the registry's code: KEEP, look, closing, BOUND. No process has to take its next
//! step, so every scenario includes a crash after any step and arbitrarily slow processes.
//! [`rights`] says which grants and links give a right. [`promise`] says which properties must hold
//! in each state, and which must be seen in some state. [`scenario`] says what each client does.
//! [`rule`] lists the rules that can be taken away, and the scenario in which the absence of each
//! shows.
//!
//! # Assumptions
//!
//! - Create-if-absent and compare-and-swap are atomic. Reads, lists and deletes see every write
//!   that returned. One listing is one read. (A listing of several pages is not: code that infers
//!   the end of a chain from one must read the last step again.)
//! - Ages are measured by the store's clock, from the moment at which a write took effect. A
//!   process measures BOUND by its own clock, from before the first thing that depends on it. The
//!   clocks differ by much less than half the grace period.
//! - A write takes less than half the grace period. BOUND says that no write begins once the other
//!   half has passed. So a write under BOUND takes effect before the grace period has passed, or
//!   never. The model lets it take effect as late as that, so it needs the grace period in ticks
//!   only, not its half.
//! - A pull of a blob in extents takes less than the grace period, from the reading of the record
//!   to the last extent. An isolate that caches the record is one slow pull.
//! - Retention removes an unnamed manifest, or a tag, as soon as it is as old as the grace period.
//!   That is the shortest time that a policy can set; real policies keep more.
//! - A request does not repeat a write whose answer was lost, unless it finds its own write in the
//!   store.
//! - Identifiers and nonces are unique. Digests stand for bytes.
//! - A client that pushes a blob has its bytes. The code hashes them. If two clients create a blob
//!   at the same moment, the loser gets a right only if the store verified its bytes.
//! - Each isolate keeps its settings for its whole life. An operation continues under the settings
//!   with which it began.
//! - An upstream is identified by its name. Its bodies and its `HEAD` responses may be anything.
//!
//! # Outside of the promise
//!
//! - The right to a filled blob, if a manifest that names it is stored while a sweep deletes the
//!   grant: the sweep has listed the grant as old and has seen no manifest. The bytes stay. Usually
//!   the link still gives the right; if the link was never written, the next pull asks the upstream
//!   again. Nothing is condemned because of it, so no lock is worth its cost.
//! - A link that was written for a fill may outlive its grant. That is harmless: it says that bytes
//!   with this digest were hashed for this repository, which stays true. The sweep deletes it when
//!   the repository has no grant on the blob.
//! - Privacy for grants of older versions once their upstream is removed from the settings: they
//!   cannot be told apart from grants of pushes.
//!
//! # Outside of the model
//!
//! - The right to a blob, checked before KEEP, except in the scenarios of rights. In the others
//!   every push has the right, which allows more than the code does.
//! - Of rights: copies of links in the tiers, which hold the same content as the link; several
//!   pages of one repository's grants, for which the sweep keeps the fills for a round; a repair of
//!   a grant beside marks, because it is KEEP as in any push.
//! - More than two blobs in a manifest, two extents in an upload, or two sweepers; the order of a
//!   manifest's grants among themselves (they are written at once, and each protects only its own
//!   blob).
//! - The catalogue's entry, which is written and never swept; caches.
//! - Objects derived from a layer, and the progress of a pass over it. No promise depends on them:
//!   if one is absent or incomplete, it is computed again from the blob. It cannot be wrong for a
//!   later copy of the blob, because both keys are made from one digest, and a pass begins with the
//!   same bytes. It is not BOUND, so it may be written after the blob is deleted. It does not stay:
//!   the sweep lists derived objects beside the blobs, as digests of their own, and deletes old
//!   ones without a blob (`tests/integration/sweep/` checks that). A blob that is pushed and
//!   indexed between that look and the deletion loses its index, and nothing else.
//! - Of retention: limits of a policy that keep more (newest tags, patterns, immutable tags). More
//!   than one tag, so a listing of tags is never cut in the middle. The order in which a push looks
//!   for several claims: it looks for all at once, and each protects only its own manifest. The
//!   same goes for its last look at the manifests that it names.
//!   Subjects other than the first manifest. The seconds that a step takes, which alone would make
//!   up for [`AgeBeforeReading`](rule::Rule::AgeBeforeReading). A manifest with a subject is
//!   removed with its subject, or while the subject is pushed again: only a tag on that manifest,
//!   or on an index that lists it, keeps it.
//! - The order of two old grants of different clients for one manifest: neither is deleted.
//! - Of the scrub, the reports and rewrites that interfere with no other process. The search covers
//!   setting a blob aside and healing it. Reading wrong bytes is one step, because the later write
//!   compares the object with the one that was read.
//! - A client that writes to an upload while it closes the upload itself; two clients do that
//!   instead.
//! - Several deletions in one call: each is a step here, in the order that the rules require.
//!
//! After everything was deleted, sweeping leaves tags, which are then tombstones, and no other
//! modelled object.
//!
//! # The search
//!
//! The search is breadth first, by `stateright`, at about half a million transitions a second on
//! one slow core. Its search by symmetry is depth first only, so [`model::State`] is kept in a
//! canonical form instead. Idle sweepers are equal and in order, nonces are the smallest unused
//! ones, and ages stop at the grace period. Ages of manifests and tags are kept only in scenarios
//! with retention.
//!
//! ```
//! use strata_model::{Search, model::Removal, rule::Rule, scenario};
//!
//! let search = Search::all(Removal { scenario: &scenario::TAG, without: None });
//! assert!(search.lost.is_empty());
//! let without = Some(Rule::TombstoneBySwap);
//! let search = Search::all(Removal { scenario: &scenario::TAG, without });
//! assert_eq!(search.lost, ["a tag names what it was moved to"]);
//! ```

pub mod model;
pub mod process;
pub mod promise;
pub mod rights;
pub mod rule;
pub mod scenario;
mod search;
pub mod store;

pub use search::Search;
