//! The budget of a request that looks into layers and images: seeks, work, memory and pages.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use pollster::block_on;
use strata::{
    budget::{Budget, LookupLimits},
    layer::{
        entry::{Entry, EntryKind},
        tree::{self, ChildPage, Error, FollowLinks, Layers},
    },
};

/// Layers in memory that count the requests to them.
#[derive(Default)]
struct Counted {
    layers: Vec<BTreeMap<Vec<u8>, Vec<Entry>>>,
    seeks: Cell<u64>,
    /// How often other requests had their turn.
    turns: Cell<u64>,
    /// The budget of the last request.
    budget: RefCell<Budget>,
}

/// More than any request may need; it ends a test that would otherwise run for minutes.
const FAR_TOO_MANY: u64 = 2_000_000;

impl Layers for Counted {
    type Error = &'static str;

    fn count(&self) -> usize {
        self.layers.len()
    }

    fn budget(&self) -> Budget {
        self.budget.replace(Budget::default());
        self.budget.borrow().clone()
    }

    async fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    async fn seek(&self, layer: usize, from: &[u8]) -> Result<Option<Vec<Entry>>, &'static str> {
        self.seeks.set(self.seeks.get() + 1);
        if self.seeks.get() > FAR_TOO_MANY {
            return Err("two million seeks, and no end");
        }
        let first = self.layers.get(layer).unwrap().range(from.to_vec()..);
        Ok(first.map(|(_, entries)| entries.clone()).next())
    }
}

impl Counted {
    /// Adds a layer: `dir/`, `file`, `link -> target`, `link = target`.
    fn with(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let mut layer = BTreeMap::<_, Vec<_>>::new();
        for (line, offset) in lines.into_iter().zip(0..) {
            let (path, kind, link) = if let Some((path, target)) = line.split_once(" -> ") {
                (path, EntryKind::SymbolicLink, target)
            } else if let Some((path, target)) = line.split_once(" = ") {
                (path, EntryKind::HardLink, target)
            } else if let Some(path) = line.strip_suffix('/') {
                (path, EntryKind::Directory, "")
            } else {
                (line.as_str(), EntryKind::File, "")
            };
            let entry = Entry {
                path: path.into(),
                kind,
                link: link.into(),
                offset,
                ..Entry::default()
            };
            layer.entry(path.into()).or_default().push(entry);
        }
        self.layers.push(layer);
        self
    }

    fn resolve(&self, path: &str) -> (Result<String, String>, u64) {
        self.seeks.set(0);
        self.turns.set(0);
        let found = block_on(tree::resolve(self, path.as_bytes(), FollowLinks::All));
        let found = found.map(|found| String::from_utf8(found.path).unwrap());
        (found.map_err(|error| error.to_string()), self.seeks.get())
    }

    fn list(
        &self,
        path: &str,
        after: Option<&[u8]>,
    ) -> (Result<ChildPage, Error<&'static str>>, u64) {
        self.seeks.set(0);
        let page = block_on(tree::list(self, path.as_bytes(), after, 1_000));
        (page, self.seeks.get())
    }

    /// All names of a directory, the number of pages, and the most seeks of one page.
    fn pages(&self, path: &str) -> (Vec<String>, usize, u64) {
        let (mut names, mut pages, mut most) = (Vec::new(), 0, 0);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (page, seeks) = self.list(path, after.as_deref());
            let page = page.unwrap();
            pages += 1;
            most = most.max(seeks);
            let found = page.children.iter();
            names.extend(found.map(|child| String::from_utf8(child.name.clone()).unwrap()));
            if !page.more {
                return (names, pages, most);
            }
            let last = page.last.unwrap();
            assert!(after.is_none_or(|after| last > after), "no progress");
            after = Some(last);
        }
    }
}

fn nested(name: &str, depth: usize) -> String {
    vec![name; depth].join("/")
}

/// Directories that are nested so many times.
fn directories(depth: usize) -> impl Iterator<Item = String> {
    (1..=depth).map(|depth| format!("{}/", nested("d", depth)))
}

/// The most seeks of one request.
const SEEKS: u64 = 100_000;

#[test]
fn a_path_of_4000_components_is_refused_before_any_seek() {
    let image = (0..50).fold(Counted::default(), |image, _| image.with(["a".to_owned()]));
    let (found, seeks) = image.resolve(&nested("d", 4_000));
    let error = found.unwrap_err();
    assert!(error.contains("4096 bytes and 256 components"), "{error}");
    assert_eq!(seeks, 0);
}

#[test]
fn a_link_target_is_limited_in_length_as_a_path_is() {
    let link = format!("link -> {}", "a/../".repeat(3_000));
    let layer = directories(300).chain(["d/a/".to_owned(), link]);
    let image = Counted::default().with(layer);
    let (found, seeks) = image.resolve("link");
    let error = found.unwrap_err();
    assert!(error.contains("4096 bytes and 256 components"), "{error}");
    assert!(seeks < 10, "{seeks}");
}

#[test]
fn links_lead_no_deeper_than_a_path() {
    let mut layer: Vec<_> = directories(400).collect();
    layer.push(format!("{}/l -> {}", nested("d", 200), nested("d", 200)));
    let image = Counted::default().with(layer);
    let (found, _) = image.resolve(&format!("{}/l", nested("d", 200)));
    let error = found.unwrap_err();
    assert!(error.contains("256 components"), "{error}");
}

#[test]
fn parent_steps_do_not_restart_the_lookup_at_the_root() {
    let deep = nested("d", 30);
    let lowest = (0..100).map(|number| format!("{deep}/a{number}/x"));
    let mut image = Counted::default().with(lowest.chain([format!("{deep}/f")]));
    for _ in 0..200 {
        image = image.with([format!("{deep}/{}", nested("e", 3))]);
    }
    let steps: String = (0..100).map(|number| format!("a{number}/../")).collect();
    let image = image.with([format!("{deep}/l -> {steps}f")]);
    let (found, seeks) = image.resolve(&format!("{deep}/l"));
    assert_eq!(found.unwrap(), format!("{deep}/f"));
    // Each layer is asked for each directory once, and for the entries of the last directory.
    assert!(seeks < 200 * (2 * 30 + 10), "{seeks}");
}

#[test]
fn a_lookup_that_exceeds_the_budget_is_refused() {
    // Each link leads to directories that only the lowest layer has, so each time all other layers
    // are asked first.
    let deep = nested("d", 100);
    let steps: String = (0..120).map(|number| format!("x{number}/../")).collect();
    let directories = (0..120).map(|number| format!("{deep}/x{number}/"));
    let links = (0..39).map(|number| format!("{deep}/l{number} -> {steps}l{}", number + 1));
    let mut image = Counted::default().with(directories.chain(links));
    for layer in 0..300 {
        image = image.with([format!("{deep}/y{layer}")]);
    }
    let (found, seeks) = image.resolve(&format!("{deep}/l0"));
    assert!(seeks <= SEEKS, "{seeks}");
    let error = found.unwrap_err();
    assert!(error.contains("more than"), "{error}");
    assert!(image.turns.get() > seeks / 4_096, "{}", image.turns.get());
}

#[test]
fn a_chain_of_hard_links_beyond_the_budget_is_refused() {
    let chain = (1..150_000).map(|number| format!("{number} = {}", number - 1));
    let image = Counted::default().with(["0".to_owned()].into_iter().chain(chain));
    let (found, seeks) = image.resolve("149999");
    let error = found.unwrap_err();
    assert!(error.contains("more than"), "{error}");
    assert!(seeks <= SEEKS, "{seeks}");
}

#[test]
fn a_scan_of_removed_entries_ends_with_the_budget() {
    let gone = (0..150_000).map(|number| format!("d/sub/{number}"));
    let layer = gone.chain(["d".to_owned(), "d/".to_owned(), "d/x".to_owned()]);
    let image = Counted::default().with(layer);
    let (page, seeks) = image.list("d", None);
    let error = page.unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
    assert!(seeks <= SEEKS, "{seeks}");
}

#[test]
fn pages_end_within_the_budget_if_every_entry_is_hidden() {
    let names = || (0..30_000).map(|number| format!("{number:05}"));
    let image = Counted::default()
        .with(
            names()
                .map(|name| format!("d/{name}"))
                .chain(["d/~".to_owned()]),
        )
        .with(names().map(|name| format!("d/.wh.{name}")));
    let (names, pages, most) = image.pages("d");
    assert_eq!(names, ["~"]);
    assert!(pages > 1);
    assert!(most <= SEEKS / 2, "{most}");
}

#[test]
fn pages_end_within_the_budget_with_whiteouts_in_many_layers() {
    let mut image = Counted::default().with(
        (0..20_000)
            .map(|number| format!("d/{number:05}"))
            .chain(["d/~".to_owned()]),
    );
    for layer in 0..100 {
        let hidden = (0..200).map(|number| format!("d/.wh.{:05}", number * 100 + layer));
        image = image.with(hidden);
    }
    let (names, pages, most) = image.pages("d");
    assert_eq!(names, ["~"]);
    assert!(pages > 1);
    assert!(most <= SEEKS / 2, "{most}");
}

#[test]
fn heavy_entries_end_a_page_early() {
    let mut image = Counted::default().with((0..2_000).map(|number| format!("d/{number:04}")));
    for entries in image.layers.iter_mut().flat_map(BTreeMap::values_mut) {
        for entry in entries {
            entry.attributes = vec![(b"user.x".to_vec(), vec![7; 60 * 1024])];
        }
    }
    let (page, _) = image.list("d", None);
    let page = page.unwrap();
    assert!(page.more);
    assert!(page.children.len() < 20, "{}", page.children.len());
    let (names, pages, _) = image.pages("d");
    assert_eq!(names.len(), 2_000);
    assert!(pages > 100);
}

#[test]
fn work_without_seeks_counts_against_the_budget() {
    // One entry is found again and again, by a name of which each part could be a directory that
    // sorts before it.
    let names = (0..200).map(|number| format!("d/{number:03}{}", ".".repeat(4_000)));
    let image = Counted::default().with(names);
    let mut after = None;
    let mut pages = 0;
    loop {
        let (page, seeks) = image.list("d", after.as_deref());
        let page = page.unwrap();
        assert!(seeks < 2_000, "{seeks}");
        assert!(image.budget.borrow().worked() <= LookupLimits::REQUEST.work / 2);
        pages += 1;
        after = page.last;
        if !page.more {
            break;
        }
    }
    assert!(pages > 1);
}

/// A realistic image, but with the largest number of layers, and 40,000 files. A base has the
/// files of a package manager and of Python; each further layer installs, changes and removes
/// something.
fn large() -> (Counted, Vec<String>) {
    const LAYERS: usize = 500;
    const BASE: usize = 12_000;
    let packages = "usr/lib/python3/dist-packages";
    let mut base: Vec<String> = [
        "bin -> usr/bin",
        "lib -> usr/lib",
        "usr/",
        "usr/bin/",
        "usr/lib/",
    ]
    .map(str::to_owned)
    .to_vec();
    base.extend(["usr/lib/python3/".to_owned(), format!("{packages}/")]);
    base.extend((0..300).map(|number| format!("usr/bin/tool{number} -> ../lib/tools/run{number}")));
    base.extend((0..300).map(|number| format!("usr/lib/tools/run{number}")));
    base.extend((0..BASE).map(|number| match number % 4 {
        0 => format!("{packages}/package{}/module{}.py", number % 97, number / 97),
        1 => format!("usr/share/doc/package{}/{number}.gz", number % 97),
        2 => format!("var/lib/dpkg/info/package{number}.list"),
        _ => format!("usr/lib/x86_64-linux-gnu/lib{number}.so.{}", number % 9),
    }));
    let mut files: Vec<_> = base
        .iter()
        .filter(|line| !line.ends_with('/') && !line.contains(" -> "))
        .cloned()
        .collect();
    let mut image = Counted::default().with(base);
    for layer in 1..LAYERS {
        let mut lines: Vec<String> = [
            "app/",
            "usr/",
            "usr/lib/",
            "usr/lib/python3/",
            "var/",
            "var/cache/",
        ]
        .map(str::to_owned)
        .to_vec();
        lines.push(format!("{packages}/"));
        lines.push(format!("app/release -> releases/{layer}"));
        let new = (0..60).map(|number| match number % 4 {
            0 => format!("{packages}/added{}/module{layer}-{number}.py", layer / 10),
            1 => format!("app/releases/{}/{layer}-{number}.js", layer / 10),
            2 => format!(
                "app/node_modules/@scope/library{}/dist/esm/{layer}-{number}.js",
                layer % 50
            ),
            _ if layer % 10 == 5 => format!("var/cache/apt/archives/{layer}-{number}.deb"),
            _ => format!("usr/share/locale/{number}/LC_MESSAGES/{layer}.mo"),
        });
        let new: Vec<_> = new.collect();
        let is_removed = |line: &&String| {
            layer % 10 == 5 && line.starts_with("var/cache/") && layer + 5 < LAYERS
        };
        files.extend(new.iter().filter(|line| !is_removed(line)).cloned());
        lines.extend(new);
        // Files that an earlier layer left in the cache are removed.
        if layer % 10 == 0 {
            let gone = (3..60).step_by(4);
            lines.extend(
                gone.map(|number| format!("var/cache/apt/archives/.wh.{}-{number}.deb", layer - 5)),
            );
        }
        image = image.with(lines);
    }
    (image, files)
}

#[test]
fn an_image_of_500_layers_is_listed_and_resolved_in_budget() {
    let (image, files) = large();
    let entries = image.layers.iter().flat_map(BTreeMap::values).map(Vec::len);
    assert!(entries.sum::<usize>() > 40_000);
    let (mut listed, mut most, mut work, mut pages) = (Vec::new(), 0, 0, 0);
    let mut left = vec![String::new()];
    while let Some(path) = left.pop() {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (page, seeks) = image.list(&path, after.as_deref());
            let page = page.unwrap();
            pages += 1;
            most = most.max(seeks);
            work = work.max(image.budget.borrow().worked());
            for child in &page.children {
                let name = String::from_utf8(child.name.clone()).unwrap();
                let inner = format!("{path}{name}");
                if child.node.is_directory() {
                    left.push(format!("{inner}/"));
                } else {
                    listed.push(inner);
                }
            }
            after = page.last;
            if !page.more {
                break;
            }
        }
    }
    listed.retain(|path| {
        !path.starts_with("bin")
            && !path.starts_with("usr/bin/")
            && path != "lib"
            && path != "app/release"
    });
    listed.sort();
    let mut expected = files.clone();
    expected.sort();
    assert_eq!(listed.len(), expected.len());
    assert!(listed == expected);
    let (most_of_pages, work_of_pages) = (most, work);
    (most, work) = (0, 0);
    let links = (0..300).map(|number| format!("bin/tool{number}"));
    for path in files.iter().step_by(797).cloned().chain(links.step_by(29)) {
        let (found, seeks) = image.resolve(&path);
        found.unwrap_or_else(|error| panic!("{path}: {error}"));
        most = most.max(seeks);
        work = work.max(image.budget.borrow().worked());
    }
    println!(
        "{} files, {pages} pages; most of a page: {most_of_pages} seeks, {work_of_pages} bytes; of a file: {most} seeks, {work} bytes; limits: {:?}",
        files.len(),
        LookupLimits::REQUEST
    );
    assert!(most_of_pages.max(most) < LookupLimits::REQUEST.seeks / 3);
    assert!(work_of_pages.max(work) < LookupLimits::REQUEST.work / 3);
}
