//! Walking a whole image.

use std::fmt;

use crate::{
    budget::{Budget, LookupLimits},
    layer::tree::{
        error::Error, layers::Layers, listing::DirectoryListing, lookup::Lookup, node::Node,
        path::join, resolve::FollowLinks, trail::Until,
    },
};

/// Walks a whole image in the order of names, each directory before its children. It has no budget:
/// only the size of the image bounds its cost.
pub fn walk<L: Layers>(layers: &L) -> Walk<'_, L> {
    Walk {
        lookup: Lookup::new(layers, Budget::new(LookupLimits::NONE)),
        begun: false,
        open: Vec::new(),
    }
}

/// A walk of a whole image, as [`walk`] begins it.
pub struct Walk<'a, L> {
    lookup: Lookup<'a, L>,
    begun: bool,
    open: Vec<DirectoryListing>,
}

impl<L: Layers> fmt::Debug for Walk<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("depth", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<L: Layers> Walk<'_, L> {
    /// Returns the next path, in the form of [`Entry::path`](crate::layer::entry::Entry::path), and
    /// its node. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error`] if a table of contents can't be read.
    pub async fn next(&mut self) -> Result<Option<(Vec<u8>, Node)>, Error<L::Error>> {
        if !self.begun {
            self.begun = true;
            let (root, trail) = self.lookup.find(b"", FollowLinks::All, &Until::END).await?;
            self.open.push(self.lookup.open(trail, None).await?);
            return Ok(Some((root.path, root.node)));
        }
        while let Some(listing) = self.open.last_mut() {
            let Some((name, node)) = self.lookup.next(listing).await? else {
                self.open.pop();
                continue;
            };
            let Some(node) = node else {
                continue;
            };
            let path = join(&listing.path, &name);
            if node.is_directory() {
                let sources = self.lookup.descend(listing, &path).await?;
                let listing = self.lookup.listing(sources, path.clone(), None).await?;
                self.open.push(listing);
            }
            return Ok(Some((path, node)));
        }
        Ok(None)
    }
}
