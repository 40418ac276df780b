use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::layer::tree::{
    self, Node,
    tests::{made_of, model::any_entry},
};

/// The layer and the entry of each path. `None` for directories without an entry.
type Seen = BTreeMap<Vec<u8>, Option<(usize, Entry)>>;

fn seen(layers: &[Vec<Entry>]) -> Seen {
    let image = made_of(layers.to_vec());
    let mut walk = tree::walk(&image);
    let mut seen = Seen::new();
    while let Some((path, node)) = pollster::block_on(walk.next()).unwrap() {
        let node = match node {
            Node::Entry(sited) => Some((sited.layer, sited.entry)),
            Node::Directory => None,
        };
        seen.insert(path, node);
    }
    seen
}

fn is_directory(node: &Option<(usize, Entry)>) -> bool {
    node.as_ref()
        .is_none_or(|(_, entry)| entry.kind == EntryKind::Directory)
}

/// The state of each path in a layer, from the paths without the layer and with it.
fn states(layer: usize, before: &Seen, after: &Seen) -> BTreeMap<Vec<u8>, ChangeState> {
    let mut states = BTreeMap::new();
    for path in before
        .keys()
        .chain(after.keys())
        .filter(|path| !path.is_empty())
    {
        let state = match (before.get(path), after.get(path)) {
            (None, Some(_)) => ChangeState::Added,
            (Some(_), None) => ChangeState::Removed,
            (Some(was), Some(is)) if is_directory(was) && is_directory(is) => {
                let mode = |it: &Option<(usize, Entry)>| it.as_ref().map(|(_, entry)| entry.mode);
                if mode(was) == mode(is) {
                    ChangeState::Unchanged
                } else {
                    ChangeState::Changed
                }
            }
            (_, Some(Some((from, _)))) if *from < layer => ChangeState::Unchanged,
            _ => ChangeState::Changed,
        };
        states.insert(path.clone(), state);
    }
    let changed = states
        .iter()
        .filter(|(_, state)| **state != ChangeState::Unchanged);
    let changed: Vec<_> = changed.map(|(path, _)| path.clone()).collect();
    for path in changed {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = states
                .entry(path[..at].to_vec())
                .or_insert(ChangeState::Unchanged);
            if *above == ChangeState::Unchanged {
                *above = ChangeState::Changed;
            }
        }
    }
    states
}

/// All paths of a listing with their descriptions.
fn listed(
    list: &impl Fn(&[u8]) -> Vec<ListedPath>,
    directory: &[u8],
    all: &mut BTreeMap<Vec<u8>, ListedPath>,
) {
    for child in list(directory) {
        let path = [directory, &child.name].concat();
        listed(list, &[path.as_slice(), b"/"].concat(), all);
        all.insert(path, child);
    }
}

fn total(seen: &Seen, path: &[u8]) -> u64 {
    let below = [path, b"/"].concat();
    let counts = |found: &&Vec<u8>| *found == path || found.starts_with(&below);
    let sizes = seen.iter().filter(|(found, _)| counts(found));
    sizes
        .filter_map(|(_, node)| Some(node.as_ref()?.1.size))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn analysis_agrees_with_lookups_layer_by_layer(
        mut layers in proptest::collection::vec(proptest::collection::vec((any_entry(), 0..2_u32), 0..8), 1..5),
        is_early: bool,
    ) {
        let layers: Vec<Vec<Entry>> = layers.iter_mut().map(|layer| {
            let entries = layer.iter_mut().zip(0..);
            entries.map(|((entry, mode), offset)| {
                if is_early {
                    // By name, it comes before all whiteouts.
                    entry.path.iter_mut().filter(|byte| **byte == b'b').for_each(|byte| *byte = b'+');
                }
                entry.mode = *mode;
                entry.offset = offset;
                if entry.kind == EntryKind::File {
                    entry.size = 1 << (offset * 3);
                }
                entry.clone()
            }).collect()
        }).collect();
        let found = analysed(&layers);
        let mut before = Seen::new();
        let mut sizes = BTreeMap::<Vec<u8>, Vec<u64>>::new();
        for layer in 0..layers.len() {
            let after = seen(&layers[..=layer]);
            let states = states(layer, &before, &after);
            let mut said = BTreeMap::new();
            listed(&|directory| found.layer_children(layer, directory).unwrap(), b"", &mut said);
            for (path, state) in &states {
                let is = said.get(path).map_or(ChangeState::Unchanged, |child| child.state);
                prop_assert_eq!(is, *state, "{:?} in layer {}", json::lossy(path), layer);
                if *state == ChangeState::Removed {
                    let child = &said[path];
                    if is_directory(&before[path]) == child.entry.as_ref().is_none_or(|entry| entry.kind == EntryKind::Directory) {
                        continue;
                    }
                    prop_assert!(false, "{:?} was something else", json::lossy(path));
                }
            }
            prop_assert!(said.keys().all(|path| states.contains_key(path)));
            for (path, node) in &after {
                if let Some((from, entry)) = node && *from == layer && !path.is_empty() {
                    sizes.entry(path.clone()).or_default().push(entry.size);
                }
            }
            for path in before.keys().filter(|path| !after.contains_key(*path)) {
                sizes.entry(path.clone()).or_default().push(0);
            }
            let bytes = after.values().flatten().filter(|(from, _)| *from == layer);
            prop_assert_eq!(found.changes()[layer].bytes, bytes.map(|(_, entry)| entry.size).sum::<u64>());
            before = after;
        }

        let mut said = BTreeMap::new();
        listed(&|directory| found.children(directory).unwrap(), b"", &mut said);
        for (path, node) in before.iter().filter(|(path, _)| !path.is_empty()) {
            let child = &said[path];
            prop_assert_ne!(child.state, ChangeState::Removed, "{:?}", json::lossy(path));
            let expected = node.as_ref().map(|(layer, entry)| (*layer, entry.kind, entry.size, &entry.link, entry.mode));
            let is = child.entry.as_ref().map(|entry| (child.layer, entry.kind, entry.size, &entry.link, entry.mode));
            prop_assert_eq!(is, expected, "{:?}", json::lossy(path));
            prop_assert_eq!(child.total, total(&before, path), "{:?}", json::lossy(path));
        }
        let there = said.iter().filter(|(_, child)| child.state != ChangeState::Removed);
        prop_assert_eq!(there.count() + 1, before.len());

        let waste = found.waste(usize::MAX);
        let least: u64 = sizes.values().filter_map(|sizes| sizes.iter().min()).sum();
        let all: u64 = sizes.values().flatten().sum();
        let twice = sizes.iter().filter(|(_, sizes)| sizes.len() > 1);
        let twice: BTreeMap<_, _> = twice.map(|(path, sizes)| (path.clone(), sizes.iter().sum::<u64>())).filter(|(_, sum)| *sum > 0).collect();
        prop_assert_eq!(waste.bytes, twice.values().sum::<u64>());
        let offenders: BTreeMap<_, _> = waste.offenders.into_iter().map(|it| (it.path, it.bytes)).collect();
        prop_assert_eq!(offenders, twice);
        let expected = if all == 0 { 1.0 } else { least as f64 / all as f64 };
        prop_assert!((waste.efficiency - expected).abs() < 1e-12);
    }
}
