//! Resolving a path: component by component, through symbolic links and hard links.

use std::collections::VecDeque;

use crate::layer::{
    entry::EntryKind,
    tree::{
        error::{Error, LINKS},
        layers::Layers,
        lookup::{Lookup, STEP},
        node::{Node, Resolved, Sited},
        overlay::Last,
        path::{Component, WHITEOUT, check_path, join, steps},
        trail::{Trail, Until},
    },
};

/// Whether a symbolic link at the end of a path is followed. Links before the last component always
/// are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FollowLinks {
    /// It is followed, as by `stat`.
    All,
    /// It is not followed, as by `lstat`, unless a slash comes after it.
    Parents,
}

/// The result for a path without `..` and symbolic links.
enum Located {
    /// A directory. The trail has entered it.
    Directory,
    /// Anything but a directory.
    Other(Box<Sited>),
    Missing,
}

impl<'a, L: Layers> Lookup<'a, L> {
    /// Resolves a path in the layers up to `until`. Returns the trail if it is a directory. If a
    /// hard link was followed, the result has its target.
    pub(super) async fn find(
        &mut self,
        path: &[u8],
        follow: FollowLinks,
        until: &Until<'_>,
    ) -> Result<(Resolved, Trail), Error<L::Error>> {
        let not_found = || Error::NotFound {
            path: path.to_vec(),
        };
        check_path(path)?;
        let mut rest: VecDeque<Component> = steps(path).into();
        let mut trail = Trail::new(self.layers.count(), until);
        loop {
            let name = match rest.pop_front() {
                Some(Component::Here) => continue,
                Some(Component::Parent) => {
                    let left = trail.back(trail.depth().saturating_sub(1));
                    self.budget.release(left);
                    self.work(STEP).await?;
                    continue;
                }
                Some(Component::Name(name)) => name,
                None => {
                    let node = self.describe(&mut trail, until).await?;
                    let found = Resolved {
                        path: trail.path.clone(),
                        node: node.map_or(Node::Directory, Node::from),
                        target: None,
                    };
                    return Ok((found, trail));
                }
            };
            let sited = match self.locate(&mut trail, &name, until).await? {
                Located::Directory => continue,
                Located::Missing => return Err(not_found()),
                Located::Other(sited) => *sited,
            };
            let at = sited.entry.path.clone();
            let found = |target| Resolved {
                path: at.clone(),
                node: sited.clone().into(),
                target,
            };
            if rest.is_empty() && follow == FollowLinks::Parents {
                return Ok((found(None), trail));
            }
            let target = if sited.entry.kind == EntryKind::HardLink {
                Some(self.target(&sited).await?)
            } else {
                None
            };
            let file = target.as_ref().unwrap_or(&sited);
            if file.entry.kind != EntryKind::SymbolicLink {
                if rest.is_empty() {
                    return Ok((found(target), trail));
                }
                return Err(Error::NotADirectory { path: at });
            }
            self.links += 1;
            if self.links > LINKS {
                return Err(Error::Loop {
                    path: path.to_vec(),
                });
            }
            let (layer, since) = (sited.layer, Some(sited.entry.offset));
            if self.beneath(layer, &at, since, until.offset(layer)).await? {
                return Err(Error::Through { path: at });
            }
            let steps = self.follow_link(path, &file.entry.link, &mut trail)?;
            self.work(STEP * steps.len()).await?;
            for step in steps.into_iter().rev() {
                rest.push_front(step);
            }
        }
    }

    /// Reads the target of a symbolic link on a path. Returns its steps. A target that begins with
    /// a slash leads back to the root.
    fn follow_link(
        &self,
        path: &[u8],
        target: &[u8],
        trail: &mut Trail,
    ) -> Result<Vec<Component>, Error<L::Error>> {
        check_path(target)?;
        if target.is_empty() {
            let path = path.to_vec();
            return Err(Error::NotFound { path });
        }
        if target.starts_with(b"/") {
            let left = trail.back(0);
            self.budget.release(left);
        }
        Ok(steps(target))
    }

    /// Finds the target of a hard link, as of when the link came.
    pub(super) async fn target(&mut self, link: &Sited) -> Result<Sited, Error<L::Error>> {
        let dangling = || Error::Dangling {
            path: link.entry.path.clone(),
            target: link.entry.link.clone(),
        };
        let mut last = link.clone();
        // Each target came before its link, so this ends.
        while last.entry.kind == EntryKind::HardLink {
            let until = Until {
                layer: last.layer,
                offset: last.entry.offset,
                gone: Some(&last.entry.path),
            };
            if self.depth == LINKS {
                let path = link.entry.path.clone();
                return Err(Error::Loop { path });
            }
            self.depth += 1;
            let find = Box::pin(self.find(&last.entry.link, FollowLinks::Parents, &until));
            let result = find.await;
            self.depth -= 1;
            let node = match result {
                Ok((found, mut trail)) => {
                    self.budget.release(trail.back(0));
                    found.node
                }
                Err(Error::NotFound { .. } | Error::NotADirectory { .. }) => return Err(dangling()),
                Err(error) => return Err(error),
            };
            match node {
                Node::Entry(sited) if sited.entry.kind != EntryKind::Directory => last = *sited,
                Node::Entry(_) | Node::Directory => return Err(dangling()),
            }
        }
        Ok(last)
    }

    /// Finds a name in the current directory of a trail. Enters it if it is a directory.
    async fn locate(
        &mut self,
        trail: &mut Trail,
        name: &[u8],
        until: &Until<'_>,
    ) -> Result<Located, Error<L::Error>> {
        let path = join(&trail.path, name);
        check_path(&path)?;
        if name.starts_with(WHITEOUT) || until.gone == Some(&path) {
            return Ok(Located::Missing);
        }
        trail.enter(path);
        let depth = trail.depth();
        if self.source(trail, depth, 0, until).await?.is_some() {
            return Ok(Located::Directory);
        }
        let directory = trail.directories.last_mut();
        let other = directory.and_then(|directory| directory.other.take());
        trail.back(depth - 1);
        Ok(other.map_or(Located::Missing, |sited| Located::Other(Box::new(sited))))
    }

    /// Finds the entry of the current directory of a trail.
    async fn describe(
        &mut self,
        trail: &mut Trail,
        until: &Until<'_>,
    ) -> Result<Option<Sited>, Error<L::Error>> {
        let depth = trail.depth();
        let mut number = 0;
        while let Some(source) = self.source(trail, depth, number, until).await? {
            number += 1;
            if !source.has_entry {
                continue;
            }
            let (layer, limit) = (source.layer, until.offset(source.layer));
            // The last entry wins, unless a whiteout removed it.
            let place = self.place(layer, &trail.path, None, limit).await?;
            if let Some(last) = place.last.filter(Last::is_directory) {
                return self.sited(layer, &last).await;
            }
        }
        Ok(None)
    }
}
