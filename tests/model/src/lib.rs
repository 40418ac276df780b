//! The removal protocol as a model, which is searched state by state.
//!
//! The promise: *a manifest that was accepted with 201 can be pulled, whole, until it is deleted*, under any interleaving of
//! pushes, mounts, deletes and sweeps, and across a crash at any point. Where manifests go by themselves, it holds for what a tag names,
//! with all that indexes list and all that is about it; what nothing names has its time, from when it was pushed. A tag names nothing that
//! is not there.
//!
//! The promise of rights has two sides. *Nobody reads a blob without a chain to bytes that were
//! hashed*: a repository has a right only if the blob's bytes were hashed for it, or for a
//! repository that it mounted the blob from, or for one of the same upstream if the upstream says
//! that this one has it too. It holds under any settings for what this version writes, and in
//! mirrored repositories for what older versions wrote. *Nothing that was accepted is lost*: a
//! pushed manifest keeps its right while its repository is mirrored and after that; a blob that was
//! there while a stored manifest names it stays; a filled blob is there for the grace period, and
//! it and the right stay while a manifest that names it is stored.
//!
//! # What is modelled
//!
//! Clients and sweepers that do one store operation a step, in any order, over a store that promises what R2 promises
//! ([`store`]). The operations are in [`process`], with the steps named as in the comments of the registry's code: KEEP,
//! look, closing, BOUND. Nothing has to go on: so a crash after any step, and a process that is as slow as it likes, are in
//! every scenario. [`rights`] says which grants and links give a right. [`promise`] says what must
//! hold in each state and what must be seen in some; [`scenario`] says who does
//! what; [`rule`] lists the rules that can be taken away, and where that shows.
//!
//! # What is assumed
//!
//! - Create-if-absent and compare-and-swap are atomic; reads, lists and deletes see every write that returned; one listing
//!   is one read. (A listing of several pages is not: who infers the end of a chain from one must read the last step again.)
//! - Ages are by the store's clock, from when a write took effect. A process measures BOUND by its own clock, from before the
//!   first thing that depends on it. The clocks differ by much less than half the grace period.
//! - A write takes less than half the grace period. BOUND says that none is begun once the other half has passed: so what is
//!   BOUND takes effect before the grace period has, or never. The model lets it come as late as that, which is why it needs
//!   the grace period in ticks only, and not its half.
//! - What nothing names goes when it is as old as the grace period, and so do tags: the least that a policy can say, though it says more.
//! - A write whose answer is lost is not made again by the same request, unless it finds its own in what is there.
//! - Identifiers and nonces are unique. Digests stand for bytes.
//! - A client that pushes a blob has its bytes. The code hashes them. If two clients create a blob at
//!   the same moment, the loser gets a right only if the store verified its bytes.
//! - Each isolate has its settings for its whole life. An operation goes on by the settings that it
//!   began with.
//! - An upstream is known by its name. What it sends and what its `HEAD` says may be anything.
//!
//! # What is not promised
//!
//! - The right to a filled blob, if a manifest comes to name it while a sweep deletes the grant:
//!   the sweep has listed the grant as old and has seen no manifest. The bytes stay. Usually the
//!   link still gives the right; if that was never written, the next pull asks the upstream again.
//!   Nothing is condemned for it, so no lock is worth its cost.
//! - A link that was written for a fill may outlive its grant. That is harmless: it says that bytes
//!   with this digest were hashed for this repository, and that stays true. It goes when the
//!   repository has no grant on the blob.
//! - Privacy for grants of older versions once their upstream is removed from the settings: nothing
//!   tells them from those of pushes.
//!
//! # What is not modelled
//!
//! - The right to a blob, checked before KEEP, outside of the scenarios of rights: every push has
//!   it, which allows more than the code does.
//! - Of rights: copies of links in the tiers, which hold what the link says; several pages of one
//!   repository's grants, in which case the sweep keeps its fills for a round; a repair of a grant
//!   beside marks, for it is KEEP as in any push.
//! - More than two blobs in a manifest, two extents in an upload, two sweepers; the order of a manifest's grants among
//!   themselves (they are written at once, and each protects its own blob only).
//! - The catalogue's entry, which is written and never swept; caches.
//! - What is derived from a layer, and how far a pass over it has come. Nothing that is promised depends on it: whoever misses it, or a part
//!   of it, has it made anew from the blob. It can't be wrong for another life of the blob, for its key and the blob's are made of one
//!   digest, and a pass begins with the same bytes. It is not BOUND, so it may be written after the blob has gone; but it does not stay, for
//!   the sweep lists it beside the blobs, as a digest of its own, and takes what is old and has no blob (`tests/integration/sweep/` holds it to that).
//!   A blob that is pushed and indexed between that look and the deletion loses its index, and nothing else.
//! - Of retention: limits of a policy that keep more (newest tags, patterns, immutable tags); more than one tag, so that a listing of them
//!   has no middle; the order in which a push looks for several claims, which it does at once, each protecting its own manifest only; that
//!   a manifest is about another than the first; that a step takes seconds, which alone would make up for
//!   [`AgeBeforeReading`](rule::Rule::AgeBeforeReading). What is about a manifest goes with it, or while that is pushed again: nothing but
//!   a tag on that, or on what lists it, keeps it.
//! - Of two grants for one manifest by different clients, both old, which was written last: neither goes.
//! - Of the scrub, what is told or written anew without being in anybody's way: it is the setting aside of a blob, and its healing, that is
//!   searched. A reading of wrong bytes is one step, for what was read of a key is compared when that is written over.
//! - Uploads that are written on by the same client while it closes them, other than by two clients.
//! - Several deletes in one call: each is a step here, in the order that the rules ask for.
//!
//! After everything was deleted, sweeping leaves tags, which are tombstones then, and nothing else of what is modelled.
//!
//! # How it is searched
//!
//! Breadth first, by `stateright`: about half a million transitions a second on one slow core. Its search by symmetry is
//! depth first only, so [`model::State`] is kept in a canonical form instead: idle sweepers are alike and in order, nonces
//! are the smallest that nobody knows, and ages stop at the grace period. Ages of manifests and tags are kept only where they go by
//! themselves.
//!
//! ```
//! use strata_model::{Search, model::Removal, rule::Rule, scenario};
//!
//! let search = Search::all(Removal { scenario: &scenario::TAG, without: None });
//! assert!(search.lost.is_empty());
//! let search = Search::all(Removal { scenario: &scenario::TAG, without: Some(Rule::TombstoneBySwap) });
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
