//! Extensions: long names of GNU and pax records, which stand before an entry and override the
//! fields of its header.

use std::{borrow::Cow, ops::Range};

use crate::layer::{
    entry::{EntryKind, Moment},
    tar::{
        attributes::{Attributes, attributes},
        error::TarProblem,
        header::{Dialect, Header, LINK, SIZE, text},
        limits::{APPLIED, EACH, MAX_GLOBALS, MAX_OWNER},
        pax::{Records, decimal, moment},
    },
    wire,
};

/// The kinds of extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extension {
    Records,
    Globals,
    Path,
    Link,
}

/// The extensions of one entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct NextOverrides {
    pub(super) records: Records,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
}

/// The extensions in force. They override the fields of headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    /// The extensions of the next entry.
    pub(super) next: NextOverrides,
    /// The pax records of all following entries.
    pub(super) globals: Records,
    /// The bytes of `globals`.
    globals_size: u64,
}

impl Overrides {
    /// Adds the data of an extension.
    pub(super) fn add(&mut self, extension: Extension, data: &[u8]) -> Result<(), TarProblem> {
        match extension {
            // Of two, the second one replaces the first one, as in Go.
            Extension::Records => self.next.records = Records::parse(data)?,
            Extension::Globals => {
                self.globals.merge(Records::parse(data)?);
                self.globals_size = self.globals.size();
                if self.globals_size > MAX_GLOBALS {
                    return Err(TarProblem::Globals);
                }
            }
            Extension::Path => self.next.path = text(data).to_vec(),
            Extension::Link => self.next.link = text(data).to_vec(),
        }
        Ok(())
    }

    /// Whether there are extensions whose entry has not come yet.
    pub(super) fn wait_for_an_entry(&self) -> bool {
        self.next != NextOverrides::default()
    }

    /// Forgets the extensions of the entry that was read.
    pub(super) fn end_entry(&mut self) {
        self.next = NextOverrides::default();
    }

    /// Fails if reading the global records for so many entries costs too much. Every entry reads
    /// all of them. They count as if they had applied since the first entry: the saved state does
    /// not store since when they apply.
    pub(super) const fn check_proportion(&self, entries: u64) -> Result<(), TarProblem> {
        let applied = self.globals_size.saturating_mul(entries);
        if applied > APPLIED.saturating_add(EACH.saturating_mul(entries)) {
            return Err(TarProblem::Proportion);
        }
        Ok(())
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for bytes in [&self.next.path, &self.next.link] {
            wire::put_bytes(out, bytes);
        }
        for records in [&self.next.records, &self.globals] {
            wire::put(out, records.0.len() as u64);
            for (key, value) in &records.0 {
                wire::put_bytes(out, key);
                wire::put_bytes(out, value);
            }
        }
    }

    pub(super) fn load(reader: &mut wire::WireReader<'_>) -> Option<Self> {
        let mut overrides = Self::default();
        overrides.next.path = reader.bytes()?.to_vec();
        overrides.next.link = reader.bytes()?.to_vec();
        for records in [&mut overrides.next.records, &mut overrides.globals] {
            for _ in 0..reader.number()? {
                let (key, value) = (reader.bytes()?, reader.bytes()?);
                records.0.insert(key.to_vec(), value.to_vec());
            }
        }
        overrides.globals_size = overrides.globals.size();
        Some(overrides)
    }

    pub(super) fn kind(&self, header: &Header) -> Result<EntryKind, TarProblem> {
        Ok(match header.flag() {
            // Old formats have no flag for directories: their paths end in a slash.
            0 if self.path(header).ends_with(b"/") => EntryKind::Directory,
            // A contiguous file is a file. Old sparse files have their own flag.
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::SymbolicLink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            // In incremental archives, the data of a directory lists its files.
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Pipe,
            // POSIX treats unknown flags as files; containerd refuses them.
            flag => return Err(TarProblem::Flag(flag)),
        })
    }

    /// The number of bytes of data after the header. Like Go, this ignores the size of anything but
    /// files. POSIX allows data after a hard link, and cpio writes it in pax archives; GNU tar
    /// ignores that size too.
    pub(super) fn data(&self, header: &Header) -> Result<u64, TarProblem> {
        let size = header.unsigned(SIZE, "size")?;
        let size = self.unsigned(b"size", "size")?.unwrap_or(size);
        let has_data = self.kind(header)? == EntryKind::File || header.flag() == b'D';
        Ok(if has_data { size } else { 0 })
    }

    /// The path as written in the archive.
    pub(super) fn path<'a>(&'a self, header: &'a Header) -> Cow<'a, [u8]> {
        match self.next.path.as_slice() {
            b"" => self
                .record(b"path")
                .map_or_else(|| header.path(), Cow::Borrowed),
            path => path.into(),
        }
    }

    pub(super) fn owner(
        &self,
        header: &Header,
        field: Range<usize>,
        key: &[u8],
        what: &'static str,
    ) -> Result<u64, TarProblem> {
        match self.unsigned(key, what)? {
            Some(id) => Ok(id),
            None => header.unsigned(field, what),
        }
    }

    pub(super) fn name(
        &self,
        header: &Header,
        field: Range<usize>,
        key: &[u8],
    ) -> Result<Vec<u8>, TarProblem> {
        let field = match header.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar | Dialect::Gnu | Dialect::Star => header.text(field),
        };
        let name = self.record(key).unwrap_or(field);
        if name.len() > MAX_OWNER {
            return Err(TarProblem::Owner);
        }
        Ok(name.to_vec())
    }

    pub(super) fn device(
        &self,
        header: &Header,
        field: Range<usize>,
        key: &[u8],
    ) -> Result<u32, TarProblem> {
        let what = "device number";
        let number = match (self.unsigned(key, what)?, header.dialect()) {
            (Some(number), _) => number,
            (None, Dialect::V7) => 0,
            (None, Dialect::Ustar | Dialect::Gnu | Dialect::Star) => {
                header.unsigned(field, what)?
            }
        };
        u32::try_from(number).map_err(|_| TarProblem::Number(what))
    }

    /// The target of a link as written in the archive.
    pub(super) fn link<'a>(&'a self, header: &'a Header) -> &'a [u8] {
        match self.next.link.as_slice() {
            b"" => self.record(b"linkpath").unwrap_or(header.text(LINK)),
            link => link,
        }
    }

    /// The extended attributes, and the number of those that did not fit.
    pub(super) fn attributes(&self) -> Result<(Attributes, u64), TarProblem> {
        attributes(&self.next.records.0, &self.globals.0)
    }

    /// The value of a record: that of the entry, or the global one. An empty value counts as none.
    pub(super) fn record(&self, key: &[u8]) -> Option<&[u8]> {
        let value = self.next.records.0.get(key);
        let value = value.or_else(|| self.globals.0.get(key))?;
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn unsigned(
        &self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<u64>, TarProblem> {
        let value = self.record(key).map(decimal);
        value
            .map(|number| number.ok_or(TarProblem::Number(what)))
            .transpose()
    }

    pub(super) fn moment(
        &self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<Moment>, TarProblem> {
        let value = self.record(key).map(moment);
        value
            .map(|moment| moment.ok_or(TarProblem::Number(what)))
            .transpose()
    }
}
