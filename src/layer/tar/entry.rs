//! The description of an entry: the fields of its header, and the extensions that override them.

use std::borrow::Cow;

use crate::layer::{
    entry::{Entry, EntryKind, Owner},
    tar::{
        error::TarProblem,
        header::{
            GROUP, GROUP_NAME, Header, MAJOR, MINOR, MODE, MODIFIED, USER, USER_NAME, seconds,
        },
        overrides::Overrides,
        path::clean,
        sparse::Sparse,
    },
};

impl Overrides {
    /// Describes the entry of a header, as if it were not sparse and at the start of the archive.
    /// The size is the length of its data, for directories too. `path_bytes` is the longest path
    /// or link.
    pub(super) fn describe(&self, header: &Header, path_bytes: usize) -> Result<Entry, TarProblem> {
        let (kind, sparse) = (self.kind(header)?, self.sparse(header)?);
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymbolicLink);
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        let path = match sparse {
            Some(Sparse::Records | Sparse::Data) => self.record(b"GNU.sparse.name"),
            Some(Sparse::Old) | None => None,
        };
        let path = path.map_or_else(|| self.path(header), Cow::Borrowed);
        let link = self.link(header);
        if path.len() > path_bytes || link.len() > path_bytes {
            return Err(TarProblem::Path(path_bytes));
        }
        let (accessed, changed) = header.times().unwrap_or_default();
        let modified = match self.moment(b"mtime", "modification time")? {
            Some(moment) => moment,
            None => seconds(header.number(MODIFIED, "modification time")?),
        };
        let data = self.data(header)?;
        let (attributes, omitted) = self.attributes()?;
        // Some systems write the file type above the twelve low bits.
        let mode = header.number(MODE, "mode")?.cast_unsigned() & MODE_BITS;
        Ok(Entry {
            path: clean(&path),
            kind,
            mode: u32::try_from(mode).map_err(|_| TarProblem::Number("mode"))?,
            user: Owner {
                id: self.owner(header, USER, b"uid", "user")?,
                name: self.name(header, USER_NAME, b"uname")?,
            },
            group: Owner {
                id: self.owner(header, GROUP, b"gid", "group")?,
                name: self.name(header, GROUP_NAME, b"gname")?,
            },
            size: data,
            modified,
            accessed: self.moment(b"atime", "access time")?.or(accessed),
            changed: self.moment(b"ctime", "change time")?.or(changed),
            link: match kind {
                EntryKind::HardLink => clean(link),
                _ if is_link => link.to_vec(),
                _ => Vec::new(),
            },
            device: if is_device {
                let major = self.device(header, MAJOR, b"SCHILY.devmajor")?;
                (major, self.device(header, MINOR, b"SCHILY.devminor")?)
            } else {
                (0, 0)
            },
            attributes,
            omitted,
            offset: 0,
            segments: None,
        })
    }
}

const MODE_BITS: u64 = 0o7777;
