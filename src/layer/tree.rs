//! The file system of an image: what comes of its layers, one over the other, found by lookups in their tables of contents.
//!
//! Nothing is merged beforehand. A lookup asks the highest layer first, and the others only while the answer may be theirs. The
//! rules are those of image-spec v1.1.1, `layer.md`, "Applying Changesets" and "Whiteouts":
//!
//! - An entry replaces what the layers below have at its path, with all that is in it, but for a directory over a directory,
//!   which keeps what is in it. Of several entries of a path in one layer, each replaces the one before in the same way.
//! - `.wh.x` takes `x` away from the layers below, and `.wh..wh..opq` all of its directory, wherever in the layer they come.
//!   They are never seen themselves, nor is anything whose path has a component that begins with `.wh.`.
//! - A hard link is what its target was when the link came. What becomes of the target later does not concern it.
//! - A layer that has something in a directory has the directory, be it a whiteout only. Where it has no entry for it, the
//!   directory is described by the highest layer below that has one.
//!
//! Tools differ in one case: a layer has something below a path, no entry for the path itself, and a layer below has a symbolic
//! link there. What extracts over the result of the layers below (umoci, the vfs driver) writes through the link; what extracts
//! each layer by itself, for overlayfs, makes a directory that replaces the link (containerd's `mkparent`: "Replaced, do not
//! copy attributes"; Docker and Podman as well). Here it is the latter, which is what containers run on. The same goes for a
//! file in the place of the link, which umoci refuses.
//!
//! Where link and entry are in the *same* layer, and the entry comes later, all tools write through the link. Which other paths
//! lead to a directory can't be looked up, so a path through such a link is refused ([`Error::Through`]), never answered from
//! the wrong file; the directory that it leads to is shown without that entry. What comes below any other file of the same
//! layer no tool extracts; it is left out.

mod error;
mod layers;
mod listing;
mod lookup;
mod node;
mod overlay;
mod path;
mod resolve;
mod trail;
mod walk;

pub use self::{
    error::{Error, MAX_COMPONENTS, MAX_PATH},
    layers::Layers,
    lookup::SEEN,
    node::{Child, Found, Node, Page, Sited},
    path::check_path,
    resolve::Follow,
    walk::{Walk, walk},
};

use crate::layer::{
    entry::EntryKind,
    tree::{lookup::Lookup, trail::Until},
};

/// Finds what a path leads to. It need not begin with a slash; one that ends in a slash asks for a directory.
pub async fn resolve<L: Layers>(
    layers: &L,
    path: &[u8],
    follow: Follow,
) -> Result<Found, Error<L::Error>> {
    let mut lookup = Lookup::new(layers, layers.budget());
    let (mut found, _) = lookup.find(path, follow, &Until::END).await?;
    if let (Node::Entry(sited), None) = (&found.node, &found.target)
        && sited.entry.kind == EntryKind::HardLink
    {
        found.target = Some(lookup.target(sited).await?);
    }
    Ok(found)
}

/// Lists what is in the directory that a path leads to: up to `limit` names that come after
/// `after`. A page is shorter, or even empty, if the entries take much memory or much work to find.
/// [`Page::last`] is the name to resume after.
pub async fn list<L: Layers>(
    layers: &L,
    path: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Page, Error<L::Error>> {
    let budget = layers.budget();
    let mut lookup = Lookup::new(layers, budget.clone());
    let (found, trail) = lookup.find(path, Follow::All, &Until::END).await?;
    if !found.node.is_directory() {
        return Err(Error::NotADirectory { path: found.path });
    }
    let mut listing = lookup.open(trail, after).await?;
    let mut page = Page::default();
    let mut weight = 0;
    while let Some((name, node)) = lookup.next(&mut listing).await? {
        if let Some(node) = node {
            if page.children.len() == limit || weight > MAX_WEIGHT {
                page.more = true;
                break;
            }
            let mut more = size_of::<Child>() + name.len();
            if let Node::Entry(sited) = &node {
                more += sited.entry.weight();
            }
            weight += more;
            budget.cache(more);
            let name = name.clone();
            page.children.push(Child { name, node });
        }
        page.last = Some(name);
        if budget.is_page_spent() {
            page.more = listing.next_name().is_some();
            break;
        }
    }
    Ok(page)
}

impl<'a, L: Layers> Lookup<'a, L> {}

/// A page that takes so much memory is full.
pub const MAX_WEIGHT: usize = 512 * 1024;

#[cfg(test)]
pub(crate) mod tests;
