//! The file system of an image: its layers over each other, found by lookups in their tables of
//! contents.
//!
//! Nothing is merged in advance. A lookup asks the highest layer first, and lower ones only if they
//! can contribute. The rules are those of image-spec v1.1.1, `layer.md`, "Applying Changesets" and
//! "Whiteouts":
//!
//! - An entry replaces what the layers below have at its path and below it. Only a directory over a
//!   directory keeps its children. Several entries of a path in one layer replace each other in the
//!   same way.
//! - `.wh.x` removes `x` of the layers below, and `.wh..wh..opq` everything in its directory,
//!   wherever they come in the layer. They are never shown, nor is any path with a component that
//!   begins with `.wh.`.
//! - A hard link is what its target was when the link came. Later changes of the target do not
//!   affect it.
//! - A layer that has anything in a directory, even a whiteout, has the directory. If it has no
//!   entry for it, the highest layer below that has one describes it.
//!
//! Tools differ in one case: a layer has something below a path and no entry for the path, and a
//! layer below has a symbolic link there. Tools that extract over the layers below (umoci, the vfs
//! driver) write through the link. Tools that extract each layer alone, for overlayfs, make a
//! directory that replaces the link (containerd's `mkparent`: "Replaced, do not copy attributes";
//! Docker and Podman as well). Lookups do the latter, because containers run on it. The same holds
//! for a file in place of the link, which umoci refuses.
//!
//! If the link and a later entry below it are in the *same* layer, all tools write through the
//! link. Lookups can't find all paths to that directory, so a path through such a link is refused
//! ([`Error::Through`]) instead of showing the wrong file. The directory itself is listed without
//! that entry. No tool extracts entries below any other file of the same layer; they are left out.

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
    node::{Child, ChildPage, Node, Resolved, Sited},
    path::check_path,
    resolve::FollowLinks,
    walk::{Walk, walk},
};

use crate::layer::{
    entry::EntryKind,
    tree::{lookup::Lookup, trail::Until},
};

/// Resolves a path in the file system of an image. It need not begin with a slash. A path that ends
/// in a slash must lead to a directory.
///
/// # Errors
///
/// [`Error`] if nothing is there, if links lead nowhere, if the path is too long, or if the budget
/// is spent.
pub async fn resolve<L: Layers>(
    layers: &L,
    path: &[u8],
    follow: FollowLinks,
) -> Result<Resolved, Error<L::Error>> {
    let mut lookup = Lookup::new(layers, layers.budget());
    let (mut found, _) = lookup.find(path, follow, &Until::END).await?;
    if let (Node::Entry(sited), None) = (&found.node, &found.target)
        && sited.entry.kind == EntryKind::HardLink
    {
        found.target = Some(lookup.target(sited).await?);
    }
    Ok(found)
}

/// Lists a directory of an image: up to `limit` names that come after `after`, in the order of
/// bytes.
///
/// A page is shorter, or even empty, if the entries take much memory or much work to find.
/// [`ChildPage::last`] is the name to resume after.
///
/// # Errors
///
/// Those of [`resolve()`], and [`Error::NotADirectory`] if the path leads to anything else.
pub async fn list<L: Layers>(
    layers: &L,
    path: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<ChildPage, Error<L::Error>> {
    let budget = layers.budget();
    let mut lookup = Lookup::new(layers, budget.clone());
    let (found, trail) = lookup.find(path, FollowLinks::All, &Until::END).await?;
    if !found.node.is_directory() {
        return Err(Error::NotADirectory { path: found.path });
    }
    let mut listing = lookup.open(trail, after).await?;
    let mut page = ChildPage::default();
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

/// The memory of entries that makes a page full, in bytes.
#[doc(hidden)]
pub const MAX_WEIGHT: usize = 512 * 1024;

#[cfg(test)]
pub(crate) mod tests;
