//! Tar: the same valid entries for any chunking, and the same as the crate `tar` reads or wrote.

use std::{collections::BTreeSet, io::Read as _};

use strata::layer::{
    entry::{Entry, EntryKind},
    tar::{TarLimits, TarError, Untar},
};
use tar::{Archive, Builder, EntryType, Header};

use crate::{
    input::{Input, pieces},
    layers::{self, Bounds, mend},
    programs,
};

pub(crate) const WORDS: &[&[u8]] = &[
    b"ustar\x0000",
    b"ustar  \0",
    b"././@LongLink",
    b"GNU.sparse.major=1\n",
    b"GNU.sparse.map=",
    b"SCHILY.xattr.",
    b"path=",
    b"size=",
    b"00000000000\0",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
];

const BOUNDS: Bounds = Bounds {
    archive: 100_000,
    repeats: 30,
    run: 10_000,
};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let folder = programs::Folder::create();
    let long = "n".repeat(180);
    let made = format!(
        "mkdir d && echo text > d/f && ln -s d/f link && ln d/f hard && touch {long}
         truncate -s 100000 sparse && echo end >> sparse"
    );
    programs::run(&folder.0, &made);
    let mut seeds = Vec::new();
    for options in [
        "--format=gnu -S",
        "--format=posix -S",
        "--format=posix --sparse-version=0.1 -S",
        "--format=posix --sparse-version=0.0 -S",
        "--format=ustar --exclude=n*",
        "--format=v7 --exclude=n*",
    ] {
        let tar = programs::run(&folder.0, &format!("tar c -b1 --mtime=@1 {options} *"));
        seeds.push([&[0, 7], tar.as_slice()].concat());
    }
    // The segments of a sparse file in another order, and a size that only a record has. The bytes
    // of that file are zeros: a reader that takes it for empty sees the end of the archive.
    let sparse = [("GNU.sparse.map", "8,4,0,4"), ("GNU.sparse.size", "16")];
    for (records, size, bytes) in [(&sparse[..], 8, [b'x'; 8]), (&[("size", "8")], 0, [0; 8])] {
        let mut builder = Builder::new(Vec::new());
        let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
        builder.append_pax_extensions(records).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(size);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
        seeds.push([&[0, 7], builder.into_inner().unwrap().as_slice()].concat());
    }
    for program in layers::programs() {
        seeds.push([&[1, 2], program.as_slice()].concat());
    }
    let program = (0..=255_u8).flat_map(|byte| [byte, byte.wrapping_mul(37)]);
    seeds.push([1, 3].into_iter().chain(program.clone()).collect());
    seeds.push([2, 3].into_iter().chain(program).collect());
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.below(3);
    let salt = input.byte();
    let archive = match mode {
        0 => mended(input.rest()),
        1 => layers::archive(&mut input, BOUNDS),
        _ => return round_trip(&mut input, salt),
    };
    let (entries, error) = by_us(&archive, pieces(&archive, salt));
    let (others, other) = by_us(&archive, [archive.as_slice()]);
    assert!(entries == others && error == other, "in pieces and at once");
    if error.is_none() {
        beside_tar(&archive, &entries);
    }
}

/// Sets the checksum of every block that may be a header.
fn mended(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut next = 0;
    for at in (0..archive.len().saturating_sub(511)).step_by(512) {
        let block = &mut archive[at..at + 512];
        if block.iter().all(|byte| *byte == 0) || (at != next && &block[257..262] != b"ustar") {
            continue;
        }
        mend(block);
        let digits = String::from_utf8_lossy(&block[124..135]).into_owned();
        let size = usize::from_str_radix(digits.trim(), 8).unwrap_or_default();
        next = at + 512 + size.next_multiple_of(512);
    }
    archive
}

/// The entries, each checked, and the error that ended them.
fn by_us<'a>(
    archive: &[u8],
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Entry>, Option<TarError>) {
    let mut untar = Untar::new(TarLimits::default());
    let mut entries: Vec<Entry> = Vec::new();
    let mut pushed = Ok(());
    for piece in pieces {
        pushed = untar.push(piece, |entry| {
            entries.push(entry);
            Ok(())
        });
        if pushed.is_err() {
            break;
        }
    }
    let error = pushed.and_then(|()| untar.finish()).err();
    let mut last = None;
    for entry in &entries {
        let odd = |name: &[u8]| matches!(name, b"" | b"." | b".." );
        let is_sound = |path: &[u8]| path.is_empty() || !path.split(|byte| *byte == b'/').any(odd);
        assert!(is_sound(&entry.path), "the path of {entry:?}");
        if entry.kind == EntryKind::HardLink {
            assert!(is_sound(&entry.link), "the link of {entry:?}");
        }
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0), "zeros in {entry:?}");
        assert!(last < Some(entry.offset), "offsets grow with the archive");
        last = Some(entry.offset);
        assert!(entry.modified.nanoseconds < 1_000_000_000 && entry.mode <= 0o7777, "{entry:?}");
        if entry.kind != EntryKind::File {
            assert_eq!(entry.size, 0, "{entry:?}");
        }
        let bytes = match &entry.segments {
            None => entry.size,
            Some(segments) => {
                let mut end = 0;
                for segment in segments {
                    assert!(segment.offset >= end, "segments in order: {entry:?}");
                    end = segment.offset.checked_add(segment.length).unwrap();
                }
                assert!(end <= entry.size, "segments within the file: {entry:?}");
                segments.iter().map(|segment| segment.length).sum()
            }
        };
        if error.is_none() {
            assert!(entry.offset + bytes <= archive.len() as u64, "bytes beyond the end: {entry:?}");
        }
    }
    (entries, error)
}

/// If the crate `tar` accepts the archive too, it reads the same entries, as far as it supports the
/// dialect.
fn beside_tar(archive: &[u8], ours: &[Entry]) {
    let mut theirs = Archive::new(archive);
    let mut read = Vec::new();
    for entry in theirs.entries().unwrap() {
        let Ok(mut entry) = entry else { return };
        let kind = entry.header().entry_type();
        if kind.as_byte() == b'V' {
            // GNU tar does not extract the label of a volume.
            continue;
        }
        // In place of GNU tar's times, Go once wrote the beginning of a path, and both Go and this
        // reader still read that.
        let has_prefix = entry.header().as_gnu().is_some() && entry.header().as_bytes()[345] != 0;
        // The crate forgets global records, as Go does; takes extensions of an unknown dialect for
        // files, as Go does not; and does not know sparse files of pax, nor that an empty value
        // removes a record.
        let is_odd = matches!(
            kind,
            EntryType::XGlobalHeader
                | EntryType::XHeader
                | EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::GNUSparse
        );
        // Of two records with one key the crate takes the first; POSIX, Go and GNU tar take the
        // last.
        let mut keys = BTreeSet::new();
        let extensions = entry.pax_extensions().map(|all| {
            all.into_iter().flatten().any(|one| {
                one.is_err()
                    || one.is_ok_and(|one| {
                        one.key_bytes().starts_with(b"GNU.sparse")
                            || one.value_bytes().is_empty()
                            || !keys.insert(one.key_bytes().to_vec())
                    })
            })
        });
        if is_odd || has_prefix || !matches!(extensions, Ok(false)) {
            return;
        }
        let path = entry.path_bytes().into_owned();
        // If an extension gives an empty name, the crate takes it; Go ignores it. A path ends at
        // its first NUL for GNU tar and for the kernel; the crate keeps the rest.
        if path.is_empty() || path.contains(&0) {
            return;
        }
        let offset = entry.raw_file_position();
        let mut bytes = Vec::new();
        if entry.read_to_end(&mut bytes).is_err() {
            return;
        }
        // Only files have data for Go and for this reader, whatever size an extension gives.
        if !kind.is_file() && !bytes.is_empty() {
            return;
        }
        read.push((path, kind, offset, bytes.len() as u64));
    }
    assert_eq!(ours.len(), read.len(), "entries, and those that the crate reads");
    for (entry, (path, kind, offset, size)) in ours.iter().zip(read) {
        assert_eq!(entry.offset, offset, "{entry:?}");
        let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let names: Vec<_> = names.collect();
        if !names.contains(&b"..".as_slice()) {
            assert_eq!(entry.path, names.join(&b'/'), "{entry:?}");
        }
        if entry.kind == EntryKind::File && kind.is_file() {
            assert_eq!(entry.size, size, "{entry:?}");
        }
    }
}

/// An archive that the crate writes is read back as written.
fn round_trip(input: &mut Input<'_>, salt: u8) {
    let mut builder = Builder::new(Vec::new());
    let mut expected = Vec::new();
    while !input.is_empty() && expected.len() < 100 {
        let mut path = Vec::new();
        for _ in 0..=input.below(60) {
            path.extend(std::iter::repeat_n(input.pick(b"ab-.\xc3z"), input.below(9) + 1));
            path.push(b'/');
        }
        path.pop();
        let path = String::from_utf8_lossy(&path).into_owned();
        let names: Vec<_> = path.split('/').filter(|name| *name != ".").collect();
        if names.contains(&"..") || path.starts_with('.') {
            continue;
        }
        let mut header = Header::new_gnu();
        let (kind, link) = match input.below(4) {
            0 => (EntryKind::Directory, ""),
            1 => (EntryKind::SymbolicLink, input.pick(&["a", "../b", "/c", "."])),
            2 => (EntryKind::HardLink, input.pick(&["a", "b/c"])),
            _ => (EntryKind::File, ""),
        };
        header.set_entry_type(match kind {
            EntryKind::Directory => EntryType::Directory,
            EntryKind::SymbolicLink => EntryType::Symlink,
            EntryKind::HardLink => EntryType::Link,
            _ => EntryType::Regular,
        });
        let mode = input.word() as u32 & 0o7777;
        let (user, time) = (input.word() as u64, (input.word() as u64) << input.below(32));
        header.set_mode(mode);
        header.set_uid(user);
        header.set_gid(0);
        header.set_mtime(time);
        if kind == EntryKind::File {
            let bytes = vec![input.byte(); input.word() % 2_000];
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, &path, bytes.as_slice()).unwrap();
            expected.push((names.join("/"), kind, bytes.len() as u64, mode, user, time, ""));
        } else {
            header.set_size(0);
            if kind == EntryKind::Directory {
                builder.append_data(&mut header, &path, [].as_slice()).unwrap();
            } else {
                builder.append_link(&mut header, &path, link).unwrap();
            }
            expected.push((names.join("/"), kind, 0, mode, user, time, link));
        }
    }
    let archive = builder.into_inner().unwrap();
    let (entries, error) = by_us(&archive, pieces(&archive, salt));
    assert_eq!(error, None, "an archive of the crate tar");
    assert_eq!(entries.len(), expected.len());
    for (entry, (path, kind, size, mode, user, time, link)) in entries.iter().zip(expected) {
        let found = (&entry.path[..], entry.kind, entry.size, entry.mode, entry.user.id);
        assert_eq!(found, (path.as_bytes(), kind, size, mode, user));
        assert_eq!((entry.modified.seconds, &entry.link[..]), (time as i64, link.as_bytes()));
    }
}
