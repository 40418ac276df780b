//! The effect of one layer on a path: its own entries, and those that it hides of the layers below.

use std::rc::Rc;

use crate::layer::{
    entry::{Entry, EntryKind},
    tree::{
        error::Error,
        layers::Layers,
        lookup::Lookup,
        node::Sited,
        path::{OPAQUE, WHITEOUT, join, parent, whiteout},
        trail::{Directory, DirectoryLayer, SOURCE, Trail, Until, Whiteouts},
    },
};

/// What one layer has at a path.
pub(super) struct PathState {
    /// The last entry that is not replaced.
    pub(super) last: Option<Last>,
    /// Entries below the path up to this offset are gone.
    floor: Option<u64>,
    /// Whether it replaces what the layers below have.
    replaces: bool,
}

/// One entry of a path. It may be large, so it is copied only if it is the answer.
pub(super) struct Last {
    found: Rc<[Entry]>,
    at: usize,
}

impl Last {
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.found.get(self.at)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.entry()
            .is_some_and(|entry| entry.kind == EntryKind::Directory)
    }
}

/// The effect of one source on a path in its directory.
pub(super) enum SourceEffect {
    /// Nothing.
    None,
    /// A directory, with its entry if there is one.
    Directory(DirectoryLayer, Option<Last>),
    /// Anything but a directory.
    Other(Last),
}

impl<'a, L: Layers> Lookup<'a, L> {
    /// Finds the source of this number of a directory on a trail.
    pub(super) async fn source(
        &mut self,
        trail: &mut Trail,
        depth: usize,
        number: usize,
        until: &Until<'_>,
    ) -> Result<Option<DirectoryLayer>, Error<L::Error>> {
        // Each parent must have enough sources so that the child gets the wanted one.
        let mut wanted = vec![(depth, number)];
        while let Some((depth, number)) = wanted.last().copied() {
            let Some(directory) = trail.directories.get(depth) else {
                return Ok(None);
            };
            if directory.is_whole || directory.sources.len() > number {
                wanted.pop();
                continue;
            }
            let (asked, outer) = (directory.asked, depth - 1);
            let path = trail.path(depth).to_vec();
            // A whiteout beside it, in the layer that was asked last, ends the search.
            if let Some(mut before) = asked.checked_sub(1).and_then(|at| trail.source(outer, at)) {
                let limit = until.offset(before.layer);
                let is_hidden = before.layer == 0 || self.hides(&mut before, &path, limit).await?;
                let known = trail.directories.get_mut(outer);
                if let Some(known) = known.and_then(|known| known.sources.get_mut(asked - 1)) {
                    *known = before;
                }
                if is_hidden {
                    if let Some(directory) = trail.directories.get_mut(depth) {
                        directory.is_whole = true;
                    }
                    continue;
                }
            }
            let is_whole = |directory: &Directory| directory.is_whole;
            let Some(source) = trail.source(outer, asked) else {
                if trail.directories.get(outer).is_none_or(is_whole) {
                    if let Some(directory) = trail.directories.get_mut(depth) {
                        directory.is_whole = true;
                    }
                } else {
                    wanted.push((outer, asked));
                }
                continue;
            };
            let limit = until.offset(source.layer);
            let (part, replaces) = self.part(&source, &path, limit).await?;
            let Some(directory) = trail.directories.get_mut(depth) else {
                return Ok(None);
            };
            directory.asked += 1;
            directory.is_whole = replaces;
            match part {
                SourceEffect::None => {}
                SourceEffect::Directory(source, _) => {
                    directory.sources.push(source);
                    self.budget.hold(SOURCE).map_err(Error::Spent)?;
                }
                SourceEffect::Other(last) => {
                    directory.is_whole = true;
                    if directory.sources.is_empty() {
                        directory.other = self.sited(source.layer, &last).await?;
                    }
                }
            }
        }
        Ok(trail.source(depth, number))
    }

    /// Finds the effect of a source on a path in its directory, and whether it hides the path in
    /// lower layers.
    pub(super) async fn part(
        &mut self,
        source: &DirectoryLayer,
        path: &[u8],
        limit: u64,
    ) -> Result<(SourceEffect, bool), Error<L::Error>> {
        let DirectoryLayer { layer, floor, .. } = *source;
        let place = self.place(layer, path, floor, limit).await?;
        let inner = |has_entry| DirectoryLayer::new(layer, place.floor, has_entry);
        let part = match place.last {
            Some(last) if last.is_directory() => SourceEffect::Directory(inner(true), Some(last)),
            Some(last) => SourceEffect::Other(last),
            None if self.beneath(layer, path, floor, limit).await? => {
                SourceEffect::Directory(inner(false), None)
            }
            None => SourceEffect::None,
        };
        Ok((part, place.replaces))
    }

    /// What a layer has at a path up to the offset `limit`.
    pub(super) async fn place(
        &mut self,
        layer: usize,
        path: &[u8],
        floor: Option<u64>,
        limit: u64,
    ) -> Result<PathState, Error<L::Error>> {
        let found = self.seek(layer, path).await?;
        let mut place = PathState {
            last: None,
            floor,
            replaces: false,
        };
        let mut last: Option<(usize, bool)> = None;
        let up_to_limit = |entry: &&Entry| entry.path == path && entry.offset <= limit;
        for (at, entry) in found.iter().take_while(up_to_limit).enumerate() {
            let directory = entry.kind == EntryKind::Directory;
            place.replaces |= !directory;
            if floor.is_some_and(|floor| entry.offset <= floor) {
                continue;
            }
            // Entries below it came before it was a directory again.
            if directory && last.is_some_and(|(_, was_directory)| !was_directory) {
                place.floor = Some(entry.offset);
            }
            last = Some((at, directory));
        }
        place.last = last.map(|(at, _)| Last { found, at });
        Ok(place)
    }

    /// Copies an entry.
    pub(super) async fn sited(
        &self,
        layer: usize,
        last: &Last,
    ) -> Result<Option<Sited>, Error<L::Error>> {
        let Some(entry) = last.entry().cloned() else {
            return Ok(None);
        };
        self.work(entry.weight()).await?;
        Ok(Some(Sited { layer, entry }))
    }

    /// Whether a source hides a path in its directory from the layers below.
    pub(super) async fn hides(
        &mut self,
        source: &mut DirectoryLayer,
        path: &[u8],
        limit: u64,
    ) -> Result<bool, Error<L::Error>> {
        Ok(match self.whiteouts(source, parent(path), limit).await? {
            Whiteouts::None => false,
            Whiteouts::Names => self.has(source.layer, &whiteout(path), limit).await?,
            Whiteouts::All => true,
        })
    }

    /// Finds the whiteouts of a source in its directory.
    pub(super) async fn whiteouts(
        &mut self,
        source: &mut DirectoryLayer,
        directory: &[u8],
        limit: u64,
    ) -> Result<Whiteouts, Error<L::Error>> {
        if let Some(whiteouts) = source.whiteouts {
            return Ok(whiteouts);
        }
        let layer = source.layer;
        let whiteouts = if !self.starts(layer, &join(directory, WHITEOUT)).await? {
            Whiteouts::None
        } else if self.has(layer, &join(directory, OPAQUE), limit).await? {
            Whiteouts::All
        } else {
            Whiteouts::Names
        };
        source.whiteouts = Some(whiteouts);
        Ok(whiteouts)
    }
}
