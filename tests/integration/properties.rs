//! Properties for every input: parsers agree with the grammars of the specification and never
//! panic, an upload has the accepted bytes in order, and caches are bounded and right.

use std::{collections::BTreeMap, rc::Rc, sync::LazyLock, time::Duration};

use http::Method;
use proptest::prelude::*;
use regex::Regex;
use strata::{
    digest::{Algorithm, Digest},
    layer::{
        entry::Entry,
        index::{Index, IndexError, StoredIndex},
        pass::{Options, Pass},
    },
    manifest::Manifest,
    memory::MemoryObjects,
    name::{Name, Reference, Tag},
    range::{ByteRange, Selection},
    route::{InRepository, ListOperation, Operation},
    store::{frequency::Frequency, hot::Hot},
    time::Timestamp,
};
use strata_support::{
    Ask, ask, digest,
    layers::{Tar, gzip, noise},
    registry_of,
};

/// distribution-spec v1.1.1, "Pulling manifests".
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$")
        .unwrap()
});
static TAG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$").unwrap());
/// image-spec v1.1.1, "Digests", for the registered algorithms.
static DIGEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$").unwrap());

/// Texts that are close to those that a grammar accepts.
fn near_names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9._/-]{0,24}",
        "[a-z0-9]{1,3}([._-]{1,3}[a-z0-9]{1,3}){0,4}(/[a-z0-9_.]{1,4}){0,3}",
        ".{0,12}",
        "[a-z]{250,260}"
    ]
}

fn near_digests() -> impl Strategy<Value = String> {
    prop_oneof![
        "sha256:[a-f0-9]{63,65}",
        "sha512:[a-f0-9]{127,129}",
        "(sha256|sha512|md5|):[a-gA-F0-9]{0,66}",
        ".{0,80}"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_are_those_of_the_grammar(text in near_names()) {
        let parsed = text.parse::<Name>();
        prop_assert_eq!(parsed.is_ok(), NAME.is_match(&text) && text.len() <= 255);
        if let Ok(name) = parsed {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn tags_are_those_of_the_grammar(text in prop_oneof!["[a-zA-Z0-9._-]{0,12}", ".{0,12}", "[a-z.]{120,135}"]) {
        let parsed = text.parse::<Tag>();
        prop_assert_eq!(parsed.is_ok(), TAG.is_match(&text));
        if let Ok(tag) = parsed {
            prop_assert_eq!(tag.to_string(), text);
        }
    }

    #[test]
    fn digests_are_those_of_the_grammar(text in near_digests()) {
        let parsed = text.parse::<Digest>();
        prop_assert_eq!(parsed.is_ok(), DIGEST.is_match(&text));
        if let Ok(digest) = parsed {
            prop_assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn references_are_tags_or_digests(text in prop_oneof![near_digests(), near_names()]) {
        prop_assert_eq!(text.parse::<Reference>().is_ok(), TAG.is_match(&text) || DIGEST.is_match(&text));
    }

    #[test]
    fn ranges_lie_within_the_content(header in prop_oneof!["bytes=[0-9,-]{0,20}", "bytes=([0-9]{1,3}-[0-9]{0,3},?){1,4}", ".{0,20}"], size in 0_u64..300) {
        match Selection::of(Some(&header), size) {
            Selection::All | Selection::Unsatisfiable => {}
            Selection::Ranges(ranges) => {
                prop_assert!(!ranges.is_empty());
                prop_assert!(ranges.iter().all(|range| range.first() <= range.last() && range.last() < size));
                prop_assert!(ranges.len() == 1 || ranges.iter().map(|range| range.length()).sum::<u64>() <= size);
            }
        }
    }

    #[test]
    fn a_range_selects_the_bytes_it_names(size in 1_u64..300, first in 0_u64..300, length in 1_u64..300) {
        let last = first + length - 1;
        let selection = Selection::of(Some(&format!("bytes={first}-{last}")), size);
        let expected = ByteRange::new(first, last.min(size - 1)).map_or(Selection::Unsatisfiable, |range| Selection::Ranges(vec![range]));
        prop_assert_eq!(selection, expected);
        prop_assert_eq!(format!("{first}-{last}").parse(), Ok(ByteRange::new(first, last).unwrap()));
    }

    #[test]
    fn routes_never_panic_and_give_back_the_name(target in prop_oneof![
        ".{0,40}",
        "/v2/[a-z0-9/]{0,12}(blobs|manifests|tags|referrers|uploads|list|_catalog|/){0,4}[a-z0-9:/?=&%]{0,12}",
    ]) {
        let parsed = Operation::parse(&Method::GET, &target);
        if let Ok(Operation::In(name, InRepository::List(ListOperation::Tags { .. }))) = parsed {
            let path = format!("/v2/{name}/tags/list");
            let again = Operation::parse(&Method::GET, &path).ok();
            let tags = InRepository::List(ListOperation::Tags { limit: None, last: None });
            prop_assert_eq!(again, Some(Operation::In(name, tags)));
        }
    }

    #[test]
    fn manifests_never_panic(media_type in proptest::option::of(".{0,30}"), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(media_type.as_deref(), &bytes);
    }

    #[test]
    fn manifests_that_are_json_never_panic(text in r#"\{("schemaVersion":2,)?("(mediaType|config|layers|manifests|subject)":("x"|1|null|\[\]|\{\}|\[\{"mediaType":"a","digest":"b","size":1\}\]),){0,3}"a":1\}"#) {
        let _ = Manifest::parse(None, text.as_bytes());
    }
}

/// An action of a client on an upload.
#[derive(Clone, Debug)]
enum Deed {
    /// Sends bytes with their range, shifted by so much, to the newest location or the first.
    Chunk {
        length: usize,
        shift: i64,
        ranged: bool,
        newest: bool,
    },
    /// Asks for its progress.
    Status,
    /// Closes it, with some more bytes, by the right digest or a wrong one.
    Close { length: usize, right: bool },
    /// Cancels it.
    Cancel,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let chunk = (
        0_usize..40,
        prop_oneof![4 => Just(0_i64), 1 => -3_i64..4],
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(length, shift, ranged, newest)| Deed::Chunk {
            length,
            shift,
            ranged,
            newest,
        });
    let close =
        (0_usize..10, any::<bool>()).prop_map(|(length, right)| Deed::Close { length, right });
    proptest::collection::vec(
        prop_oneof![6 => chunk, 2 => Just(Deed::Status), 2 => close, 1 => Just(Deed::Cancel)],
        1..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_is_the_bytes_taken_in_order(deeds in deeds(), algorithm in prop_oneof![Just(Algorithm::Sha256), Just(Algorithm::Sha512)]) {
        let registry = registry_of(MemoryObjects::default(), &[]);
        let first = ask(&registry, &Ask::new("POST /v2/a/blobs/uploads/")).location();
        let mut newest = first.clone();
        let mut taken: Vec<u8> = Vec::new();
        let mut over = false;
        let mut blob = None;
        for (salt, deed) in (0_u8..).zip(deeds) {
            let bytes = |length: usize| (0_u8..).take(length).map(|n| salt.wrapping_mul(31).wrapping_add(n)).collect::<Vec<u8>>();
            let range = format!("0-{}", taken.len().saturating_sub(1));
            match deed {
                Deed::Chunk { length, shift, ranged, newest: by_newest } => {
                    let location = if by_newest { &newest } else { &first };
                    let mut request = Ask::new(&format!("PATCH {location}")).body(bytes(length));
                    let start = (taken.len() as i64 + shift).max(0);
                    if ranged && length > 0 {
                        request = request.header("content-range", format!("{start}-{}", start + length as i64 - 1));
                    }
                    let answer = ask(&registry, &request);
                    if over {
                        prop_assert_eq!(answer.status, 404);
                    } else if ranged && length > 0 && start != taken.len() as i64 {
                        prop_assert_eq!((answer.status, answer.header("range")), (416, Some(range.as_str())));
                    } else {
                        taken.extend(bytes(length));
                        let range = format!("0-{}", taken.len().saturating_sub(1));
                        prop_assert_eq!((answer.status, answer.header("range")), (202, Some(range.as_str())));
                        newest = answer.location();
                    }
                }
                Deed::Status => {
                    let answer = ask(&registry, &Ask::new(&format!("GET {first}")));
                    if over {
                        prop_assert_eq!(answer.status, 404);
                    } else {
                        prop_assert_eq!((answer.status, answer.header("range"), answer.location()), (204, Some(range.as_str()), newest.clone()));
                    }
                }
                Deed::Close { length, right } => {
                    let mut whole = taken.clone();
                    whole.extend(bytes(length));
                    let named = if right { algorithm.digest(&whole) } else { algorithm.digest(b"something else") };
                    let separator = if newest.contains('?') { '&' } else { '?' };
                    let answer = ask(&registry, &Ask::new(&format!("PUT {newest}{separator}digest={named}")).body(bytes(length)));
                    if over {
                        // The same closing again is only looked at; any other finds the upload
                        // ended.
                        let again = blob.as_ref() == Some(&named);
                        // The digest is compared before the step that an ended upload refuses.
                        let ended = if right { 404 } else { answer.status };
                        prop_assert_eq!(answer.status, if again { 201 } else { ended });
                        prop_assert!(again || [400, 404].contains(&answer.status), "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
                    } else if right {
                        prop_assert_eq!(answer.status, 201);
                        over = true;
                        blob = Some(named);
                        taken = whole;
                    } else {
                        prop_assert_eq!(answer.status, 400);
                        // A last chunk that was stored before its digest proved wrong stays in the
                        // upload.
                        if !taken.is_empty() && length > 0 {
                            taken = whole;
                            newest = ask(&registry, &Ask::new(&format!("GET {first}"))).location();
                        }
                    }
                }
                Deed::Cancel => {
                    let answer = ask(&registry, &Ask::new(&format!("DELETE {newest}")));
                    prop_assert_eq!(answer.status, if over { 404 } else { 204 });
                    over = true;
                }
            }
        }
        if let Some(named) = blob {
            let pulled = ask(&registry, &Ask::new(&format!("GET /v2/a/blobs/{named}")));
            prop_assert_eq!(&pulled.body, &taken);
            prop_assert_eq!(named.algorithm().digest(&pulled.body), named);
        }
        prop_assert_eq!(ask(&registry, &Ask::new(&format!("HEAD /v2/a/blobs/{}", digest(b"something else")))).status, 404);
    }
}

/// An action of a reader on the hot tier, with the key of this number.
#[derive(Clone, Debug)]
enum Use {
    Get(u8),
    Peek(u8),
    Insert(u8, u64),
    Remove(u8),
}

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let bytes = prop_oneof![8 => 0_u64..2_000, 1 => 0_u64..20_000, 1 => Just(u64::MAX)];
    proptest::collection::vec(
        prop_oneof![
            3 => any::<u8>().prop_map(Use::Get),
            1 => any::<u8>().prop_map(Use::Peek),
            6 => (any::<u8>(), bytes).prop_map(|(key, bytes)| Use::Insert(key, bytes)),
            1 => any::<u8>().prop_map(Use::Remove),
        ],
        0..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_hot_tier_is_a_bounded_part_of_a_map(bound in 0_u64..20_000, uses in uses()) {
        let mut hot = Hot::new(bound);
        // All keys that were inserted and neither removed nor reported as evicted, with their
        // values and weights.
        let mut model: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for (value, deed) in uses.into_iter().enumerate() {
            match deed {
                Use::Get(key) => {
                    let key = format!("key {key}");
                    prop_assert_eq!(hot.get(&key), model.get(&key).map(|(value, _)| value));
                }
                Use::Peek(key) => {
                    let key = format!("key {key}");
                    prop_assert_eq!(hot.peek(&key), model.get(&key).map(|(value, _)| value));
                }
                Use::Insert(key, bytes) => {
                    let key = format!("key {key}");
                    let weight = bytes.saturating_add(key.len() as u64).saturating_add(Hot::<usize>::OVERHEAD);
                    let inserted = hot.insert(&key, value, bytes);
                    model.remove(&key);
                    for evicted in &inserted.evicted {
                        let count = model.len();
                        model.retain(|_, (value, _)| value != evicted);
                        prop_assert_eq!(model.len(), count - 1, "evicted once, and was there");
                    }
                    prop_assert!(!inserted.admitted || weight <= bound / 8);
                    prop_assert!(inserted.admitted || weight > bound / 8);
                    if inserted.admitted {
                        model.insert(key, (value, weight));
                    }
                }
                Use::Remove(key) => {
                    let key = format!("key {key}");
                    prop_assert_eq!(hot.remove(&key), model.remove(&key).map(|(value, _)| value));
                }
            }
            prop_assert!(hot.bytes() <= bound);
            prop_assert_eq!((hot.len(), hot.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(hot.bytes() >= model.values().map(|(_, weight)| weight).sum());
        }
    }
}

/// Fewer than a generation of [`Frequency`], so that each counts in full within a half-life.
const TOUCHES: usize = 1_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_estimate_counts_at_least_the_reads_of_a_half_life(
        half_life in 1_u64..10_000,
        touches in proptest::collection::vec((0_u8..8, prop_oneof![40 => 0_u64..50, 1 => 0_u64..10_000]), 0..TOUCHES),
        noise in prop_oneof![Just(0), Frequency::GENERATION - 1_000..Frequency::GENERATION],
    ) {
        let mut frequency = Frequency::new(Duration::from_millis(half_life));
        let mut now = Timestamp(1_700_000_000_000);
        // Only one key, so that the others do not collide; its touches change generations in
        // between.
        for _ in 0..noise {
            frequency.touch("noise", now);
        }
        let mut touched: Vec<(u8, Timestamp)> = Vec::new();
        for (key, wait) in touches {
            now = now + Duration::from_millis(wait);
            touched.push((key, now));
            let lately = touched
                .iter()
                .filter(|(other, at)| *other == key && now.since(*at) < Duration::from_millis(half_life))
                .count();
            let estimate = frequency.touch(&format!("key {key}"), now);
            prop_assert!(estimate >= u32::try_from(lately.min(255)).unwrap(), "{estimate} for {lately}");
            prop_assert_eq!(frequency.estimate(&format!("key {key}"), now), estimate);
        }
        let later = now + Duration::from_millis(half_life * 10);
        for key in 0..8 {
            prop_assert_eq!(frequency.estimate(&format!("key {key}"), later), 0);
        }
    }
}

/// The index of a layer that comes in pieces of this size.
fn index_of(layer: &[u8], piece: usize) -> Vec<u8> {
    let options = Options {
        span: 4_096,
        ..Options::default()
    };
    let mut pass = Pass::new(layer.len() as u64, options);
    for piece in layer.chunks(piece) {
        pass.push(piece).unwrap();
    }
    pass.finish().unwrap().unwrap()
}

/// Every path from the first on, with its entries.
fn entries_of(index: &Index, bytes: &[u8]) -> Vec<Entry> {
    let read = async |block: usize| {
        let range = index.range_of(block).unwrap();
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let bytes = bytes.get(range).unwrap_or_default();
        index.read_block(block, bytes).map(Rc::from)
    };
    let mut all = Vec::new();
    let mut from = Vec::new();
    while let Some(found) = pollster::block_on(index.seek::<IndexError>(&from, read)).unwrap() {
        from.clone_from(&found.first().unwrap().path);
        from.push(0);
        all.extend(found);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_gives_all_entries_back_in_order(
        entries in proptest::collection::vec(("[ab/.]{0,3}[abc]{1,3}", 0_usize..3_000, 0_u8..4), 0..80),
        piece in 1_usize..5_000,
        zipped: bool,
    ) {
        let mut tar = Tar::default();
        let mut expected = Vec::new();
        for (seed, (path, size, kind)) in (1..).zip(&entries) {
            let offset = tar.length() as u64 + 512;
            let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            // Paths that lead out of the archive are another matter.
            if parts.contains(&"..") {
                continue;
            }
            let size = match kind {
                0 => { tar = tar.directory(&format!("{path}/")); 0 }
                1 => { tar = tar.symlink(path, "x"); 0 }
                _ => { tar = tar.file(path, noise(seed, *size)); *size as u64 }
            };
            expected.push((parts.join("/").into_bytes(), offset, size));
        }
        expected.sort();
        let archive = tar.end();
        let layer = if zipped { gzip(&archive) } else { archive.clone() };
        let bytes = index_of(&layer, piece);
        let Ok(StoredIndex::Index(index)) = StoredIndex::parse(&bytes) else {
            return Err(TestCaseError::fail("no index"));
        };
        let found: Vec<_> = entries_of(&index, &bytes)
            .into_iter()
            .map(|entry| (entry.path, entry.offset, entry.size))
            .collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(index.diff_id.clone(), digest(&archive));
        // Spans cover the archive, and each byte is in one.
        let ends: Vec<u64> = index.spans.iter().map(|span| span.output.end).collect();
        prop_assert!(index.spans.iter().skip(1).zip(&ends).all(|(span, end)| span.output.start == *end));
        prop_assert_eq!(ends.last().copied(), Some(archive.len() as u64));
    }

    #[test]
    fn bytes_that_are_no_index_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = StoredIndex::parse(&bytes);
        let _ = StoredIndex::parse(&[b"strata\0i\x01\0\0\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn an_index_that_was_changed_never_panics(
        changes in proptest::collection::vec((0_usize..2_000, any::<u8>()), 1..6),
        cut in 0_usize..2_000,
        sealed: bool,
    ) {
        static INDEX: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let tar = (0..40).fold(Tar::default(), |tar, n| tar.file(format!("dir/{n}"), noise(n, 500)));
            index_of(&gzip(&tar.end()), 10_000)
        });
        let mut bytes = INDEX.clone();
        for (at, byte) in changes {
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
        }
        if cut > 1_000 {
            bytes.truncate(cut);
        }
        if sealed && let Some(Ok(length)) = bytes.get(12..16).map(TryInto::try_into) {
            // As a malicious writer would do.
            let length = u32::from_le_bytes(length) as usize;
            let check = bytes.get(20..length).map(crc32fast::hash);
            if let (Some(check), Some(there)) = (check, bytes.get_mut(16..20)) {
                there.copy_from_slice(&check.to_le_bytes());
            }
        }
        if let Ok(StoredIndex::Index(index)) = StoredIndex::parse(&bytes) {
            let _ = (index.size(), index.head(), index.spans_of(&(0..u64::MAX)));
            for block in 0..index.blocks() {
                let range = index.range_of(block).unwrap();
                let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                let _ = index.read_block(block, bytes.get(range).unwrap_or_default());
            }
            for span in &index.spans {
                prop_assert!(span.output.start <= span.output.end && span.input.start <= span.input.end);
            }
        }
    }
}
