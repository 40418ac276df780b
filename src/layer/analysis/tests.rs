use serde_json::Value;

use super::*;
use crate::layer::{
    analysis::analyser::MAX_SAME,
    entry::{Entry, EntryKind, Moment, Owner},
    json,
};

/// An entry: `d/` is a directory, `f 10` a file of 10 bytes, `l -> t` a symbolic link, `l = t` a
/// hard link.
fn entry(text: &str, offset: u64) -> Entry {
    let (path, kind, link, size) = if let Some((path, link)) = text.split_once(" -> ") {
        (path, EntryKind::SymbolicLink, link, 0)
    } else if let Some((path, link)) = text.split_once(" = ") {
        (path, EntryKind::HardLink, link, 0)
    } else if let Some(path) = text.strip_suffix('/') {
        (path, EntryKind::Directory, "", 0)
    } else {
        let (path, size) = text.split_once(' ').unwrap_or((text, "0"));
        (path, EntryKind::File, "", size.parse().unwrap())
    };
    Entry {
        path: path.into(),
        kind,
        link: link.into(),
        size,
        offset,
        ..Entry::default()
    }
}

fn analysed(layers: &[Vec<Entry>]) -> Analysis {
    let mut analyser = Analyser::new(7);
    for layer in layers {
        let mut layer = layer.clone();
        layer.sort_by(|one, other| (&one.path, one.offset).cmp(&(&other.path, other.offset)));
        for entry in layer {
            analyser.push(entry).unwrap();
        }
        analyser.end_layer().unwrap();
    }
    analyser.finish()
}

fn analysis(layers: &[&[&str]]) -> Analysis {
    let layers = layers.iter().map(|layer| {
        let entries = layer.iter().zip(0..);
        entries.map(|(text, offset)| entry(text, offset)).collect()
    });
    analysed(&layers.collect::<Vec<_>>())
}

/// A child in a line: state, name, size of all below, and the layer.
fn line(child: &ListedPath) -> String {
    let kind = match &child.entry {
        Some(entry) if entry.kind == EntryKind::Directory => "/",
        None => "/?",
        Some(_) => "",
    };
    let whiteout = child.whiteout.map(|whiteout| format!(" by {whiteout}"));
    format!(
        "{} {}{kind} {} of {}{}",
        child.state.name(),
        json::lossy(&child.name),
        child.total,
        child.layer,
        whiteout.unwrap_or_default()
    )
}

#[track_caller]
fn has(analysis: &Analysis, directory: &str, expected: &[&str]) {
    let children = analysis.children(directory.as_bytes()).unwrap();
    assert_eq!(children.iter().map(line).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn layer_has(analysis: &Analysis, layer: usize, directory: &str, expected: &[&str]) {
    let children = analysis
        .layer_children(layer, directory.as_bytes())
        .unwrap();
    assert_eq!(children.iter().map(line).collect::<Vec<_>>(), expected);
}

fn counts(analysis: &Analysis) -> Vec<[u64; 4]> {
    let counts = analysis.changes().iter();
    let counts = counts.map(|it| [it.added, it.changed, it.removed, it.bytes]);
    counts.collect()
}

#[test]
fn analysis_counts_added_changed_and_removed_paths_per_layer() {
    let found = analysis(&[
        &[
            "etc/",
            "etc/a 1",
            "etc/b 20",
            "usr/",
            "usr/x/",
            "usr/x/y 300",
        ],
        &["etc/", "etc/.wh.a", "etc/b 25", "etc/c 4000"],
        &[".wh.usr", "etc/d -> c"],
    ]);
    assert_eq!(
        counts(&found),
        [[6, 0, 0, 321], [1, 1, 1, 4025], [1, 0, 3, 0]]
    );
    has(
        &found,
        "",
        &["changed etc/ 4025 of 1", "removed usr/ 300 of 2 by name"],
    );
    let etc = [
        "removed a 1 of 1 by name",
        "changed b 25 of 1",
        "added c 4000 of 1",
        "added d 0 of 2",
    ];
    has(&found, "etc/", &etc);
    has(&found, "usr", &["removed x/ 300 of 2"]);
    has(&found, "usr/x/", &["removed y 300 of 2"]);
    layer_has(&found, 0, "etc/", &["added a 1 of 0", "added b 20 of 0"]);
    layer_has(&found, 1, "", &["changed etc/ 4025 of 1"]);
    layer_has(
        &found,
        1,
        "etc",
        &[
            "removed a 1 of 1 by name",
            "changed b 25 of 1",
            "added c 4000 of 1",
        ],
    );
    layer_has(&found, 1, "usr/", &[]);
    layer_has(
        &found,
        2,
        "",
        &["changed etc/? 0 of 2", "removed usr/ 300 of 2 by name"],
    );
    layer_has(&found, 2, "usr/x", &["removed y 300 of 2"]);
}

#[test]
fn a_directory_that_is_only_named_again_is_unchanged() {
    let found = analysis(&[&["d/", "d/a 1", "e/"], &["d/", "e/", "e/b 1"]]);
    has(&found, "", &["unchanged d/ 1 of 1", "changed e/ 1 of 1"]);
    assert_eq!(counts(&found)[1], [1, 0, 0, 1]);
    let mut other = entry("d/", 0);
    other.mode = 0o700;
    let found = analysed(&[vec![entry("d/", 0)], vec![other]]);
    has(&found, "", &["changed d/ 0 of 1"]);
    assert_eq!(counts(&found)[1], [0, 1, 0, 0]);
}

#[test]
fn an_opaque_directory_removes_lower_entries_but_not_its_own() {
    let found = analysis(&[
        &["d/", "d/a 1", "d/+ 2", "d/e/", "d/e/f 4"],
        // By name, one comes before the whiteout and the other after it.
        &["d/+ 8", "d/.wh..wh..opq", "d/e/", "d/e/g 16"],
    ]);
    has(&found, "", &["changed d/ 24 of 0 by opaque"]);
    has(
        &found,
        "d/",
        &["changed + 8 of 1", "removed a 1 of 1", "changed e/ 16 of 1"],
    );
    has(&found, "d/e/", &["removed f 4 of 1", "added g 16 of 1"]);
    assert_eq!(counts(&found)[1], [1, 1, 2, 24]);
}

#[test]
fn a_path_readded_after_its_directory_was_replaced_is_changed() {
    let found = analysis(&[&["d/", "d/a 1"], &["d", "d/", "d/a 2"]]);
    has(&found, "", &["changed d/ 2 of 1"]);
    has(&found, "d/", &["changed a 2 of 1"]);
    assert_eq!(counts(&found)[1], [0, 1, 0, 2]);
}

#[test]
fn a_file_that_replaces_a_directory_removes_its_entries() {
    let found = analysis(&[&["d/", "d/a 1", "f 2"], &["d 4", "f/", "f/b 8"]]);
    has(&found, "", &["changed d 4 of 1", "changed f/ 8 of 1"]);
    has(&found, "d", &["removed a 1 of 1"]);
    assert_eq!(counts(&found)[1], [1, 2, 1, 12]);
    // A layer with a path below a link has a directory there.
    let found = analysis(&[&["d/", "l -> d"], &["l/x 1"]]);
    has(&found, "", &["unchanged d/ 0 of 0", "changed l/? 1 of 1"]);
}

#[test]
fn a_removed_path_that_returns_is_changed_in_the_whole_image() {
    let found = analysis(&[&["a 1", "b 1"], &[".wh.a", ".wh.b"], &["a 2"]]);
    has(
        &found,
        "",
        &["changed a 2 of 2", "removed b 1 of 1 by name"],
    );
    layer_has(&found, 2, "", &["added a 2 of 2"]);
}

#[test]
fn whiteouts_of_nothing_change_nothing() {
    let found = analysis(&[&[".wh.x", "a 1"], &[".wh.y", ".wh.z/b 1", "a/.wh..wh..opq"]]);
    // Anything below a file of a lower layer makes a directory of it, even a whiteout.
    has(&found, "", &["changed a/? 0 of 1 by opaque"]);
    assert_eq!(counts(&found), [[1, 0, 0, 1], [0, 1, 0, 0]]);
}

#[test]
fn the_last_of_several_entries_of_a_path_counts() {
    let found = analysis(&[&["d/", "d/a 1", "d", "d/b 2", "d/", "d/c 4", "e 8", "e 16"]]);
    has(&found, "", &["unchanged d/ 4 of 0", "unchanged e 16 of 0"]);
    has(&found, "d/", &["unchanged c 4 of 0"]);
    assert_eq!(counts(&found), [[3, 0, 0, 20]]);
}

#[track_caller]
fn wastes(analysis: &Analysis, least: u64, all: u64, bytes: u64, offenders: &[&str]) {
    let waste = analysis.waste(10);
    let line = |it: &Offender| format!("{} {}x {}", json::lossy(&it.path), it.times, it.bytes);
    assert_eq!(
        waste.offenders.iter().map(line).collect::<Vec<_>>(),
        offenders
    );
    assert_eq!(waste.bytes, bytes);
    assert!(
        (waste.efficiency - least as f64 / all as f64).abs() < 1e-12,
        "{}",
        waste.efficiency
    );
}

#[test]
fn waste_is_the_bytes_of_repeated_and_removed_paths() {
    wastes(&analysis(&[&["a 10", "b 5"]]), 15, 15, 0, &[]);
    let twice = analysis(&[&["a 10", "b 5"], &["a 30"]]);
    wastes(&twice, 15, 45, 40, &["a 2x 40"]);
    let gone = analysis(&[&["a 10", "b 5"], &["a 30"], &[".wh.a"]]);
    wastes(&gone, 5, 45, 40, &["a 3x 40"]);
    let all = analysis(&[&["d/", "d/a 10", "d/b 20", "c 1"], &[".wh.d", "c = x"]]);
    wastes(&all, 0, 31, 31, &["d/b 2x 20", "d/a 2x 10", "c 2x 1"]);
    assert_eq!(all.waste(1).offenders.len(), 1);
    let empty = analysis(&[&[]]).waste(1);
    assert_eq!((empty.efficiency, empty.bytes), (1.0, 0));
}

#[test]
fn search_matches_names_or_paths_if_the_text_has_a_slash() {
    let found = analysis(&[
        &["usr/", "usr/Bin/", "usr/Bin/bash 1", "gone 1"],
        &[".wh.gone", "usr/sbin/nobash 2"],
    ]);
    let paths = |text: &str, limit| -> Vec<String> {
        let matches = found.search(text.as_bytes(), limit);
        matches.iter().map(|it| json::lossy(&it.path)).collect()
    };
    assert_eq!(paths("BASH", 9), ["usr/Bin/bash", "usr/sbin/nobash"]);
    assert_eq!(paths("bash", 1), ["usr/Bin/bash"]);
    assert_eq!(paths("bin/ba", 9), ["usr/Bin/bash"]);
    assert_eq!(paths("gone", 9), Vec::<String>::new());
    assert_eq!(paths("", 9), Vec::<String>::new());
    let [found] = found.search(b"nobash", 9).try_into().unwrap();
    assert_eq!(line(&found.child), "added nobash 2 of 1");
}

#[test]
fn a_path_repeated_without_end_takes_bounded_memory() {
    let mut analyser = Analyser::new(1);
    for offset in 0..20_000 {
        analyser
            .push(entry(&format!("a {offset}"), offset))
            .unwrap();
        assert!(analyser.group.len() <= MAX_SAME);
    }
    analyser.end_layer().unwrap();
    let found = analyser.finish();
    assert_eq!(found.entries(), 20_000);
    has(&found, "", &["unchanged a 19999 of 0"]);
}

#[test]
fn analysis_errors_name_the_missing_directory_or_layer() {
    let found = analysis(&[&["d/"]]);
    let error = |found: Result<Vec<ListedPath>, AnalysisError>| found.unwrap_err().to_string();
    assert_eq!(
        error(found.children(b"d/\n/")),
        "no such directory: /d/\\n/"
    );
    assert_eq!(
        error(found.layer_children(1, b"")),
        "the image has no layer 1, counted from 0"
    );
}

#[test]
fn a_listing_describes_every_field_of_an_entry() {
    let mut link = entry("d/\u{fffd} -> x", 0);
    link.path = b"d/\xff".to_vec();
    link.mode = 0o777;
    link.user = Owner {
        id: 1 << 40,
        name: b"root".to_vec(),
    };
    link.modified = Moment {
        seconds: -1,
        nanoseconds: 5,
    };
    let found = analysed(&[vec![link]]);
    let [child] = found.children(b"d").unwrap().try_into().unwrap();
    let expected = serde_json::json!({
        "name": "\u{fffd}", "nameEncoded": "%FF", "type": "symlink", "mode": 511, "uid": 1_u64 << 40, "gid": 0, "user": "root",
        "size": 0, "modified": "-1.000000005", "link": "x", "state": "unchanged", "layerIndex": 0, "totalSize": 0,
    });
    assert_eq!(Value::from(child.describe()), expected);
    let [found] = found.search(b"\xff", 1).try_into().unwrap();
    assert_eq!(found.describe()["pathEncoded"], "d/%FF");
}

#[test]
fn an_entry_takes_under_120_bytes_at_any_depth() {
    for path in ["usr/lib/node_modules/package/dist/", &"d/".repeat(500)] {
        let mut analyser = Analyser::new(1);
        for layer in 0..3 {
            for number in 0..30_000 {
                let path = format!("{path}file-{layer}-{number}.js").into_bytes();
                let entry = Entry {
                    path,
                    size: 1,
                    ..Entry::default()
                };
                analyser.push(entry).unwrap();
            }
            analyser.end_layer().unwrap();
        }
        let found = analyser.finish();
        let each = found.memory() / 90_000;
        println!("{each} bytes an entry");
        assert!(each < 120, "{each} bytes an entry");
        assert_eq!(found.children(b"").unwrap()[0].total, 90_000);
    }
}

/// Layers of any entries, compared with lookups in them layer by layer.
#[cfg(not(target_arch = "wasm32"))]
mod model;
