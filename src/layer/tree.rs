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

use std::{
    collections::{BTreeMap, VecDeque},
    error, fmt,
    future::Future,
    ops::Bound,
    rc::Rc,
};

use crate::{
    budget::{Budget, Limits, Spent},
    layer::entry::{Entry, EntryKind},
};

/// The tables of contents of an image's layers, the lowest first.
pub trait Layers {
    /// Why a table of contents can't be read.
    type Error;

    /// How many layers there are.
    fn count(&self) -> usize;

    /// Answers the first path, in the order of bytes, that is not before `from`, with every entry that the layer has for it, in
    /// the order of the archive; none where there is no such path.
    fn seek(
        &self,
        layer: usize,
        from: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<Entry>>, Self::Error>>;

    /// A number that layers with the same table of contents share, so that they share cached
    /// answers.
    fn identity(&self, layer: usize) -> usize {
        layer
    }

    /// The budget of a lookup. The work inside of [`Layers::seek`] counts too if both use the same
    /// budget.
    fn budget(&self) -> Budget {
        Budget::default()
    }

    /// Yields to other requests. A lookup calls it after each few thousand seeks.
    fn turn(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// Which symbolic links a path leads through. Those on the way are always followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Follow {
    /// The last one too, as `stat` does.
    All,
    /// Not the last one, as `lstat` does; but a path that ends in a slash asks for what is behind it.
    Parents,
}

/// An entry, and the layer that it is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sited {
    /// The layer.
    pub layer: usize,
    /// The entry.
    pub entry: Entry,
}

/// What is at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// What an entry says. For a hard link, the link.
    Entry(Box<Sited>),
    /// A directory that has no entry, but something in it; or the root.
    Directory,
}

/// What a path leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Where it is, in the form of [`Entry::path`], with no symbolic link on the way.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// For a hard link, what it links to: the entry that has the bytes and all else, never a hard link itself.
    pub target: Option<Sited>,
}

/// What is in a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub node: Node,
}

/// Some of what is in a directory, in the order of the names' bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// As many children as were asked for, or all that remain. Fewer, even none, if they take much
    /// memory or much work to find.
    pub children: Vec<Child>,
    /// Whether there may be more children.
    pub more: bool,
    /// The name after which the next page begins: the last child's, or that of a hidden one.
    pub last: Option<Vec<u8>>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error<E> {
    /// There is nothing at the path.
    NotFound {
        /// The path that was asked for.
        path: Vec<u8>,
    },
    /// There is a hard link, but there was no file at what it links to when it came.
    Dangling {
        /// Where the link is.
        path: Vec<u8>,
        /// What it links to.
        target: Vec<u8>,
    },
    /// The path goes on after what is not a directory.
    NotADirectory {
        /// Where that is.
        path: Vec<u8>,
    },
    /// More than 40 symbolic links are on the way, those on the way to the target of a hard link included.
    Loop {
        /// The path that was asked for.
        path: Vec<u8>,
    },
    /// The path goes through a symbolic link below which its own layer has entries, so that it is not known what is there.
    Through {
        /// Where the link is.
        path: Vec<u8>,
    },
    /// A path, or the target of a link, is longer than [`MAX_PATH`] or has more than
    /// [`MAX_COMPONENTS`].
    TooLong {
        /// The start of the path.
        start: Vec<u8>,
        /// The length in bytes.
        bytes: usize,
        /// The number of components in the first [`MAX_PATH`] bytes.
        components: usize,
    },
    /// The lookup would exceed the budget of its request.
    Spent(Spent),
    /// A table of contents can't be read.
    Layers(E),
}

impl From<Sited> for Node {
    fn from(sited: Sited) -> Self {
        Self::Entry(Box::new(sited))
    }
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        match self {
            Self::Entry(sited) => sited.entry.kind == EntryKind::Directory,
            Self::Directory => true,
        }
    }
}

impl Found {
    /// The entry that says what it is and has its bytes: for a hard link, what it links to. None for a directory that has none.
    pub fn file(&self) -> Option<&Sited> {
        match (&self.target, &self.node) {
            (Some(target), _) => Some(target),
            (None, Node::Entry(sited)) => Some(sited),
            (None, Node::Directory) => None,
        }
    }
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Layers(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { path } => write!(f, "no such file or directory: {}", shown(path)),
            Self::Dangling { path, target } => {
                let (path, target) = (shown(path), shown(target));
                write!(f, "no such file: {target}, which {path} is a hard link to")
            }
            Self::NotADirectory { path } => write!(f, "not a directory: {}", shown(path)),
            Self::Loop { path } => write!(f, "more than {LINKS} symbolic links: {}", shown(path)),
            Self::Through { path } => {
                write!(
                    f,
                    "a symbolic link with entries below it in its own layer: {}",
                    shown(path)
                )
            }
            Self::TooLong {
                start,
                bytes,
                components,
            } => write!(
                f,
                "path too long, with {bytes} bytes and {components} components of at most {MAX_PATH} bytes and {MAX_COMPONENTS} components: {}…",
                shown(start)
            ),
            Self::Spent(spent) => write!(
                f,
                "the lookup needs {spent}, the limit of one request: ask for a path without links, or look into the layers one by one"
            ),
            Self::Layers(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error> error::Error for Error<E> {}

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

/// Fails if a path exceeds [`MAX_PATH`] or [`MAX_COMPONENTS`].
pub fn check_path<E>(path: &[u8]) -> Result<(), Error<E>> {
    let is_component = |part: &&[u8]| !matches!(*part, b"" | b".");
    let bytes = path.len();
    // Count components only as far as a valid path can go.
    let start = path.get(..=MAX_PATH).unwrap_or(path);
    let parts = start.split(|byte| *byte == b'/');
    let components = parts.filter(is_component).count();
    if bytes <= MAX_PATH && components <= MAX_COMPONENTS {
        return Ok(());
    }
    Err(Error::TooLong {
        start: path.get(..64).unwrap_or(path).to_vec(),
        bytes,
        components,
    })
}

/// Walks a whole image in the order of names, each directory before its children. It has no budget:
/// only the size of the image bounds its cost.
pub fn walk<L: Layers>(layers: &L) -> Walk<'_, L> {
    Walk {
        lookup: Lookup::new(layers, Budget::new(Limits::NONE)),
        begun: false,
        open: Vec::new(),
    }
}

/// A walk of all of an image.
pub struct Walk<'a, L> {
    lookup: Lookup<'a, L>,
    begun: bool,
    open: Vec<Listing>,
}

impl<L: Layers> fmt::Debug for Walk<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("depth", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<L: Layers> Walk<'_, L> {
    /// Answers the next path, in the form of [`Entry::path`], and what is there. None at the end.
    pub async fn next(&mut self) -> Result<Option<(Vec<u8>, Node)>, Error<L::Error>> {
        if !self.begun {
            self.begun = true;
            let (root, trail) = self.lookup.find(b"", Follow::All, &Until::END).await?;
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

/// How far the layers have been applied.
struct Until<'a> {
    /// The highest layer of which there is anything.
    layer: usize,
    /// Its entries up to this offset are there.
    offset: u64,
    /// What has just been taken away, for the entry at this offset to be put in its place.
    gone: Option<&'a [u8]>,
}

impl Until<'_> {
    /// All of them.
    const END: Self = Self {
        layer: usize::MAX,
        offset: u64::MAX,
        gone: None,
    };

    fn offset(&self, layer: usize) -> u64 {
        if layer == self.layer {
            self.offset
        } else {
            u64::MAX
        }
    }
}

/// A component of a path.
#[derive(Debug)]
enum Step {
    Name(Vec<u8>),
    Parent,
    /// What comes before it is a directory.
    Here,
}

/// What is at a path that has no `..` and is not to lead through symbolic links.
enum Located {
    /// A directory, which the trail has entered.
    Directory,
    /// What is not a directory.
    Other(Box<Sited>),
    Missing,
}

/// What one layer has at a path.
struct Place {
    /// The last of the entries that remain.
    last: Option<Last>,
    /// What came up to this offset below the path is gone.
    floor: Option<u64>,
    /// Whether what the layers below have there is gone.
    replaces: bool,
}

/// One of the entries of a path. It is copied only if it is the answer, because it may be large.
struct Last {
    found: Rc<[Entry]>,
    at: usize,
}

impl Last {
    fn entry(&self) -> Option<&Entry> {
        self.found.get(self.at)
    }

    fn is_directory(&self) -> bool {
        self.entry()
            .is_some_and(|entry| entry.kind == EntryKind::Directory)
    }
}

/// The effect of one layer on a path in a directory that the layer is a source of.
enum Part {
    /// Nothing.
    None,
    /// A directory, with its entry if there is one.
    Directory(Source, Option<Last>),
    /// What is not a directory.
    Other(Last),
}

/// A layer that has something in a directory.
#[derive(Clone, Copy, Debug)]
struct Source {
    layer: usize,
    /// What came up to this offset is gone.
    floor: Option<u64>,
    /// Whether the layer may have an entry for the directory.
    has_entry: bool,
    /// The layer's whiteouts in the directory, once they were looked up.
    whiteouts: Option<Whiteouts>,
}

/// The whiteouts of a layer in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whiteouts {
    None,
    /// Whiteouts of single names.
    Names,
    /// An opaque whiteout, which hides everything in lower layers.
    All,
}

impl Source {
    const fn new(layer: usize, floor: Option<u64>, has_entry: bool) -> Self {
        Self {
            layer,
            floor,
            has_entry,
            whiteouts: None,
        }
    }
}

/// The directories from the root to the current one, kept so that `..` costs no new lookup.
struct Trail {
    path: Vec<u8>,
    directories: Vec<Directory>,
}

/// A directory and its sources: the layers that have entries in it, the highest first, found as far
/// as they were needed.
struct Directory {
    /// The length of its path.
    length: usize,
    sources: Vec<Source>,
    /// The number of the parent's sources that were asked so far.
    asked: usize,
    /// Whether there are no more sources.
    is_whole: bool,
    /// The entry in its place if it has no source.
    other: Option<Sited>,
}

impl Trail {
    fn new(count: usize, until: &Until<'_>) -> Self {
        let layers = (0..count).rev().filter(|layer| *layer <= until.layer);
        let root = Directory {
            length: 0,
            sources: layers.map(|layer| Source::new(layer, None, true)).collect(),
            asked: 0,
            is_whole: true,
            other: None,
        };
        Self {
            path: Vec::new(),
            directories: vec![root],
        }
    }

    /// The number of components of the path.
    const fn depth(&self) -> usize {
        self.directories.len() - 1
    }

    fn enter(&mut self, path: Vec<u8>) {
        self.directories.push(Directory {
            length: path.len(),
            sources: Vec::new(),
            asked: 0,
            is_whole: false,
            other: None,
        });
        self.path = path;
    }

    /// Goes back to the directory after so many components, the root at least. Returns the freed
    /// memory in bytes.
    fn back(&mut self, depth: usize) -> usize {
        let left = self
            .directories
            .drain((depth + 1).min(self.directories.len())..);
        let sources = left.map(|directory| directory.sources.len());
        let weight = sources.sum::<usize>() * SOURCE;
        let length = self
            .directories
            .last()
            .map_or(0, |directory| directory.length);
        self.path.truncate(length);
        weight
    }

    /// The path after so many components.
    fn path(&self, depth: usize) -> &[u8] {
        let directory = self.directories.get(depth);
        let path = directory.and_then(|directory| self.path.get(..directory.length));
        path.unwrap_or_default()
    }

    fn source(&self, depth: usize, number: usize) -> Option<Source> {
        self.directories.get(depth)?.sources.get(number).copied()
    }
}

/// A directory that is being listed, and the layers that have a part in it, the highest first.
struct Listing {
    path: Vec<u8>,
    sources: Vec<Listed>,
}

/// A source of a directory that is being listed.
struct Listed {
    source: Source,
    /// The next name.
    next: Option<Vec<u8>>,
}

/// Lookups in tables of contents that remember what they have been answered.
struct Lookup<'a, L> {
    layers: &'a L,
    budget: Budget,
    /// Cached answers: by layer and path, the entries of the first path that is not before it.
    seen: BTreeMap<usize, BTreeMap<Vec<u8>, Rc<[Entry]>>>,
    /// The approximate memory of the cached answers.
    weight: usize,
    /// How many symbolic links were followed.
    links: usize,
    /// How many targets of hard links are being looked for, each on the way to the one before.
    depth: usize,
}

impl<'a, L: Layers> Lookup<'a, L> {
    const fn new(layers: &'a L, budget: Budget) -> Self {
        Self {
            layers,
            budget,
            seen: BTreeMap::new(),
            weight: 0,
            links: 0,
            depth: 0,
        }
    }

    /// Resolves a path in the layers up to `until`. Returns the trail if it is a directory, and the
    /// target of a hard link if that was needed on the way.
    async fn find(
        &mut self,
        path: &[u8],
        follow: Follow,
        until: &Until<'_>,
    ) -> Result<(Found, Trail), Error<L::Error>> {
        let not_found = || Error::NotFound {
            path: path.to_vec(),
        };
        check_path(path)?;
        let mut rest: VecDeque<Step> = steps(path).into();
        let mut trail = Trail::new(self.layers.count(), until);
        loop {
            let name = match rest.pop_front() {
                Some(Step::Here) => continue,
                Some(Step::Parent) => {
                    let left = trail.back(trail.depth().saturating_sub(1));
                    self.budget.release(left);
                    self.work(STEP).await?;
                    continue;
                }
                Some(Step::Name(name)) => name,
                None => {
                    let node = self.describe(&mut trail, until).await?;
                    let found = Found {
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
            let found = |target| Found {
                path: at.clone(),
                node: sited.clone().into(),
                target,
            };
            if rest.is_empty() && follow == Follow::Parents {
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
            let link = &file.entry.link;
            check_path(link)?;
            if link.is_empty() {
                return Err(not_found());
            }
            if link.starts_with(b"/") {
                let left = trail.back(0);
                self.budget.release(left);
            }
            let steps = steps(link);
            self.work(STEP * steps.len()).await?;
            for step in steps.into_iter().rev() {
                rest.push_front(step);
            }
        }
    }

    /// Finds what a hard link links to: what was there when it came.
    async fn target(&mut self, link: &Sited) -> Result<Sited, Error<L::Error>> {
        let dangling = || Error::Dangling {
            path: link.entry.path.clone(),
            target: link.entry.link.clone(),
        };
        let mut last = link.clone();
        // Each was there before the one that links to it, so it ends.
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
            let find = Box::pin(self.find(&last.entry.link, Follow::Parents, &until));
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

    /// Finds a name in the directory of a trail, and enters it if it is a directory.
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

    /// Finds the entry of the directory of a trail.
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

    /// Finds the layer of this number among those that have a part in a directory on a trail.
    async fn source(
        &mut self,
        trail: &mut Trail,
        depth: usize,
        number: usize,
        until: &Until<'_>,
    ) -> Result<Option<Source>, Error<L::Error>> {
        // The source that each parent needs so that its child gets the wanted one.
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
            // A whiteout beside it, in the layer that was asked last, is the end.
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
                Part::None => {}
                Part::Directory(source, _) => {
                    directory.sources.push(source);
                    self.budget.hold(SOURCE).map_err(Error::Spent)?;
                }
                Part::Other(last) => {
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
    async fn part(
        &mut self,
        source: &Source,
        path: &[u8],
        limit: u64,
    ) -> Result<(Part, bool), Error<L::Error>> {
        let Source { layer, floor, .. } = *source;
        let place = self.place(layer, path, floor, limit).await?;
        let inner = |has_entry| Source::new(layer, place.floor, has_entry);
        let part = match place.last {
            Some(last) if last.is_directory() => Part::Directory(inner(true), Some(last)),
            Some(last) => Part::Other(last),
            None if self.beneath(layer, path, floor, limit).await? => {
                Part::Directory(inner(false), None)
            }
            None => Part::None,
        };
        Ok((part, place.replaces))
    }

    /// Begins to list the directory of a trail.
    async fn open(
        &mut self,
        mut trail: Trail,
        after: Option<&[u8]>,
    ) -> Result<Listing, Error<L::Error>> {
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
    async fn listing(
        &mut self,
        parts: Vec<Source>,
        path: Vec<u8>,
        after: Option<&[u8]>,
    ) -> Result<Listing, Error<L::Error>> {
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
        Ok(Listing { path, sources })
    }

    /// Finds which of the layers that have a part in a directory have one in a directory in it.
    async fn descend(
        &mut self,
        listing: &mut Listing,
        path: &[u8],
    ) -> Result<Vec<Source>, Error<L::Error>> {
        let mut inner = Vec::new();
        for Listed { source, .. } in &mut listing.sources {
            let (part, replaces) = self.part(source, path, u64::MAX).await?;
            if let Part::Directory(source, _) = part {
                inner.push(source);
            }
            if replaces || self.hides(source, path, u64::MAX).await? {
                break;
            }
        }
        Ok(inner)
    }

    /// Returns the next name of a listing, with its node unless the name is hidden.
    async fn next(
        &mut self,
        listing: &mut Listing,
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

    /// Counts the memory of the next name of a source of a listing. Nothing but the limit for
    /// paths of layers bounds a name, and a listing holds one for each layer.
    fn hold_name(&self, name: Option<&[u8]>) -> Result<(), Error<L::Error>> {
        let length = name.map_or(0, <[u8]>::len);
        self.budget.hold(length).map_err(Error::Spent)
    }

    /// Finds what the layers that have a part in a directory make of a name in it.
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
                    Part::None => {}
                    Part::Directory(_, None) => node = Some(Node::Directory),
                    Part::Directory(_, Some(last)) => {
                        return Ok(self.sited(layer, &last).await?.map(Node::from));
                    }
                    Part::Other(last) => {
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

    /// Finds the first name in a directory of a layer that comes after another. What is in it is not in the order of names:
    /// `a-b` comes before `a/b`, which is all there need be of `a`.
    async fn name_after(
        &mut self,
        layer: usize,
        path: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, Error<L::Error>> {
        let within = below(path);
        // The root itself is before all that is in it.
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
            // Directories without an entry that come before it by name, and after it by path. The lookup that follows this one
            // anyway shows in most cases that there are none.
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
            // All whiteouts are behind this.
            from = [&within, b".wh/".as_slice()].concat();
        }
    }

    /// The component of the first path from here on that follows on `within`, if it begins so.
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

    /// What a layer has at a path, of what came up to `limit`.
    async fn place(
        &mut self,
        layer: usize,
        path: &[u8],
        floor: Option<u64>,
        limit: u64,
    ) -> Result<Place, Error<L::Error>> {
        let found = self.seek(layer, path).await?;
        let mut place = Place {
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
            // Nothing came below it before it was a directory again.
            if directory && last.is_some_and(|(_, was_directory)| !was_directory) {
                place.floor = Some(entry.offset);
            }
            last = Some((at, directory));
        }
        place.last = last.map(|(at, _)| Last { found, at });
        Ok(place)
    }

    /// Copies an entry.
    async fn sited(&self, layer: usize, last: &Last) -> Result<Option<Sited>, Error<L::Error>> {
        let Some(entry) = last.entry().cloned() else {
            return Ok(None);
        };
        self.work(entry.weight()).await?;
        Ok(Some(Sited { layer, entry }))
    }

    /// Whether a layer has anything below a path that came after the offset `since` and up to `limit`.
    async fn beneath(
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

    /// Whether a layer that has a part in a directory takes a path in it away from the layers below.
    async fn hides(
        &mut self,
        source: &mut Source,
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
    async fn whiteouts(
        &mut self,
        source: &mut Source,
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

    /// Whether a layer has this path, of what came up to `limit`.
    async fn has(
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

    /// Whether a layer has a path that begins so.
    async fn starts(&mut self, layer: usize, prefix: &[u8]) -> Result<bool, Error<L::Error>> {
        let found = self.seek(layer, prefix).await?;
        Ok(path_of(&found).is_some_and(|path| path.starts_with(prefix)))
    }

    /// Answers as [`Layers::seek`] does, from memory where something is known of all that is between. No entries: no path.
    async fn seek(&mut self, layer: usize, from: &[u8]) -> Result<Rc<[Entry]>, Error<L::Error>> {
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
    async fn work(&self, bytes: usize) -> Result<(), Error<L::Error>> {
        self.budget.work(bytes).map_err(Error::Spent)?;
        if self.budget.is_turn() {
            self.layers.turn().await;
        }
        Ok(())
    }
}

impl Listing {
    /// The next name, if there is one.
    fn next_name(&self) -> Option<&Vec<u8>> {
        self.sources
            .iter()
            .filter_map(|listed| listed.next.as_ref())
            .min()
    }
}

fn path_of(found: &[Entry]) -> Option<&[u8]> {
    Some(&found.first()?.path)
}

/// The components of a path that anybody may have written.
fn steps(path: &[u8]) -> Vec<Step> {
    let mut steps: Vec<_> = path
        .split(|byte| *byte == b'/')
        .filter_map(|component| match component {
            b"" | b"." => None,
            b".." => Some(Step::Parent),
            name => Some(Step::Name(name.to_vec())),
        })
        .collect();
    if matches!(path, b"." | [.., b'/'] | [.., b'/', b'.']) {
        steps.push(Step::Here);
    }
    steps
}

/// The path of the directory that a path is in.
fn parent(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.and_then(|at| path.get(..at)).unwrap_or_default()
}

/// The last component of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The path of a name in a directory.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [&below(path), name].concat()
}

/// What all paths in a directory begin with.
fn below(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => Vec::new(),
        path => [path, b"/"].concat(),
    }
}

/// The path of the whiteout that takes this path away.
fn whiteout(path: &[u8]) -> Vec<u8> {
    join(parent(path), &[WHITEOUT, name(path)].concat())
}

/// A path in an error.
fn shown(path: &[u8]) -> String {
    match path {
        b"" => "/".to_owned(),
        path => String::from_utf8_lossy(path).escape_debug().to_string(),
    }
}

/// What the names of whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";

/// The name of the whiteout of all that is in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What follows on the path of a directory is behind all that is in it: the byte after the slash.
const PAST: &[u8] = b"0";

/// How many symbolic links are followed, as on Linux (path_resolution(7)).
const LINKS: usize = 40;

/// A page that takes so much memory is full.
pub const MAX_WEIGHT: usize = 512 * 1024;

/// The memory for cached answers.
pub const SEEN: usize = 512 * 1024;

/// The memory of a cached answer, in addition to its entries and its key.
const ANSWER: usize = 64;

/// The memory of a source of a directory on the trail.
const SOURCE: usize = 2 * size_of::<Source>();

/// The work of one step: a child, a source or an entry that is looked at.
const STEP: usize = 64;

/// The most bytes of a path or of the target of a link: `PATH_MAX` of Linux.
pub const MAX_PATH: usize = 4096;

/// The most components of a path or of the target of a link.
pub const MAX_COMPONENTS: usize = 256;

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, convert::Infallible};

    use super::*;

    /// Layers in memory, which say what they were asked for.
    #[derive(Debug)]
    pub(crate) struct Image {
        layers: Vec<BTreeMap<Vec<u8>, Vec<Entry>>>,
        seeks: RefCell<Vec<(usize, String)>>,
    }

    impl Layers for Image {
        type Error = Infallible;

        fn count(&self) -> usize {
            self.layers.len()
        }

        async fn seek(&self, layer: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, Infallible> {
            let text = String::from_utf8_lossy(from).into_owned();
            self.seeks.borrow_mut().push((layer, text));
            let first = self.layers[layer].range(from.to_vec()..).next();
            Ok(first.map(|(_, entries)| entries.clone()))
        }
    }

    impl Image {
        /// The layers that have been asked, and how often.
        fn asked(&self) -> Vec<usize> {
            let mut asked = vec![0; self.layers.len()];
            for (layer, _) in self.seeks.take() {
                asked[layer] += 1;
            }
            asked
        }
    }

    fn entry(kind: EntryKind, path: &str, link: &str) -> Entry {
        Entry {
            path: path.into(),
            kind,
            link: link.into(),
            ..Entry::default()
        }
    }

    /// An image of layers of entries: `dir/` is a directory, `file` a file, `link -> target` a symbolic link, `link = target` a
    /// hard link. The offset of an entry is its number in its layer.
    fn image(layers: &[&[&str]]) -> Image {
        let parse = |text: &&str| {
            if let Some((path, target)) = text.split_once(" -> ") {
                entry(EntryKind::SymbolicLink, path, target)
            } else if let Some((path, target)) = text.split_once(" = ") {
                entry(EntryKind::HardLink, path, target)
            } else if let Some(path) = text.strip_suffix('/') {
                entry(EntryKind::Directory, path, "")
            } else {
                entry(EntryKind::File, text, "")
            }
        };
        made_of(
            layers
                .iter()
                .map(|layer| layer.iter().map(parse).collect())
                .collect(),
        )
    }

    pub(crate) fn made_of(layers: Vec<Vec<Entry>>) -> Image {
        let sorted = layers.into_iter().map(|layer| {
            let mut paths = BTreeMap::<_, Vec<_>>::new();
            for (mut entry, offset) in layer.into_iter().zip(0..) {
                entry.offset = offset;
                paths.entry(entry.path.clone()).or_default().push(entry);
            }
            paths
        });
        Image {
            layers: sorted.collect(),
            seeks: RefCell::default(),
        }
    }

    /// Layer and number of an entry, and what kind it is; for what has none, its kind only.
    fn summary(node: &Node) -> String {
        match node {
            Node::Entry(sited) => site(sited),
            Node::Directory => "directory".to_owned(),
        }
    }

    fn site(Sited { layer, entry }: &Sited) -> String {
        format!("{} {layer}.{}", entry.kind.name(), entry.offset)
    }

    /// What a path leads to, in a line.
    fn found(image: &Image, path: &str, follow: Follow) -> String {
        match pollster::block_on(resolve(image, path.as_bytes(), follow)) {
            Ok(found) => {
                let path = String::from_utf8(found.path).unwrap();
                let target = found.target.map(|target| format!(" to {}", site(&target)));
                format!(
                    "/{path}: {}{}",
                    summary(&found.node),
                    target.unwrap_or_default()
                )
            }
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn leads(image: &Image, path: &str, expected: &str) {
        assert_eq!(found(image, path, Follow::All), expected);
    }

    #[track_caller]
    fn is_missing(image: &Image, path: &str) {
        leads(image, path, &format!("no such file or directory: {path}"));
    }

    /// The names in a directory, in pages.
    fn pages(image: &Image, path: &str, limit: usize, summary: fn(&Node) -> String) -> Vec<String> {
        let mut names = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = list(image, path.as_bytes(), after.as_deref(), limit);
            let page = pollster::block_on(page).unwrap();
            assert!(page.children.len() == limit || !page.more);
            for child in &page.children {
                let name = String::from_utf8(child.name.clone()).unwrap();
                names.push(format!("{name}: {}", summary(&child.node)));
            }
            if !page.more {
                return names;
            }
            after = page.last;
        }
    }

    #[track_caller]
    fn has(image: &Image, path: &str, expected: &[&str]) {
        for limit in [1, 2, 100] {
            assert_eq!(
                pages(image, path, limit, summary),
                expected,
                "in pages of {limit}"
            );
        }
    }

    fn walked(image: &Image) -> Vec<String> {
        let mut walk = walk(image);
        let mut all = Vec::new();
        while let Some((path, node)) = pollster::block_on(walk.next()).unwrap() {
            all.push(format!(
                "/{}: {}",
                String::from_utf8(path).unwrap(),
                summary(&node)
            ));
        }
        all
    }

    #[test]
    fn the_root_is_a_directory_with_or_without_an_entry() {
        leads(&image(&[]), "", "/: directory");
        leads(&image(&[&["a"]]), "/", "/: directory");
        leads(&image(&[&["/"], &["a"]]), "/", "/: directory 0.0");
        leads(&image(&[&["/"], &["/"]]), ".", "/: directory 1.0");
        has(&image(&[]), "/", &[]);
        has(&image(&[&["/", "a"]]), "/", &["a: file 0.1"]);
    }

    #[test]
    fn a_higher_layer_replaces_a_file_and_adds_to_a_directory() {
        let image = image(&[&["d/", "d/a", "d/b"], &["d/", "d/b", "d/c"]]);
        leads(&image, "d", "/d: directory 1.0");
        leads(&image, "d/a", "/d/a: file 0.1");
        leads(&image, "d/b", "/d/b: file 1.1");
        has(&image, "d", &["a: file 0.1", "b: file 1.1", "c: file 1.2"]);
    }

    #[test]
    fn a_file_replaces_a_directory_with_all_in_it() {
        let image = image(&[&["d/", "d/a", "d/e/", "d/e/b"], &["d"], &["x"]]);
        leads(&image, "d", "/d: file 1.0");
        leads(&image, "d/a", "not a directory: d");
        has(&image, "/", &["d: file 1.0", "x: file 2.0"]);
    }

    #[test]
    fn a_directory_after_a_file_after_a_directory_begins_anew() {
        let three = image(&[&["d/", "d/a"], &["d"], &["d/", "d/b"]]);
        is_missing(&three, "d/a");
        has(&three, "d", &["b: file 2.1"]);
        let two = image(&[&["d/", "d/a"], &["d", "d/", "d/b"]]);
        is_missing(&two, "d/a");
        has(&two, "d", &["b: file 1.2"]);
    }

    #[test]
    fn a_whiteout_hides_lower_layers_only_wherever_it_comes() {
        for layer in [["d/.wh.a", "d/a"], ["d/a", "d/.wh.a"]] {
            let image = image(&[&["d/", "d/a", "d/b"], &layer]);
            let number = layer.iter().position(|path| *path == "d/a").unwrap();
            leads(&image, "d/a", &format!("/d/a: file 1.{number}"));
            leads(&image, "d/b", "/d/b: file 0.2");
        }
        let image = image(&[&["d/", "d/a/", "d/a/x", "d/b"], &["d/.wh.a"], &["d/c"]]);
        is_missing(&image, "d/a");
        is_missing(&image, "d/a/x");
        has(&image, "d", &["b: file 0.3", "c: file 2.0"]);
    }

    #[test]
    fn what_a_whiteout_hid_can_come_back() {
        let image = image(&[&["d/", "d/a"], &[".wh.d"], &["d/", "d/b"]]);
        leads(&image, "d", "/d: directory 2.0");
        has(&image, "d", &["b: file 2.1"]);
    }

    #[test]
    fn an_opaque_directory_hides_lower_layers_only_wherever_it_comes() {
        for layer in [["d/.wh..wh..opq", "d/e/b"], ["d/e/b", "d/.wh..wh..opq"]] {
            let image = image(&[&["d/", "d/a", "d/e/", "d/e/c"], &layer, &["x"]]);
            leads(&image, "d", "/d: directory 0.0");
            is_missing(&image, "d/a");
            is_missing(&image, "d/e/c");
            has(&image, "d", &["e: directory"]);
            let number = layer.iter().position(|path| *path == "d/e/b").unwrap();
            has(&image, "d/e", &[&format!("b: file 1.{number}")]);
        }
    }

    #[test]
    fn the_root_can_be_opaque() {
        let image = image(&[&["a", "d/", "d/b"], &[".wh..wh..opq", "c"]]);
        is_missing(&image, "a");
        is_missing(&image, "d");
        has(&image, "/", &["c: file 1.1"]);
    }

    #[test]
    fn whiteouts_are_never_seen() {
        let whiteouts = image(&[&[
            ".wh.a",
            ".wh..wh..opq",
            ".wh..wh.plnk/1",
            "d/.wh.",
            ".wh/x",
            ".wh.y-z",
            ".wh.y/z",
            "b",
        ]]);
        for path in [
            ".wh.a",
            ".wh..wh..opq",
            ".wh..wh.plnk",
            ".wh..wh.plnk/1",
            "d/.wh.",
        ] {
            is_missing(&whiteouts, path);
        }
        has(
            &whiteouts,
            "/",
            &[".wh: directory", "b: file 0.7", "d: directory"],
        );
        has(&whiteouts, "d", &[]);
        let below = image(&[&[".wh.y-z", ".wh.y/z", "b"]]);
        has(&below, "/", &["b: file 0.2"]);
    }

    #[test]
    fn a_name_that_begins_as_a_whiteout_does_hides_nothing_else() {
        let image = image(&[&["a", "b", "bc"], &[".wh.b", ".wh.x/a"]]);
        has(&image, "/", &["a: file 0.0", "bc: file 0.2"]);
        leads(&image, "bc", "/bc: file 0.2");
    }

    #[test]
    fn of_two_entries_in_a_layer_the_last_one_counts() {
        leads(&image(&[&["a", "a -> b", "a"]]), "a", "/a: file 0.2");
        let twice = image(&[&["d/", "d/a", "d/"]]);
        leads(&twice, "d", "/d: directory 0.2");
        leads(&twice, "d/a", "/d/a: file 0.1");
    }

    #[test]
    fn a_file_after_a_directory_in_a_layer_takes_away_what_came_before_it() {
        let gone = image(&[&["d/", "d/a", "d"]]);
        leads(&gone, "d", "/d: file 0.2");
        leads(&gone, "d/a", "not a directory: d");
        let anew = image(&[&["d/", "d/a", "d/e/x", "d", "d/", "d/b"]]);
        is_missing(&anew, "d/a");
        is_missing(&anew, "d/e");
        has(&anew, "d", &["b: file 0.5"]);
    }

    #[test]
    fn what_comes_below_a_file_of_its_layer_is_left_out() {
        let image = image(&[&["d", "d/a", "d/", "d/b"], &["e", "e/a"]]);
        has(&image, "d", &["b: file 0.3"]);
        is_missing(&image, "d/a");
        leads(&image, "e", "/e: file 1.0");
        leads(&image, "e/a", "not a directory: e");
    }

    #[test]
    fn a_directory_without_an_entry_is_described_by_a_lower_layer() {
        let image = image(&[&["d/", "e/", "f/"], &["d/a", "e", "f/b/c"], &["e/a"]]);
        leads(&image, "d", "/d: directory 0.0");
        leads(&image, "e", "/e: directory");
        leads(&image, "f", "/f: directory 0.2");
        leads(&image, "f/b", "/f/b: directory");
        has(
            &image,
            "/",
            &["d: directory 0.0", "e: directory", "f: directory 0.2"],
        );
    }

    #[test]
    fn a_directory_without_an_entry_replaces_a_lower_symbolic_link() {
        let image = image(&[
            &["usr/", "usr/lib/", "usr/lib/a", "lib -> usr/lib"],
            &["lib/b"],
        ]);
        leads(&image, "lib", "/lib: directory");
        leads(&image, "lib/b", "/lib/b: file 1.0");
        is_missing(&image, "lib/a");
        is_missing(&image, "usr/lib/b");
    }

    #[test]
    fn a_path_through_a_symbolic_link_with_entries_of_its_layer_below_it_is_refused() {
        let through = image(&[&["t/", "l -> t", "l/a"]]);
        let refused = "a symbolic link with entries below it in its own layer: l";
        leads(&through, "l", refused);
        leads(&through, "l/a", refused);
        leads(
            &image(&[&["t/", "t/a"], &["l -> t", "l/.wh.a"]]),
            "l/a",
            refused,
        );
        assert_eq!(found(&through, "l", Follow::Parents), "/l: symlink 0.1");
        leads(
            &image(&[&["t/", "l/a", "l -> t"]]),
            "l",
            "/t: directory 0.0",
        );
    }

    #[test]
    fn a_whiteout_makes_the_directory_that_it_is_in() {
        let image = image(&[&["d"], &["d/.wh.x"]]);
        leads(&image, "d", "/d: directory");
        has(&image, "d", &[]);
    }

    #[test]
    fn symbolic_links_lead_where_they_say() {
        let image = image(&[&[
            "a/",
            "a/b/",
            "a/b/f",
            "rel -> a/b",
            "a/up -> ../a/b/f",
            "abs -> /a",
            "a/b/abs -> /a/b/f",
            "slash -> a/b/f/",
            "nothing -> x",
            "empty -> ",
        ]]);
        leads(&image, "rel", "/a/b: directory 0.1");
        leads(&image, "rel/f", "/a/b/f: file 0.2");
        leads(&image, "a/up", "/a/b/f: file 0.2");
        leads(&image, "abs/up", "/a/b/f: file 0.2");
        leads(&image, "rel/abs", "/a/b/f: file 0.2");
        leads(&image, "slash", "not a directory: a/b/f");
        is_missing(&image, "nothing");
        is_missing(&image, "empty");
        leads(&image, "a/up/x", "not a directory: a/b/f");
        has(&image, "abs/b/", &["abs: symlink 0.6", "f: file 0.2"]);
    }

    #[test]
    fn a_symbolic_link_leads_to_what_any_layer_has() {
        let image = image(&[
            &["v1/", "v1/a", "now -> v1"],
            &["v2/", "v2/a"],
            &["now -> v2"],
            &["v2/a"],
        ]);
        leads(&image, "now/a", "/v2/a: file 3.0");
    }

    #[test]
    fn the_last_symbolic_link_is_not_followed_where_that_is_not_asked_for() {
        let image = image(&[&["d/", "d/m -> n", "l -> d"]]);
        assert_eq!(found(&image, "l", Follow::Parents), "/l: symlink 0.2");
        assert_eq!(found(&image, "l/m", Follow::Parents), "/d/m: symlink 0.1");
        assert_eq!(found(&image, "l/", Follow::Parents), "/d: directory 0.0");
        assert_eq!(found(&image, "l/.", Follow::Parents), "/d: directory 0.0");
    }

    #[test]
    fn nothing_leads_out_of_the_image() {
        let image = image(&[&[
            "a/",
            "a/out -> ../../../etc",
            "etc/",
            "etc/f",
            "b -> /../..",
        ]]);
        leads(&image, "a/out/f", "/etc/f: file 0.3");
        leads(&image, "../../etc/f", "/etc/f: file 0.3");
        leads(&image, "b/etc/f", "/etc/f: file 0.3");
        leads(&image, "a/../..", "/: directory");
    }

    #[test]
    fn dots_and_slashes_are_those_of_a_kernel() {
        let image = image(&[&["a/", "a/b/", "a/b/f", "l -> a/b", "f"]]);
        leads(&image, "//a/./b//f", "/a/b/f: file 0.2");
        leads(&image, "l/..", "/a: directory 0.0");
        leads(&image, "l/../b/f", "/a/b/f: file 0.2");
        leads(&image, "f/", "not a directory: f");
        leads(&image, "f/.", "not a directory: f");
        leads(&image, "f/..", "not a directory: f");
        is_missing(&image, "x/..");
    }

    #[test]
    fn forty_symbolic_links_are_followed_and_no_more() {
        let links: Vec<_> = (1..=41)
            .map(|number| format!("{number} -> {}", number - 1))
            .collect();
        let mut layer: Vec<_> = links.iter().map(String::as_str).collect();
        layer.extend(["0", "x -> y", "y -> x", "self -> self/self"]);
        let image = image(&[&layer]);
        leads(&image, "40", "/0: file 0.41");
        leads(&image, "41", "more than 40 symbolic links: 41");
        leads(&image, "x", "more than 40 symbolic links: x");
        leads(&image, "self/a", "more than 40 symbolic links: self/a");
    }

    #[test]
    fn a_hard_link_is_what_its_target_was_when_it_came() {
        leads(
            &image(&[&["a", "b = a", "a"]]),
            "b",
            "/b: hardlink 0.1 to file 0.0",
        );
        leads(
            &image(&[&["a"], &["b = a", "a"]]),
            "b",
            "/b: hardlink 1.0 to file 0.0",
        );
        leads(
            &image(&[&["a", "b = a"], &[".wh.a"], &["a"]]),
            "b",
            "/b: hardlink 0.1 to file 0.0",
        );
        leads(
            &image(&[&["a"], &["b = a", ".wh.a"]]),
            "b",
            "/b: hardlink 1.0 to file 0.0",
        );
        let image = image(&[&["d/", "d/a"], &["d/", "d/a", "b = d/a", "d", "c = d"]]);
        leads(&image, "b", "/b: hardlink 1.2 to file 1.1");
        leads(&image, "c", "/c: hardlink 1.4 to file 1.3");
    }

    #[test]
    fn a_hard_link_to_a_hard_link_is_the_file() {
        let image = image(&[&["a", "b = a"], &["c = b", "b"], &["d = c"]]);
        leads(&image, "d", "/d: hardlink 2.0 to file 0.0");
    }

    #[test]
    fn a_long_chain_of_hard_links_ends() {
        let mut layer = vec!["0".to_owned()];
        layer.extend((1..2000).map(|number| format!("{number} = {}", number - 1)));
        let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
        leads(&image, "1999", "/1999: hardlink 0.1999 to file 0.0");
    }

    #[test]
    fn hard_links_on_the_way_to_hard_links_end() {
        let mut layer = vec!["t/".to_owned(), "0 -> t".to_owned(), "t/a -> /t".to_owned()];
        let deeper = |number| format!("{number} = {}/a", number - 1);
        layer.extend((1..10_000).map(deeper));
        let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
        leads(&image, "20/a/", "/t: directory 0.0");
        let text = found(&image, "9999/a", Follow::All);
        assert!(text.starts_with("more than 40 symbolic links"), "{text}");
    }

    #[test]
    fn a_hard_link_to_a_symbolic_link_is_that_link() {
        let image = image(&[&["d/", "d/f", "s -> d", "h = s", "e/", "e/h = s"], &["s"]]);
        assert_eq!(
            found(&image, "h", Follow::Parents),
            "/h: hardlink 0.3 to symlink 0.2"
        );
        leads(&image, "h", "/d: directory 0.0");
        leads(&image, "h/f", "/d/f: file 0.1");
        is_missing(&image, "e/h");
    }

    #[test]
    fn a_hard_link_is_found_through_symbolic_links_of_its_time() {
        let image = image(&[
            &["d/", "d/f", "s -> d", "e/", "e/f"],
            &["h = s/f", "s -> e"],
        ]);
        leads(&image, "h", "/h: hardlink 1.0 to file 0.1");
        leads(&image, "s/f", "/e/f: file 0.4");
    }

    #[test]
    fn a_hard_link_comes_after_the_directory_that_it_is_in() {
        let image = image(&[&["d/", "d/f", "s -> d"], &["h = s/f", "s/h = s/f"]]);
        leads(&image, "h", "/h: hardlink 1.0 to file 0.1");
        let text = "no such file: s/f, which s/h is a hard link to";
        leads(&image, "s/h", text);
    }

    #[test]
    fn a_hard_link_to_nothing_says_so() {
        let text = "no such file: a, which b is a hard link to";
        leads(&image(&[&["b = a"]]), "b", text);
        leads(&image(&[&["b = a", "a"]]), "b", text);
        leads(&image(&[&["b = a"], &["a"]]), "b", text);
        leads(&image(&[&["a/", "b = a"]]), "b", text);
        leads(&image(&[&["a"], &[".wh.a", "b = a"]]), "b", text);
        leads(&image(&[&["b = a"]]), "b/c", text);
        leads(
            &image(&[&["a = a"]]),
            "a",
            "no such file: a, which a is a hard link to",
        );
        // The directory goes to make room for the link.
        let image = image(&[&["a/", "a/f"], &["a = a/f"]]);
        leads(&image, "a", "no such file: a/f, which a is a hard link to");
        has(&image, "/", &["a: hardlink 1.0"]);
    }

    #[test]
    fn names_are_in_the_order_of_bytes_whether_they_have_entries_or_not() {
        let image = image(&[
            &["a-b", "a.c", "a/x", "a0", "a"],
            &["b-/x", "b/y", "b.d", "b./z", "b!"],
        ]);
        has(
            &image,
            "/",
            &[
                "a: file 0.4",
                "a-b: file 0.0",
                "a.c: file 0.1",
                "a0: file 0.3",
                "b: directory",
                "b!: file 1.4",
                "b-: directory",
                "b.: directory",
                "b.d: file 1.2",
            ],
        );
    }

    #[test]
    fn a_page_begins_after_any_name() {
        let image = image(&[&["a/x", "a-b", "c"]]);
        for (after, count) in [
            ("", 3),
            ("a", 2),
            ("a-", 2),
            ("a-b", 1),
            ("b", 1),
            ("c", 0),
            ("d", 0),
        ] {
            let page = pollster::block_on(list(&image, b"/", Some(after.as_bytes()), 9)).unwrap();
            assert_eq!(
                (page.children.len(), page.more),
                (count, false),
                "after {after}"
            );
        }
        let none = pollster::block_on(list(&image, b"/", None, 0)).unwrap();
        assert!(none.children.is_empty() && none.more);
    }

    #[test]
    fn what_is_no_directory_is_not_listed() {
        let image = image(&[&["f", "l -> f"]]);
        let error = pollster::block_on(list(&image, b"l", None, 9)).unwrap_err();
        assert_eq!(error.to_string(), "not a directory: f");
    }

    #[test]
    fn a_walk_passes_each_directory_before_what_is_in_it() {
        let image = image(&[
            &["a/", "a/x", "a-b", "l -> a"],
            &["a/y/z", ".wh.l", "b/.wh.x"],
        ]);
        let expected = [
            "/: directory",
            "/a: directory 0.0",
            "/a/x: file 0.1",
            "/a/y: directory",
            "/a/y/z: file 1.0",
            "/a-b: file 0.2",
            "/b: directory",
        ];
        assert_eq!(walked(&image), expected);
    }

    #[test]
    fn what_is_in_the_highest_layer_is_found_there() {
        let lower: &[&str] = &["usr/", "usr/bin/", "usr/bin/a", "usr/bin/b"];
        let image = image(&[lower, lower, lower]);
        leads(&image, "usr/bin/a", "/usr/bin/a: file 2.2");
        assert_eq!(image.asked(), [0, 0, 3]);
    }

    #[test]
    fn a_layer_is_asked_twice_for_each_directory_on_the_way_that_it_has() {
        let image = image(&[
            &["usr/", "usr/bin/", "usr/bin/a"],
            &["usr/", "usr/lib/", "usr/lib/b"],
            &["etc/", "etc/c"],
        ]);
        leads(&image, "usr/bin/a", "/usr/bin/a: file 0.2");
        // Entry and whiteouts in the root of both; in the second, also in usr, of which it has no bin.
        assert_eq!(image.asked(), [3, 4, 2]);
    }

    #[test]
    fn a_whiteout_on_the_way_is_the_last_that_is_asked_for() {
        let image = image(&[&["d/", "d/a"], &["d/.wh.a"], &["e"]]);
        is_missing(&image, "d/a");
        assert_eq!(image.asked()[0], 0);
    }

    #[test]
    fn a_listing_passes_over_what_is_further_below() {
        let mut layer = Vec::new();
        for name in ["a", "b", "c.d"] {
            layer.push(format!("top/{name}/"));
            layer.extend((0..3_333).map(|number| format!("top/{name}/{}/{number}", number % 7)));
        }
        let layer: Vec<_> = layer.iter().map(String::as_str).collect();
        let image = image(&[&layer, &["top/"]]);
        let names = pages(&image, "top", 100, summary);
        assert_eq!(
            names,
            [
                "a: directory 0.0",
                "b: directory 0.3334",
                "c.d: directory 0.6668"
            ]
        );
        let asked: usize = image.asked().iter().sum();
        assert!(asked <= 20, "{asked}");
    }

    #[test]
    fn a_listing_asks_about_once_for_each_file() {
        let layer: Vec<_> = (0..1000)
            .map(|number| format!("lib/lib{number:03}.so.{number}"))
            .collect();
        let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
        assert_eq!(pages(&image, "lib", 2000, summary).len(), 1000);
        let asked: usize = image.asked().iter().sum();
        assert!(asked <= 1010, "{asked}");
    }

    #[test]
    fn what_a_table_of_contents_fails_with_is_passed_on() {
        struct Broken;
        impl Layers for Broken {
            type Error = &'static str;

            fn count(&self) -> usize {
                1
            }

            async fn seek(&self, _: usize, _: &[u8]) -> Result<Option<Vec<Entry>>, &'static str> {
                Err("unreadable")
            }
        }
        let error = pollster::block_on(resolve(&Broken, b"a", Follow::All)).unwrap_err();
        assert_eq!(error, Error::Layers("unreadable"));
        assert_eq!(error.to_string(), "unreadable");
    }

    /// Layers that are applied to a file system in memory, entry by entry.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) mod model {
        use proptest::prelude::*;

        use super::*;

        /// Layer and number of an entry.
        type Site = (usize, usize);

        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        enum Failure {
            NotFound,
            Dangling,
            NotADirectory,
            Loop,
            Through,
        }

        /// What has names: what was made by one entry.
        #[derive(Clone, Debug)]
        struct Inode {
            site: Site,
            link: Option<Vec<u8>>,
        }

        /// A file with the inode that it had at once, or why it has none.
        #[derive(Clone, Debug)]
        struct Leaf {
            site: Site,
            hard: bool,
            inode: Result<Inode, Failure>,
            /// How many symbolic links led to the inode.
            links: usize,
            /// Whether there are entries below it in its layer.
            through: bool,
        }

        #[derive(Clone, Debug)]
        struct Directory {
            entry: Option<Site>,
            /// The last layer that had something in it.
            layer: usize,
            children: BTreeMap<Vec<u8>, Thing>,
        }

        #[derive(Clone, Debug)]
        enum Thing {
            Leaf(Leaf),
            Directory(Directory),
        }

        impl Directory {
            fn new(layer: usize) -> Self {
                Self {
                    entry: None,
                    layer,
                    children: BTreeMap::new(),
                }
            }

            /// The directory that a name is in, made where it is not there; none below a file of the same layer.
            fn make(&mut self, names: &[&[u8]], layer: usize) -> Option<&mut Self> {
                self.layer = layer;
                let Some((first, rest)) = names.split_first() else {
                    return Some(self);
                };
                let child = self.children.entry(first.to_vec());
                let child = child.or_insert_with(|| Thing::Directory(Self::new(layer)));
                match child {
                    Thing::Leaf(leaf) if leaf.site.0 == layer => {
                        leaf.through = true;
                        return None;
                    }
                    Thing::Leaf(_) => *child = Thing::Directory(Self::new(layer)),
                    Thing::Directory(_) => {}
                }
                match child {
                    Thing::Directory(directory) => directory.make(rest, layer),
                    Thing::Leaf(_) => unreachable!(),
                }
            }

            /// Removes what is not of this layer.
            fn clear(&mut self, layer: usize) {
                self.children.retain(|_, child| match child {
                    Thing::Leaf(leaf) => leaf.site.0 == layer,
                    Thing::Directory(directory) => {
                        directory.entry = directory.entry.filter(|site| site.0 == layer);
                        directory.clear(layer);
                        directory.layer == layer
                    }
                });
            }

            fn at(&self, path: &[Vec<u8>]) -> Option<&Thing> {
                let (last, parents) = path.split_last()?;
                let mut directory = self;
                for name in parents {
                    match directory.children.get(name)? {
                        Thing::Directory(inner) => directory = inner,
                        Thing::Leaf(_) => return None,
                    }
                }
                directory.children.get(last)
            }

            /// What a path leads to, and how many symbolic links it took.
            fn resolve(
                &self,
                path: &[u8],
                follow: Follow,
            ) -> (usize, Result<Vec<Vec<u8>>, Failure>) {
                let mut links = 0;
                let found = self.lead(path, follow, &mut links);
                (links, found)
            }

            fn lead(
                &self,
                path: &[u8],
                follow: Follow,
                links: &mut usize,
            ) -> Result<Vec<Vec<u8>>, Failure> {
                let components = |path: &[u8]| {
                    let all: Vec<_> = path
                        .split(|byte| *byte == b'/')
                        .map(<[u8]>::to_vec)
                        .collect();
                    all
                };
                let mut rest: VecDeque<_> = components(path).into();
                let mut at: Vec<Vec<u8>> = Vec::new();
                while let Some(name) = rest.pop_front() {
                    match name.as_slice() {
                        b"" | b"." => continue,
                        b".." => {
                            at.pop();
                            continue;
                        }
                        _ => at.push(name),
                    }
                    let leaf = match self.at(&at).ok_or(Failure::NotFound)? {
                        Thing::Directory(_) => continue,
                        Thing::Leaf(leaf) => leaf,
                    };
                    if rest.is_empty() && follow == Follow::Parents {
                        break;
                    }
                    *links += leaf.links;
                    if *links > 40 {
                        return Err(Failure::Loop);
                    }
                    let inode = leaf.inode.as_ref().map_err(|failure| *failure)?;
                    if let Some(link) = &inode.link {
                        *links += 1;
                        if *links > 40 {
                            return Err(Failure::Loop);
                        }
                        if leaf.through {
                            return Err(Failure::Through);
                        }
                        if link.is_empty() {
                            return Err(Failure::NotFound);
                        }
                        at.pop();
                        if link.starts_with(b"/") {
                            at.clear();
                        }
                        for name in components(link).into_iter().rev() {
                            rest.push_front(name);
                        }
                    } else if !rest.is_empty() {
                        return Err(Failure::NotADirectory);
                    }
                }
                Ok(at)
            }

            fn apply(&mut self, site: Site, entry: &Entry) {
                let layer = site.0;
                if entry.path.is_empty() {
                    self.entry = Some(site);
                    return;
                }
                let names: Vec<_> = entry.path.split(|byte| *byte == b'/').collect();
                let seen = names
                    .iter()
                    .take_while(|name| !name.starts_with(b".wh."))
                    .count();
                let last = names[seen.min(names.len() - 1)];
                let Some(parent) = self.make(&names[..seen.min(names.len() - 1)], layer) else {
                    return;
                };
                if seen + 1 < names.len() {
                    return;
                }
                if last == b".wh..wh..opq" {
                    parent.clear(layer);
                    return;
                }
                if let Some(name) = last.strip_prefix(b".wh.") {
                    let mut alone = Self::new(layer);
                    alone.children.extend(parent.children.remove_entry(name));
                    alone.clear(layer);
                    parent.children.append(&mut alone.children);
                    return;
                }
                if entry.kind == EntryKind::Directory {
                    let child = parent.children.entry(last.to_vec());
                    let child = child.or_insert_with(|| Thing::Directory(Self::new(layer)));
                    if matches!(child, Thing::Leaf(_)) {
                        *child = Thing::Directory(Self::new(layer));
                    }
                    if let Thing::Directory(directory) = child {
                        directory.entry = Some(site);
                        directory.layer = layer;
                    }
                    return;
                }
                parent.children.remove(last);
                let (links, inode) = match entry.kind {
                    EntryKind::HardLink => self.linked(&entry.link),
                    EntryKind::SymbolicLink => (
                        0,
                        Ok(Inode {
                            site,
                            link: Some(entry.link.clone()),
                        }),
                    ),
                    _ => (0, Ok(Inode { site, link: None })),
                };
                let leaf = Leaf {
                    site,
                    hard: entry.kind == EntryKind::HardLink,
                    inode,
                    links,
                    through: false,
                };
                let parent = self.make(&names[..names.len() - 1], layer).unwrap();
                parent.children.insert(last.to_vec(), Thing::Leaf(leaf));
            }

            fn linked(&self, target: &[u8]) -> (usize, Result<Inode, Failure>) {
                let (links, found) = self.resolve(target, Follow::Parents);
                match found {
                    Ok(path) => match self.at(&path) {
                        Some(Thing::Leaf(leaf)) => (links + leaf.links, leaf.inode.clone()),
                        _ => (links, Err(Failure::Dangling)),
                    },
                    Err(Failure::NotFound | Failure::NotADirectory) => {
                        (links, Err(Failure::Dangling))
                    }
                    Err(failure) => (links, Err(failure)),
                }
            }

            /// As [`found`] has it.
            fn found(&self, path: &[u8], follow: Follow) -> Result<String, Failure> {
                let (mut links, found) = self.resolve(path, follow);
                let at = found?;
                let path = String::from_utf8(at.join(&b'/')).unwrap();
                let is = match self.at(&at) {
                    Some(Thing::Leaf(leaf)) if leaf.hard => {
                        if follow == Follow::Parents {
                            links += leaf.links;
                        }
                        if links > 40 {
                            return Err(Failure::Loop);
                        }
                        let inode = leaf.inode.as_ref().map_err(|failure| *failure)?;
                        format!("{:?} to {:?}", leaf.site, inode.site)
                    }
                    Some(thing) => thing.summary(),
                    None => Thing::Directory(self.clone()).summary(),
                };
                Ok(format!("/{path}: {is}"))
            }

            fn list(&self) -> Vec<String> {
                let children = self.children.iter();
                let line = |(name, thing): (&Vec<u8>, &Thing)| {
                    format!("{}: {}", String::from_utf8_lossy(name), thing.summary())
                };
                children.map(line).collect()
            }

            fn walk(&self, path: &str, all: &mut Vec<(String, Option<Vec<String>>)>) {
                for (name, thing) in &self.children {
                    let path = format!("{path}/{}", String::from_utf8_lossy(name));
                    let line = format!("{path}: {}", thing.summary());
                    match thing {
                        Thing::Leaf(_) => all.push((line, None)),
                        Thing::Directory(directory) => {
                            all.push((line, Some(directory.list())));
                            directory.walk(&path, all);
                        }
                    }
                }
            }
        }

        impl Thing {
            fn summary(&self) -> String {
                match self {
                    Self::Leaf(leaf) => format!("{:?}", leaf.site),
                    Self::Directory(Directory {
                        entry: Some(site), ..
                    }) => format!("{site:?}"),
                    Self::Directory(_) => "directory".to_owned(),
                }
            }
        }

        fn place(node: &Node) -> String {
            match node {
                Node::Entry(sited) => format!("{:?}", (sited.layer, sited.entry.offset)),
                Node::Directory => "directory".to_owned(),
            }
        }

        fn actual(image: &Image, path: &[u8], follow: Follow) -> Result<String, Failure> {
            match pollster::block_on(resolve(image, path, follow)) {
                Ok(found) => {
                    let path = String::from_utf8(found.path).unwrap();
                    let target = found
                        .target
                        .map(|target| format!(" to {}", place(&target.into())));
                    Ok(format!(
                        "/{path}: {}{}",
                        place(&found.node),
                        target.unwrap_or_default()
                    ))
                }
                Err(Error::NotFound { .. }) => Err(Failure::NotFound),
                Err(Error::Dangling { .. }) => Err(Failure::Dangling),
                Err(Error::NotADirectory { .. }) => Err(Failure::NotADirectory),
                Err(Error::Loop { .. }) => Err(Failure::Loop),
                Err(Error::Through { .. }) => Err(Failure::Through),
                Err(error @ (Error::TooLong { .. } | Error::Spent(_))) => panic!("{error}"),
                Err(Error::Layers(never)) => match never {},
            }
        }

        const NAMES: [&str; 3] = ["a", "a-", "b"];

        fn paths() -> Vec<String> {
            let mut paths = vec![String::new()];
            let mut last = paths.clone();
            for _ in 0..3 {
                let deeper = |path: &String| NAMES.map(|name| format!("{path}/{name}"));
                last = last.iter().flat_map(deeper).collect();
                paths.extend(last.clone());
            }
            paths
        }

        fn any_name() -> impl Strategy<Value = &'static str> {
            prop_oneof![8 => proptest::sample::select(&NAMES[..]), 1 => Just(".wh.a"), 1 => Just(".wh.b")]
        }

        fn any_path() -> impl Strategy<Value = String> {
            let names = proptest::collection::vec(any_name(), 1..=3);
            names.prop_map(|names| names.join("/"))
        }

        pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
            let links = [
                "a", "b", "a-", "a/b", "b/a", "/a", "/b/a-", "..", "../a", "../b/a", "../../..",
                "/", ".", "a/", "a/..", "x", "", "a-/../b",
            ];
            let link = proptest::sample::select(links.to_vec());
            prop_oneof![
                5 => any_path().prop_map(|path| entry(EntryKind::File, &path, "")),
                5 => any_path().prop_map(|path| entry(EntryKind::Directory, &path, "")),
                5 => (any_path(), link).prop_map(|(path, link)| entry(EntryKind::SymbolicLink, &path, link)),
                5 => (any_path(), any_path()).prop_map(|(path, link)| entry(EntryKind::HardLink, &path, &link)),
                2 => any_path().prop_map(|path| entry(EntryKind::File, &format!("{path}/.wh..wh..opq"), "")),
                1 => Just(entry(EntryKind::File, ".wh..wh..opq", "")),
                1 => Just(entry(EntryKind::Directory, "", "")),
            ]
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn a_layer_that_follows_on_itself_changes_nothing(
                layers in proptest::collection::vec((proptest::collection::vec(any_entry(), 0..7), 1_usize..4), 1..5),
            ) {
                let times = layers.iter().zip(0..).flat_map(|((_, times), layer)| vec![layer; *times]);
                let times: Vec<usize> = times.collect();
                let entries = |layer: &usize| layers[*layer].0.clone();
                let naive = made_of(times.iter().map(entries).collect());
                let once = made_of((0..layers.len()).map(|layer| entries(&layer)).collect());
                let of_naive = |mut node: Node| {
                    if let Node::Entry(sited) = &mut node {
                        sited.layer = times[sited.layer];
                    }
                    node
                };
                let (mut many, mut one) = (walk(&naive), walk(&once));
                loop {
                    let found = pollster::block_on(many.next()).unwrap();
                    let expected = pollster::block_on(one.next()).unwrap();
                    let is_end = expected.is_none();
                    prop_assert_eq!(found.map(|(path, node)| (path, of_naive(node))), expected);
                    if is_end {
                        break;
                    }
                }
                // A hard link may lead to what the layer itself put there the time before.
                let is_hard = |entry: &Entry| entry.kind == EntryKind::HardLink;
                if layers.iter().any(|(layer, _)| layer.iter().any(is_hard)) {
                    return Ok(());
                }
                for path in paths() {
                    for end in ["", "/", "/..", "/../b"] {
                        let path = format!("{path}{end}").into_bytes();
                        for follow in [Follow::All, Follow::Parents] {
                            let found = pollster::block_on(resolve(&naive, &path, follow));
                            let found = found.map(|found| (found.path, of_naive(found.node)));
                            let expected = pollster::block_on(resolve(&once, &path, follow));
                            prop_assert_eq!(found, expected.map(|found| (found.path, found.node)));
                        }
                    }
                }
            }

            #[test]
            fn lookups_find_what_applying_the_layers_makes(
                layers in proptest::collection::vec(proptest::collection::vec(any_entry(), 0..7), 1..5),
            ) {
                let mut root = Directory::new(0);
                for (number, layer) in layers.iter().enumerate() {
                    for (offset, entry) in layer.iter().enumerate() {
                        root.apply((number, offset), entry);
                    }
                }
                let image = made_of(layers);
                for path in paths() {
                    for end in ["", "/", "/..", "/../b"] {
                        let path = format!("{path}{end}");
                        for follow in [Follow::All, Follow::Parents] {
                            let expected = root.found(path.as_bytes(), follow);
                            let actual = actual(&image, path.as_bytes(), follow);
                            prop_assert_eq!(actual, expected, "{} {:?}", path, follow);
                        }
                    }
                }
                let summary = Thing::Directory(root.clone()).summary();
                let mut expected = vec![(format!("/: {summary}"), Some(root.list()))];
                root.walk("", &mut expected);
                let mut walk = walk(&image);
                for (line, list) in expected {
                    let (path, node) = pollster::block_on(walk.next()).unwrap().unwrap();
                    let path = String::from_utf8(path).unwrap();
                    prop_assert_eq!(format!("/{path}: {}", place(&node)), line);
                    let Some(list) = list else { continue };
                    for limit in [1, 2, 9] {
                        prop_assert_eq!(&pages(&image, &path, limit, place), &list, "{} by {}", path, limit);
                    }
                }
                prop_assert_eq!(pollster::block_on(walk.next()).unwrap(), None);
            }
        }
    }
}
