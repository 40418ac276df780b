//! Lookups in the tables of contents of single layers, with a cache of answers.

use std::{collections::BTreeMap, ops::Bound, rc::Rc};

use crate::{
    budget::Budget,
    layer::{
        entry::Entry,
        tree::{
            error::Error,
            layers::Layers,
            path::{PAST, WHITEOUT, below},
        },
    },
};

/// A lookup with its cache and its budget.
pub(super) struct Lookup<'a, L> {
    pub(super) layers: &'a L,
    pub(super) budget: Budget,
    /// Cached answers by layer and path: the entries of the first path that is not before it.
    seen: BTreeMap<usize, BTreeMap<Vec<u8>, Rc<[Entry]>>>,
    /// The approximate memory of the cached answers.
    weight: usize,
    /// How many symbolic links were followed.
    pub(super) links: usize,
    /// The nesting of targets of hard links that are being resolved.
    pub(super) depth: usize,
}

impl<'a, L: Layers> Lookup<'a, L> {
    pub(super) const fn new(layers: &'a L, budget: Budget) -> Self {
        Self {
            layers,
            budget,
            seen: BTreeMap::new(),
            weight: 0,
            links: 0,
            depth: 0,
        }
    }

    /// Whether a layer has this path up to the offset `limit`.
    pub(super) async fn has(
        &mut self,
        layer: usize,
        path: &[u8],
        limit: u64,
    ) -> Result<bool, Error<L::Error>> {
        let found = self.seek(layer, path).await?;
        Ok(found
            .first()
            .is_some_and(|entry| entry.path == path && entry.offset <= limit))
    }

    /// Whether a layer has a path with this prefix.
    pub(super) async fn starts(
        &mut self,
        layer: usize,
        prefix: &[u8],
    ) -> Result<bool, Error<L::Error>> {
        let found = self.seek(layer, prefix).await?;
        Ok(path_of(&found).is_some_and(|path| path.starts_with(prefix)))
    }

    /// Whether a layer has anything below a path, after the offset `since` and up to `limit`.
    pub(super) async fn beneath(
        &mut self,
        layer: usize,
        path: &[u8],
        since: Option<u64>,
        limit: u64,
    ) -> Result<bool, Error<L::Error>> {
        let within = below(path);
        let mut from = within.clone();
        loop {
            let found = self.seek(layer, &from).await?;
            let Some(path) = path_of(&found).filter(|path| path.starts_with(&within)) else {
                return Ok(false);
            };
            let counts = |entry: &Entry| Some(entry.offset) > since && entry.offset <= limit;
            if found.iter().any(counts) {
                return Ok(true);
            }
            from = [path, b"\0"].concat();
        }
    }

    /// The component after `within` of the first path from here on, if it begins with `within`.
    async fn component(
        &mut self,
        layer: usize,
        from: &[u8],
        within: &[u8],
    ) -> Result<Option<Vec<u8>>, Error<L::Error>> {
        let found = self.seek(layer, from).await?;
        let name = path_of(&found)
            .and_then(|path| path.strip_prefix(within))
            .and_then(|rest| rest.split(|byte| *byte == b'/').next());
        Ok(name.map(<[u8]>::to_vec))
    }

    /// Finds the next name in a directory of a layer. Paths are not in the order of names: `a-b`
    /// comes before `a/b`, and `a` may have no entry of its own.
    pub(super) async fn name_after(
        &mut self,
        layer: usize,
        path: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, Error<L::Error>> {
        let within = below(path);
        // The root itself comes before its children.
        let mut from = match after {
            Some(after) => [&within, after, b"\0"].concat(),
            None => [&within, b"\0".as_slice()].concat(),
        };
        loop {
            let Some(name) = self.component(layer, &from, &within).await? else {
                return Ok(None);
            };
            if after.is_some_and(|after| name.as_slice() <= after) {
                from = [&within, name.as_slice(), PAST].concat();
                continue;
            }
            // Look for directories without an entry that come earlier by name, and later by path.
            // Usually this seek, which the caller needs anyway, shows that there are none.
            let early = (1..name.len()).filter_map(|length| name.split_at_checked(length));
            let mut early = early
                .filter(|(start, end)| end.first() < Some(&b'/') && Some(*start) > after)
                .map(|(start, _)| start)
                .filter(|start| !start.starts_with(WHITEOUT))
                .peekable();
            if early.peek().is_some() {
                self.seek(layer, &[&within, name.as_slice(), b"\0"].concat())
                    .await?;
            }
            for start in early {
                if self.starts(layer, &[&within, start, b"/"].concat()).await? {
                    return Ok(Some(start.to_vec()));
                }
            }
            if !name.starts_with(WHITEOUT) {
                return Ok(Some(name));
            }
            // Skip the other whiteouts.
            from = [&within, b".wh/".as_slice()].concat();
        }
    }

    /// Answers as [`Layers::seek`] does, from the cache if it covers the gap. No entries if there
    /// is no such path.
    pub(super) async fn seek(
        &mut self,
        layer: usize,
        from: &[u8],
    ) -> Result<Rc<[Entry]>, Error<L::Error>> {
        self.work(STEP + 2 * from.len()).await?;
        let identity = self.layers.identity(layer);
        let seen = self.seen.entry(identity).or_default();
        let up_to = (Bound::Unbounded, Bound::Included(from));
        if let Some((_, found)) = seen.range::<[u8], _>(up_to).next_back()
            && path_of(found).is_none_or(|path| path >= from)
        {
            let found = Rc::clone(found);
            self.work(STEP * found.len()).await?;
            return Ok(found);
        }
        self.budget.seek().map_err(Error::Spent)?;
        let found = self.layers.seek(layer, from).await?;
        let found = Rc::<[Entry]>::from(found.unwrap_or_default());
        let weight = found.iter().map(Entry::weight).sum::<usize>() + from.len() + ANSWER;
        self.work(weight).await?;
        if self.weight.saturating_add(weight) > SEEN {
            self.seen.clear();
            self.budget.evict(self.weight);
            self.weight = 0;
        }
        self.weight = self.weight.saturating_add(weight);
        self.budget.cache(weight);
        let seen = self.seen.entry(identity).or_default();
        seen.insert(from.to_vec(), Rc::clone(&found));
        Ok(found)
    }

    /// Counts work, and yields if it is time.
    pub(super) async fn work(&self, bytes: usize) -> Result<(), Error<L::Error>> {
        self.budget.work(bytes).map_err(Error::Spent)?;
        if self.budget.is_turn() {
            self.layers.turn().await;
        }
        Ok(())
    }
}

fn path_of(found: &[Entry]) -> Option<&[u8]> {
    Some(&found.first()?.path)
}

/// The memory for cached answers of one lookup, in bytes.
#[doc(hidden)]
pub const SEEN: usize = 512 * 1024;
/// The memory of a cached answer, in addition to its entries and its key.
const ANSWER: usize = 64;
/// The work of one step: a child, a source or an entry that is looked at.
pub(super) const STEP: usize = 64;
