//! What stands before an entry and overrides the fields of its header: long names of GNU, pax records.

use std::{borrow::Cow, ops::Range};

use crate::layer::{
    entry::{EntryKind, Moment},
    tar::{
        Untar,
        error::Problem,
        header::{Dialect, Header, SIZE},
        limits::MAX_OWNER,
        pax::{Records, decimal, moment},
    },
};

/// What stands before an entry as if it were a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extension {
    Records,
    Globals,
    Path,
    Link,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Next {
    pub(super) records: Records,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
}

impl Untar {
    pub(super) fn kind(&self, header: &Header) -> Result<EntryKind, Problem> {
        Ok(match header.flag() {
            // Before there was a flag for directories, their paths ended so.
            0 if self.path(header).ends_with(b"/") => EntryKind::Directory,
            // Contiguous files are files, and old sparse ones have a flag of their own.
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::SymbolicLink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            // Incremental archives list in the data of a directory what was in it.
            b'5' | b'D' => EntryKind::Directory,
            b'6' => EntryKind::Pipe,
            // POSIX would have them be files; containerd refuses them.
            flag => return Err(Problem::Flag(flag)),
        })
    }

    /// The number of bytes after the header. A size that stands elsewhere than with a file means nothing to Go, even with a
    /// hard link, which POSIX lets have data (cpio's pax archives do), and GNU tar takes it for zero there.
    pub(super) fn data(&self, header: &Header) -> Result<u64, Problem> {
        let size = header.unsigned(SIZE, "size")?;
        let size = self.unsigned(b"size", "size")?.unwrap_or(size);
        let has_data = self.kind(header)? == EntryKind::File || header.flag() == b'D';
        Ok(if has_data { size } else { 0 })
    }

    /// The path as it stands in the archive.
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
    ) -> Result<u64, Problem> {
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
    ) -> Result<Vec<u8>, Problem> {
        let field = match header.dialect() {
            Dialect::V7 => &[],
            Dialect::Ustar | Dialect::Gnu | Dialect::Star => header.text(field),
        };
        let name = self.record(key).unwrap_or(field);
        if name.len() > MAX_OWNER {
            return Err(Problem::Owner);
        }
        Ok(name.to_vec())
    }

    pub(super) fn device(
        &self,
        header: &Header,
        field: Range<usize>,
        key: &[u8],
    ) -> Result<u32, Problem> {
        let what = "device number";
        let number = match (self.unsigned(key, what)?, header.dialect()) {
            (Some(number), _) => number,
            (None, Dialect::V7) => 0,
            (None, Dialect::Ustar | Dialect::Gnu | Dialect::Star) => {
                header.unsigned(field, what)?
            }
        };
        u32::try_from(number).map_err(|_| Problem::Number(what))
    }

    /// The value of a record: the entry's, or else that of all entries. An empty one is none.
    pub(super) fn record(&self, key: &[u8]) -> Option<&[u8]> {
        let value = self.next.records.0.get(key);
        let value = value.or_else(|| self.globals.0.get(key))?;
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn unsigned(&self, key: &[u8], what: &'static str) -> Result<Option<u64>, Problem> {
        let value = self.record(key).map(decimal);
        value
            .map(|number| number.ok_or(Problem::Number(what)))
            .transpose()
    }

    pub(super) fn moment(&self, key: &[u8], what: &'static str) -> Result<Option<Moment>, Problem> {
        let value = self.record(key).map(moment);
        value
            .map(|moment| moment.ok_or(Problem::Number(what)))
            .transpose()
    }
}

/// A path from the root: `..` is not above it.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    clean
}
