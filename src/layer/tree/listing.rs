//! Listing a directory: the merged names of all its layers.

use crate::layer::tree::{
    error::Error,
    layers::Layers,
    lookup::{Lookup, STEP},
    node::Node,
    overlay::SourceEffect,
    path::join,
    trail::{DirectoryLayer, Trail, Until, Whiteouts},
};

/// A directory that is being listed, and the layers that have entries in it, the highest first.
pub(super) struct DirectoryListing {
    pub(super) path: Vec<u8>,
    pub(super) sources: Vec<Listed>,
}

/// A source of a directory that is being listed.
pub(super) struct Listed {
    pub(super) source: DirectoryLayer,
    /// The next name.
    next: Option<Vec<u8>>,
}

impl DirectoryListing {
    /// The next name, if there is one.
    pub(super) fn next_name(&self) -> Option<&Vec<u8>> {
        self.sources
            .iter()
            .filter_map(|listed| listed.next.as_ref())
            .min()
    }
}

impl<'a, L: Layers> Lookup<'a, L> {
    /// Begins to list the directory of a trail.
    pub(super) async fn open(
        &mut self,
        mut trail: Trail,
        after: Option<&[u8]>,
    ) -> Result<DirectoryListing, Error<L::Error>> {
        let depth = trail.depth();
        let mut sources = Vec::new();
        while let Some(source) = self
            .source(&mut trail, depth, sources.len(), &Until::END)
            .await?
        {
            sources.push(source);
        }
        self.listing(sources, trail.path, after).await
    }

    /// Begins to list a directory with these sources, the highest first.
    pub(super) async fn listing(
        &mut self,
        parts: Vec<DirectoryLayer>,
        path: Vec<u8>,
        after: Option<&[u8]>,
    ) -> Result<DirectoryListing, Error<L::Error>> {
        let mut sources = Vec::new();
        let count = parts.len();
        for mut source in parts {
            let layer = source.layer;
            // Whiteouts of the lowest layer hide nothing.
            if sources.len() + 1 == count {
                source.whiteouts = Some(Whiteouts::None);
            }
            let whiteouts = self.whiteouts(&mut source, &path, u64::MAX).await?;
            let next = self.name_after(layer, &path, after).await?;
            self.hold_name(next.as_deref())?;
            sources.push(Listed { source, next });
            if whiteouts == Whiteouts::All {
                break;
            }
        }
        Ok(DirectoryListing { path, sources })
    }

    /// Finds the sources of a directory inside a listed one.
    pub(super) async fn descend(
        &mut self,
        listing: &mut DirectoryListing,
        path: &[u8],
    ) -> Result<Vec<DirectoryLayer>, Error<L::Error>> {
        let mut inner = Vec::new();
        for Listed { source, .. } in &mut listing.sources {
            let (part, replaces) = self.part(source, path, u64::MAX).await?;
            if let SourceEffect::Directory(source, _) = part {
                inner.push(source);
            }
            if replaces || self.hides(source, path, u64::MAX).await? {
                break;
            }
        }
        Ok(inner)
    }

    /// Returns the next name of a listing, with its node unless the name is hidden.
    pub(super) async fn next(
        &mut self,
        listing: &mut DirectoryListing,
    ) -> Result<Option<(Vec<u8>, Option<Node>)>, Error<L::Error>> {
        self.work(STEP * listing.sources.len()).await?;
        let Some(name) = listing.next_name().cloned() else {
            return Ok(None);
        };
        let path = join(&listing.path, &name);
        let node = self.child(&mut listing.sources, &path, &name).await?;
        for Listed { source, next } in &mut listing.sources {
            if next.as_ref() == Some(&name) {
                let after = self
                    .name_after(source.layer, &listing.path, next.as_deref())
                    .await?;
                self.budget.release(next.as_ref().map_or(0, Vec::len));
                self.hold_name(after.as_deref())?;
                *next = after;
            }
        }
        Ok(Some((name, node)))
    }

    /// Counts the memory of the next name of a source. Only the limit for paths bounds a name, and
    /// a listing holds one for each layer.
    fn hold_name(&self, name: Option<&[u8]>) -> Result<(), Error<L::Error>> {
        let length = name.map_or(0, <[u8]>::len);
        self.budget.hold(length).map_err(Error::Spent)
    }

    /// Finds the node of a name from the sources of its directory.
    async fn child(
        &mut self,
        sources: &mut [Listed],
        path: &[u8],
        name: &Vec<u8>,
    ) -> Result<Option<Node>, Error<L::Error>> {
        let mut node = None;
        for Listed { source, next } in sources {
            if next.as_ref() == Some(name) {
                let layer = source.layer;
                match self.part(source, path, u64::MAX).await?.0 {
                    SourceEffect::None => {}
                    SourceEffect::Directory(_, None) => node = Some(Node::Directory),
                    SourceEffect::Directory(_, Some(last)) => {
                        return Ok(self.sited(layer, &last).await?.map(Node::from));
                    }
                    SourceEffect::Other(last) => {
                        if node.is_none() {
                            node = self.sited(layer, &last).await?.map(Node::from);
                        }
                        break;
                    }
                }
            }
            if self.hides(source, path, u64::MAX).await? {
                break;
            }
        }
        Ok(node)
    }
}
