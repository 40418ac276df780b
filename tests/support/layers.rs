//! Layers for tests: archives written entry by entry, and compressed by programs of the system.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// A tar archive under construction.
#[derive(Clone, Debug, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// Appends an entry with any type flag.
    pub fn entry(mut self, path: &[u8], flag: u8, link: &str, bytes: &[u8]) -> Self {
        let mut header = [0; 512];
        header[..path.len()].copy_from_slice(path);
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000017\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = flag;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Appends a regular file.
    pub fn file(self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Self {
        self.entry(path.as_ref(), b'0', "", bytes.as_ref())
    }

    /// Appends a directory.
    pub fn directory(self, path: &str) -> Self {
        self.entry(path.as_bytes(), b'5', "", b"")
    }

    /// Appends a symbolic link.
    pub fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(path.as_bytes(), b'2', link, b"")
    }

    /// Appends a hard link.
    pub fn hard_link(self, path: &str, link: &str) -> Self {
        self.entry(path.as_bytes(), b'1', link, b"")
    }

    /// The length so far, which is the offset of the next header.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Appends the end of the archive, and returns all of it.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// Incompressible bytes, which depend on the seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Bytes that compress to about a half, as programs do.
pub fn words(seed: u64, length: usize) -> Vec<u8> {
    let noise = noise(seed, length.div_ceil(2));
    let pairs = noise
        .iter()
        .flat_map(|byte| [b'a' + byte % 16, b'a' + byte / 16]);
    pairs.take(length).collect()
}

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Creates a folder.
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strata-layers-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a shell command in a folder, and returns its standard output.
#[track_caller]
pub fn run(folder: &Path, command: &str) -> Vec<u8> {
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs a shell command with bytes as its standard input, and returns its standard output.
#[track_caller]
pub fn through(command: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = Folder::create();
    std::fs::write(folder.0.join("in"), bytes).unwrap();
    run(&folder.0, &format!("{command} < in"))
}

/// Compresses bytes with the program `gzip`.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    through("gzip -6n", bytes)
}
