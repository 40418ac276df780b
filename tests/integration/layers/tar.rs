//! The tar parser on archives of GNU tar, in all of its formats, compared with the file system: the
//! files are odd in every way that the formats allow.

#![cfg(target_os = "linux")]
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, FileTimes},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use strata::layer::{
    entry::{Entry, EntryKind, Moment, Segment},
    tar::{TarError, TarLimits, Untar},
};

/// A directory that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The values that a format can hold.
#[derive(Clone, Copy, Debug)]
struct Format {
    name: &'static str,
    /// The longest path and the longest link to try.
    lengths: (usize, usize),
    /// Whether numbers may be large, and times before 1970.
    is_wide: bool,
    has_nanoseconds: bool,
    has_names: bool,
    has_holes: bool,
    has_devices: bool,
}

const V7: Format = Format {
    name: "v7",
    lengths: (99, 99),
    is_wide: false,
    has_nanoseconds: false,
    has_names: false,
    has_holes: false,
    has_devices: false,
};
const USTAR: Format = Format {
    name: "ustar",
    lengths: (250, 100),
    has_names: true,
    has_devices: true,
    ..V7
};
const GNU: Format = Format {
    name: "gnu",
    lengths: (1000, 1000),
    is_wide: true,
    has_holes: true,
    ..USTAR
};
const OLD_GNU: Format = Format {
    name: "oldgnu",
    ..GNU
};
const PAX: Format = Format {
    name: "pax",
    has_nanoseconds: true,
    ..GNU
};

#[test]
fn v7_archives_agree_with_the_file_system() {
    check(V7, &[]);
}

#[test]
fn ustar_archives_agree_with_the_file_system() {
    check(USTAR, &[]);
}

#[test]
fn old_gnu_archives_agree_with_the_file_system() {
    check(OLD_GNU, &[]);
    check(OLD_GNU, &["--sparse"]);
}

#[test]
fn gnu_archives_agree_with_the_file_system() {
    check(GNU, &[]);
    check(GNU, &["--sparse"]);
    // The holes are found by reading.
    check(GNU, &["--sparse", "--hole-detection=raw"]);
    // Directories contain their lists of names, and all entries have access times.
    check(GNU, &["--incremental"]);
    check(GNU, &["--label=of a volume"]);
}

#[test]
fn pax_archives_agree_with_the_file_system() {
    check(PAX, &[]);
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        check(PAX, &["--sparse", &version]);
        check(PAX, &["--sparse", &version, "--hole-detection=raw"]);
    }
    // A global header that changes nothing.
    check(PAX, &["--pax-option=globexthdr.name=all,comment=of all"]);
}

/// Archives a tree, and compares each entry with its file.
#[track_caller]
fn check(format: Format, options: &[&str]) {
    let called: String = options.concat().replace(['/', ' ', '='], "");
    let scratch = Scratch::new(&format!("{}{called}", format.name));
    let root = scratch.0.join("root");
    grow(&root, format);
    let archive = scratch.0.join("archive.tar");
    let output = Command::new("tar")
        .env("LC_ALL", "C")
        .arg(format!("--format={}", format.name))
        .args(options)
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&root)
        .arg(".")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{format:?} {options:?}: {said}");
    let archive = fs::read(archive).unwrap();
    let entries = read(&archive, 64 * 1024);
    for piece in [4_099, 511] {
        assert!(read(&archive, piece) == entries, "pieces of {piece}");
    }
    assert!(entries.is_sorted_by(|one, next| one.offset < next.offset));

    let mut files = BTreeMap::new();
    walk(&root, &mut files);
    let paths: Vec<_> = files.keys().collect();
    let mut found: Vec<_> = entries.iter().map(|entry| &entry.path).collect();
    found.sort();
    assert_eq!(found, paths, "{format:?} {options:?}");
    let mut first = BTreeMap::new();
    let mut holes = 0;
    for entry in &entries {
        let file = &files[&entry.path];
        compare(entry, file, format, &mut first);
        if entry.kind == EntryKind::File {
            let content = fs::read(file).unwrap();
            assert!(content == content_of(entry, &archive), "{}", file.display());
        }
        holes += usize::from(entry.segments.is_some());
    }
    let is_sparse = format.has_holes && options.contains(&"--sparse");
    assert_eq!(holes > 3, is_sparse, "{format:?} {options:?}: {holes}");
}

/// Makes a tree of files, as unusual as the format can hold.
fn grow(root: &Path, format: Format) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    fs::create_dir_all(root.join("a/deep er/directory")).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("a/block"), [b'b'; 512]).unwrap();
    fs::write(root.join("a/deep er/more"), vec![b'm'; 100_001]).unwrap();
    fs::write(root.join("a/.wh.gone"), "").unwrap();
    fs::write(root.join("new\nline\\ \"and\" \u{e4}"), "name").unwrap();
    let odd = OsStr::from_bytes(b"not \xff UTF-8 \xc3");
    fs::write(root.join(odd), "odd").unwrap();
    fs::hard_link(root.join("a/block"), root.join("a/deep er/another name")).unwrap();
    fs::hard_link(root.join(odd), root.join("z")).unwrap();
    symlink("../a//./block", root.join("a/link")).unwrap();
    symlink(odd, root.join("a/dangling")).unwrap();
    let pipe = root.join("pipe");
    if format.has_devices {
        run(Command::new("mkfifo").arg(&pipe));
    }
    if format.has_devices && is_root {
        let devices = [("char", "c", "1", "3"), ("block", "b", "259", "70000")];
        for (name, kind, major, minor) in devices {
            run(Command::new("mknod")
                .arg(root.join(name))
                .args([kind, major, minor]));
        }
    }
    long(root, format);
    holes(root);

    // Permissions are changed last, so that they stay.
    for (name, mode) in [
        ("empty", 0o400),
        ("a/block", 0o4755),
        ("a/deep er", 0o1777),
        ("z", 0o2640),
    ] {
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    if is_root {
        chown(root.join("a/block"), Some(1), Some(2)).unwrap();
        lchown(root.join("a/link"), Some(65_534), Some(12_345)).unwrap();
        if format.is_wide {
            chown(root.join("a/deep er"), Some(3_000_000_000), Some(2_097_152)).unwrap();
        }
    }
    let new = Duration::new(1_600_000_000, 123_456_789);
    let times = [
        ("a/block", SystemTime::UNIX_EPOCH + new),
        (
            "a/deep er/more",
            SystemTime::UNIX_EPOCH + Duration::new(1, 100_000_000),
        ),
        (
            "a/deep er/directory",
            SystemTime::UNIX_EPOCH + Duration::new(8_589_934_591, 1),
        ),
    ];
    for (name, time) in times {
        touch(&root.join(name), time);
    }
    if format.is_wide {
        touch(
            &root.join("z"),
            SystemTime::UNIX_EPOCH - Duration::new(1_000, 250_000_000),
        );
        touch(
            &root.join("a/.wh.gone"),
            SystemTime::UNIX_EPOCH + Duration::new(8_589_934_592, 0),
        );
    }
}

/// Paths and links that are just not too long, or much too long, for a header.
fn long(root: &Path, format: Format) {
    let (path, link) = format.lengths;
    let lengths = [98, 99, 100, 101, 120, 250, 255, 256, 257, 1000];
    for length in lengths.into_iter().filter(|length| *length <= path) {
        // Paths begin with `./`.
        let rest = length - 2;
        let mut name = "p".repeat(rest);
        for slash in (50..rest - 20).step_by(50) {
            name.replace_range(slash..=slash, "/");
        }
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, length.to_string()).unwrap();
    }
    for length in [98, 99, 100, 101, 1000] {
        if length <= link {
            symlink("l".repeat(length), root.join(format!("link{length}"))).unwrap();
        }
    }
}

/// Files with holes: none, all, at either end, and more than fit in a header.
fn holes(root: &Path) {
    let file = |name: &str, size: u64, data: &[(u64, usize)]| {
        let file = File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, length) in data {
            file.write_all_at(&vec![b'h'; *length], *offset).unwrap();
        }
    };
    file("hole", 100_000, &[]);
    file("hole at the end", 1_000_001, &[(0, 5000)]);
    file("hole at the beginning", 1_000_001, &[(999_000, 1001)]);
    let many: Vec<_> = (0..60).map(|index| (index * 20_480, 3)).collect();
    file("holes", 60 * 20_480, &many);
    file("a few holes", 60 * 20_480, &many[..4]);
    file(
        &format!("holes {}", "n".repeat(70)),
        60 * 20_480,
        &many[..27],
    );
}

#[track_caller]
fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn touch(path: &Path, time: SystemTime) {
    let times = FileTimes::new().set_modified(time);
    File::open(path).unwrap().set_times(times).unwrap();
}

fn read(archive: &[u8], piece: usize) -> Vec<Entry> {
    let mut untar = Untar::new(TarLimits::default());
    let mut entries = Vec::new();
    for piece in archive.chunks(piece) {
        let take = |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        };
        untar.push(piece, take).unwrap();
    }
    untar.finish().unwrap();
    entries
}

/// A directory and all files below it, by their relative paths.
fn walk(root: &Path, files: &mut BTreeMap<Vec<u8>, PathBuf>) {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|file| file.unwrap().path()),
            );
        }
        let below = path.strip_prefix(root).unwrap();
        files.insert(below.as_os_str().as_bytes().to_vec(), path);
    }
}

#[track_caller]
fn compare(entry: &Entry, path: &Path, format: Format, first: &mut BTreeMap<u64, Vec<u8>>) {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let is_shared = kind.is_file() && metadata.nlink() > 1;
    let (expected, link) = if is_shared && first.contains_key(&metadata.ino()) {
        (EntryKind::HardLink, first[&metadata.ino()].clone())
    } else if kind.is_file() {
        first.insert(metadata.ino(), entry.path.clone());
        (EntryKind::File, Vec::new())
    } else if kind.is_symlink() {
        let link = fs::read_link(path).unwrap();
        (
            EntryKind::SymbolicLink,
            link.as_os_str().as_bytes().to_vec(),
        )
    } else if kind.is_dir() {
        (EntryKind::Directory, Vec::new())
    } else if kind.is_fifo() {
        (EntryKind::Pipe, Vec::new())
    } else if kind.is_char_device() {
        (EntryKind::CharacterDevice, Vec::new())
    } else {
        assert!(kind.is_block_device());
        (EntryKind::BlockDevice, Vec::new())
    };
    let path = path.display();
    assert_eq!((entry.kind, &entry.link), (expected, &link), "{path}");
    assert_eq!(entry.mode, metadata.mode() & 0o7777, "{path}");
    assert_eq!(entry.user.id, u64::from(metadata.uid()), "{path}");
    assert_eq!(entry.group.id, u64::from(metadata.gid()), "{path}");
    if format.has_names && metadata.uid() == 0 {
        assert_eq!(entry.user.name, b"root", "{path}");
    }
    let size = if expected == EntryKind::File {
        metadata.len()
    } else {
        0
    };
    assert_eq!(entry.size, size, "{path}");
    let moment = |seconds, nanoseconds: i64| Moment {
        seconds,
        nanoseconds: match format.has_nanoseconds {
            true => nanoseconds.try_into().unwrap(),
            false => 0,
        },
    };
    let modified = moment(metadata.mtime(), metadata.mtime_nsec());
    assert_eq!(entry.modified, modified, "{path}");
    if let Some(changed) = entry.changed {
        assert_eq!(
            changed,
            moment(metadata.ctime(), metadata.ctime_nsec()),
            "{path}"
        );
    }
    let device = match expected {
        EntryKind::CharacterDevice => (1, 3),
        EntryKind::BlockDevice => (259, 70_000),
        EntryKind::File
        | EntryKind::HardLink
        | EntryKind::SymbolicLink
        | EntryKind::Directory
        | EntryKind::Pipe => (0, 0),
    };
    assert_eq!(entry.device, device, "{path}");
}

/// The bytes of a file, from the segments in the archive.
fn content_of(entry: &Entry, archive: &[u8]) -> Vec<u8> {
    let whole = [Segment {
        offset: 0,
        length: entry.size,
    }];
    let segments = entry.segments.as_deref().unwrap_or(&whole);
    let mut content = vec![0; usize::try_from(entry.size).unwrap()];
    let mut data = &archive[usize::try_from(entry.offset).unwrap()..];
    for segment in segments {
        let start = usize::try_from(segment.offset).unwrap();
        let (bytes, rest) = data.split_at(usize::try_from(segment.length).unwrap());
        content[start..start + bytes.len()].copy_from_slice(bytes);
        data = rest;
    }
    content
}
