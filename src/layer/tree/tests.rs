use std::{cell::RefCell, collections::BTreeMap, convert::Infallible};

use super::*;
use crate::layer::entry::Entry;

/// Layers in memory, which record the seeks.
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

/// An image of layers of entries: `dir/` is a directory, `file` a file, `link -> target` a symbolic
/// link, `link = target` a hard link. The offset of an entry is its number in its layer.
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

/// Layer, number and kind of an entry. The kind alone for directories without an entry.
fn summary(node: &Node) -> String {
    match node {
        Node::Entry(sited) => site(sited),
        Node::Directory => "directory".to_owned(),
    }
}

fn site(Sited { layer, entry }: &Sited) -> String {
    format!("{} {layer}.{}", entry.kind.name(), entry.offset)
}

/// The result of resolving a path, in a line.
fn found(image: &Image, path: &str, follow: FollowLinks) -> String {
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
    assert_eq!(found(image, path, FollowLinks::All), expected);
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
fn a_directory_that_follows_a_file_starts_empty() {
    let three = image(&[&["d/", "d/a"], &["d"], &["d/", "d/b"]]);
    is_missing(&three, "d/a");
    has(&three, "d", &["b: file 2.1"]);
    let two = image(&[&["d/", "d/a"], &["d", "d/", "d/b"]]);
    is_missing(&two, "d/a");
    has(&two, "d", &["b: file 1.2"]);
}

#[test]
fn a_whiteout_at_any_position_hides_only_lower_layers() {
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
fn a_directory_hidden_by_a_whiteout_can_be_recreated() {
    let image = image(&[&["d/", "d/a"], &[".wh.d"], &["d/", "d/b"]]);
    leads(&image, "d", "/d: directory 2.0");
    has(&image, "d", &["b: file 2.1"]);
}

#[test]
fn an_opaque_whiteout_at_any_position_hides_only_lower_layers() {
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
fn a_whiteout_does_not_hide_names_that_begin_with_its_name() {
    let image = image(&[&["a", "b", "bc"], &[".wh.b", ".wh.x/a"]]);
    has(&image, "/", &["a: file 0.0", "bc: file 0.2"]);
    leads(&image, "bc", "/bc: file 0.2");
}

#[test]
fn the_last_of_several_entries_in_a_layer_counts() {
    leads(&image(&[&["a", "a -> b", "a"]]), "a", "/a: file 0.2");
    let twice = image(&[&["d/", "d/a", "d/"]]);
    leads(&twice, "d", "/d: directory 0.2");
    leads(&twice, "d/a", "/d/a: file 0.1");
}

#[test]
fn a_file_after_a_directory_in_its_layer_removes_its_entries() {
    let gone = image(&[&["d/", "d/a", "d"]]);
    leads(&gone, "d", "/d: file 0.2");
    leads(&gone, "d/a", "not a directory: d");
    let anew = image(&[&["d/", "d/a", "d/e/x", "d", "d/", "d/b"]]);
    is_missing(&anew, "d/a");
    is_missing(&anew, "d/e");
    has(&anew, "d", &["b: file 0.5"]);
}

#[test]
fn entries_below_a_file_of_their_layer_are_left_out() {
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
fn a_symbolic_link_with_entries_below_it_is_refused() {
    let through = image(&[&["t/", "l -> t", "l/a"]]);
    let refused = "a symbolic link with entries below it in its own layer: l";
    leads(&through, "l", refused);
    leads(&through, "l/a", refused);
    leads(
        &image(&[&["t/", "t/a"], &["l -> t", "l/.wh.a"]]),
        "l/a",
        refused,
    );
    assert_eq!(
        found(&through, "l", FollowLinks::Parents),
        "/l: symlink 0.1"
    );
    leads(
        &image(&[&["t/", "l/a", "l -> t"]]),
        "l",
        "/t: directory 0.0",
    );
}

#[test]
fn a_whiteout_creates_its_parent_directory() {
    let image = image(&[&["d"], &["d/.wh.x"]]);
    leads(&image, "d", "/d: directory");
    has(&image, "d", &[]);
}

#[test]
fn symbolic_links_lead_to_their_targets() {
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
fn a_symbolic_link_leads_to_targets_in_any_layer() {
    let image = image(&[
        &["v1/", "v1/a", "now -> v1"],
        &["v2/", "v2/a"],
        &["now -> v2"],
        &["v2/a"],
    ]);
    leads(&image, "now/a", "/v2/a: file 3.0");
}

#[test]
fn a_final_symbolic_link_is_not_followed_unless_requested() {
    let image = image(&[&["d/", "d/m -> n", "l -> d"]]);
    assert_eq!(found(&image, "l", FollowLinks::Parents), "/l: symlink 0.2");
    assert_eq!(
        found(&image, "l/m", FollowLinks::Parents),
        "/d/m: symlink 0.1"
    );
    assert_eq!(
        found(&image, "l/", FollowLinks::Parents),
        "/d: directory 0.0"
    );
    assert_eq!(
        found(&image, "l/.", FollowLinks::Parents),
        "/d: directory 0.0"
    );
}

#[test]
fn no_path_leads_out_of_the_image() {
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
fn dots_and_slashes_resolve_as_in_a_kernel() {
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
fn a_hard_link_leads_to_its_target_at_the_time_of_the_link() {
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
fn a_long_chain_of_hard_links_is_followed() {
    let mut layer = vec!["0".to_owned()];
    layer.extend((1..2000).map(|number| format!("{number} = {}", number - 1)));
    let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
    leads(&image, "1999", "/1999: hardlink 0.1999 to file 0.0");
}

#[test]
fn nested_hard_links_are_limited_as_symbolic_links_are() {
    let mut layer = vec!["t/".to_owned(), "0 -> t".to_owned(), "t/a -> /t".to_owned()];
    let deeper = |number| format!("{number} = {}/a", number - 1);
    layer.extend((1..10_000).map(deeper));
    let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
    leads(&image, "20/a/", "/t: directory 0.0");
    let text = found(&image, "9999/a", FollowLinks::All);
    assert!(text.starts_with("more than 40 symbolic links"), "{text}");
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link() {
    let image = image(&[&["d/", "d/f", "s -> d", "h = s", "e/", "e/h = s"], &["s"]]);
    assert_eq!(
        found(&image, "h", FollowLinks::Parents),
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
fn the_parent_directory_of_a_hard_link_is_created_before_it() {
    let image = image(&[&["d/", "d/f", "s -> d"], &["h = s/f", "s/h = s/f"]]);
    leads(&image, "h", "/h: hardlink 1.0 to file 0.1");
    let text = "no such file: s/f, which s/h is a hard link to";
    leads(&image, "s/h", text);
}

#[test]
fn a_dangling_hard_link_is_an_error_that_names_both_paths() {
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
fn names_are_in_byte_order_with_or_without_entries() {
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
fn listing_a_file_is_refused() {
    let image = image(&[&["f", "l -> f"]]);
    let error = pollster::block_on(list(&image, b"l", None, 9)).unwrap_err();
    assert_eq!(error.to_string(), "not a directory: f");
}

#[test]
fn a_walk_visits_each_directory_before_its_entries() {
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
fn a_path_in_the_highest_layer_needs_no_seek_in_lower_ones() {
    let lower: &[&str] = &["usr/", "usr/bin/", "usr/bin/a", "usr/bin/b"];
    let image = image(&[lower, lower, lower]);
    leads(&image, "usr/bin/a", "/usr/bin/a: file 2.2");
    assert_eq!(image.asked(), [0, 0, 3]);
}

#[test]
fn a_lookup_takes_two_seeks_per_directory_that_a_layer_has() {
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
fn a_whiteout_ends_the_search_of_lower_layers() {
    let image = image(&[&["d/", "d/a"], &["d/.wh.a"], &["e"]]);
    is_missing(&image, "d/a");
    assert_eq!(image.asked()[0], 0);
}

#[test]
fn a_listing_skips_entries_further_below() {
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
fn a_listing_takes_about_one_seek_per_file() {
    let layer: Vec<_> = (0..1000)
        .map(|number| format!("lib/lib{number:03}.so.{number}"))
        .collect();
    let image = image(&[&layer.iter().map(String::as_str).collect::<Vec<_>>()]);
    assert_eq!(pages(&image, "lib", 2000, summary).len(), 1000);
    let asked: usize = image.asked().iter().sum();
    assert!(asked <= 1010, "{asked}");
}

#[test]
fn an_error_of_the_table_of_contents_is_passed_on() {
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
    let error = pollster::block_on(resolve(&Broken, b"a", FollowLinks::All)).unwrap_err();
    assert_eq!(error, Error::Layers("unreadable"));
    assert_eq!(error.to_string(), "unreadable");
}

/// Layers that are applied to a file system in memory, entry by entry.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod model;
