use proptest::{collection::vec, prelude::*};

use super::*;
use crate::layer::tar::pax::NANOSECONDS;

/// A path from the root, in the form of entries.
fn paths() -> impl Strategy<Value = Vec<u8>> {
    let component = prop_oneof![
        4 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 1..20),
        1 => vec(prop_oneof![1_u8..b'.', b'0'..=255], 200..300),
    ];
    vec(component, 0..5).prop_map(|components| components.join(&b'/'))
}

fn moments() -> impl Strategy<Value = Moment> {
    let seconds = prop_oneof![
        0..1_i64 << 33,
        any::<i64>().prop_filter("one less is a number", |seconds| *seconds > i64::MIN)
    ];
    (seconds, prop_oneof![Just(0), 0..NANOSECONDS]).prop_map(|(seconds, nanoseconds)| Moment {
        seconds,
        nanoseconds,
    })
}

fn owners() -> impl Strategy<Value = Owner> {
    let id = prop_oneof![0..1_u64 << 21, 0..1_u64 << 56];
    (id, vec(1..=255_u8, 0..40)).prop_map(|(id, name)| Owner { id, name })
}

fn sparse() -> impl Strategy<Value = Option<(Vec<Segment>, u64)>> {
    let gaps = vec((0..5000_u64, 1..900_u64), 0..40);
    proptest::option::of((gaps, 0..5000_u64).prop_map(|(gaps, rest)| {
        let mut segments: Vec<Segment> = Vec::new();
        let mut end = 0;
        for (gap, length) in gaps {
            segments.push(Segment {
                offset: end + gap,
                length,
            });
            end += gap + length;
        }
        (segments, end + rest)
    }))
}

prop_compose! {
    fn entries()(
        path in paths(),
        kind in 0..7_usize,
        mode in 0..0o10_000_u32,
        (user, group) in (owners(), owners()),
        size in 0..3000_u64,
        modified in moments(),
        accessed in proptest::option::of(moments()),
        changed in proptest::option::of(moments()),
        link in paths(),
        device in any::<(u32, u32)>(),
        attributes in proptest::collection::btree_map(vec(prop_oneof![1..b'=', b'>'..=255], 1..10), vec(any::<u8>(), 0..600), 0..3),
        sparse in sparse(),
    ) -> Entry {
        let kind = EntryKind::ALL[kind];
        let (segments, size) = match (kind, sparse) {
            (EntryKind::File, Some((segments, size))) => (Some(segments), size),
            (EntryKind::File, None) => (None, size),
            _ => (None, 0),
        };
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        Entry {
            path,
            kind,
            mode,
            user,
            group,
            size,
            modified,
            accessed,
            changed,
            link: if is_link { link } else { Vec::new() },
            device: if is_device { device } else { (0, 0) },
            attributes: attributes.into_iter().collect(),
            omitted: 0,
            offset: 0,
            segments,
        }
    }
}

fn decimal(moment: Moment) -> String {
    match (moment.seconds, moment.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ ..0, nanoseconds) => {
            let sign = if seconds == -1 { "-" } else { "" };
            format!("{sign}{}.{:09}", seconds + 1, NANOSECONDS - nanoseconds)
        }
        (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// Writes an entry, and notes the place of its data. Values stand in the header if they fit, else
/// in any form that allows long ones.
fn write(out: &mut Vec<u8>, entry: &mut Entry) {
    let flag = b"0123456"[EntryKind::ALL
        .iter()
        .position(|kind| *kind == entry.kind)
        .unwrap()];
    let pairs = entry.segments.as_ref().map(|segments| {
        segments
            .iter()
            .map(|segment| (segment.offset, segment.length))
            .collect::<Vec<_>>()
    });
    let length = pairs
        .as_ref()
        .map_or(entry.size, |pairs| pairs.iter().map(|pair| pair.1).sum());
    let mut data = vec![b'd'; length as usize];
    let mut records = Vec::new();
    let mut record = |key: &str, value: &[u8]| records.extend(pax_record(key, value));
    let mut block = Block::ustar("", flag, 0).octal(MODE, entry.mode.into());
    if pairs.is_some() {
        record("GNU.sparse.name", &entry.path);
    } else if entry.path.len() <= 100 {
        block = block.text(PATH, &entry.path);
    } else if entry.mode.is_multiple_of(2) {
        out.extend(long(b'L', &entry.path));
    } else {
        record("path", &entry.path);
    }
    if entry.link.len() <= 100 {
        block = block.text(LINK, &entry.link);
    } else if entry.mode.is_multiple_of(2) {
        out.extend(long(b'K', &entry.link));
    } else {
        record("linkpath", &entry.link);
    }
    let owners = [
        (&entry.user, USER, USER_NAME, "uid", "uname"),
        (&entry.group, GROUP, GROUP_NAME, "gid", "gname"),
    ];
    for (owner, id, name, id_key, name_key) in owners {
        match owner.id {
            0..0o10_000_000 => block = block.octal(id, owner.id),
            _ if entry.mode.is_multiple_of(3) => block = block.binary(id, owner.id.into()),
            _ => record(id_key, owner.id.to_string().as_bytes()),
        }
        if owner.name.len() <= 32 {
            block = block.text(name, &owner.name);
        } else {
            record(name_key, &owner.name);
        }
    }
    if entry.modified.nanoseconds == 0 && entry.mode.is_multiple_of(3) {
        block = block.binary(MODIFIED, entry.modified.seconds.into());
    } else {
        record("mtime", decimal(entry.modified).as_bytes());
    }
    for (key, moment) in [("atime", entry.accessed), ("ctime", entry.changed)] {
        if let Some(moment) = moment {
            record(key, decimal(moment).as_bytes());
        }
    }
    let numbers = [
        (entry.device.0, MAJOR, "major"),
        (entry.device.1, MINOR, "minor"),
    ];
    for (number, field, key) in numbers {
        if number < 0o10_000_000 {
            block = block.octal(field, number.into());
        } else {
            record(&format!("SCHILY.dev{key}"), number.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.attributes {
        records.extend(raw_record(
            &[b"SCHILY.xattr.", name.as_slice()].concat(),
            value,
        ));
    }
    if let Some(pairs) = pairs {
        records.extend(pax_record("GNU.sparse.realsize", entry.size.to_string()));
        records.extend(pax_record("GNU.sparse.major", "1"));
        records.extend(pax_record("GNU.sparse.minor", "0"));
        let lines = pairs
            .iter()
            .map(|(offset, length)| format!("{offset}\n{length}\n"));
        let map = format!("{}\n{}", pairs.len(), lines.collect::<String>());
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        data.splice(0..0, map);
    }
    if !records.is_empty() {
        out.extend(raw_pax(b'x', &records));
    }
    out.extend(block.octal(SIZE, data.len() as u64).with(&data));
    entry.offset = out.len() as u64 - length.next_multiple_of(512);
}

fn raw_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // The length does not depend on what the key is.
    let mut record = pax_record(&"k".repeat(key.len()), value);
    let start = record.iter().position(|byte| *byte == b' ').unwrap() + 1;
    record[start..start + key.len()].copy_from_slice(key);
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tar_entries_survive_a_round_trip(mut entries in vec(entries(), 0..8), piece in 1..2000_usize, at in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        for entry in &mut entries {
            write(&mut bytes, entry);
        }
        bytes.extend(end());
        prop_assert_eq!(read_with(&bytes, piece, TarLimits::default()), (entries.clone(), Ok(())));
        let at = at.index(bytes.len());
        let (before, _) = read_with(&bytes[..at], piece, TarLimits::default());
        prop_assert!(entries.starts_with(&before));
    }

    #[test]
    fn untar_does_not_depend_on_the_size_of_pieces(bytes in vec(any::<u8>(), 0..2000), piece in 1..2000_usize) {
        let whole = read_with(&bytes, usize::MAX, TarLimits::default());
        prop_assert_eq!(read_with(&bytes, piece, TarLimits::default()), whole);
    }

    #[test]
    fn pax_records_of_any_bytes_never_panic(records in vec(any::<u8>(), 0..600), text in "([0-9]{1,2} [a-zGNUSCHILY.]{0,9}=[0-9,.-]{0,9}\n){0,9}") {
        for records in [records.as_slice(), text.as_bytes()] {
            let bytes = [raw_pax(b'x', records), Block::ustar("a", b'0', 0).sealed()].concat();
            let _ = read_with(&bytes, usize::MAX, TarLimits::default());
        }
    }
}
