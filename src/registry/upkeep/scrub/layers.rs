//! Scrubbing objects that are derived from layers: useless ones are deleted, and written again by
//! the next look inside.

use crate::{
    digest::Digest,
    layer::index::{self, Index, IndexError, StoredIndex},
    platform::Platform,
    registry::upkeep::{
        scrub::{
            Scrub,
            report::{Damage, Finding, Repair},
        },
        step::{Halt, What},
    },
    store::{Meta, key::Key},
};

/// More bytes than any index that is read whole.
const MAX_INDEX: u64 = 4 * 1024 * 1024;

impl<P: Platform> Scrub<'_, P> {
    /// Checks the objects that are derived from a layer of this size. Without a size, checks only
    /// whether the layer is stored.
    pub(super) async fn scrub_derived(
        &self,
        digest: &Digest,
        size: Option<u64>,
        derived: &[(Key, Meta)],
    ) -> Result<(), Halt> {
        let index = Key::index(digest);
        let why = match size {
            None => {
                let is_young = derived.iter().any(|(_, meta)| !self.work.is_old(meta));
                if is_young || self.work.head(&Key::blob(digest)).await?.is_some() {
                    return Ok(());
                }
                Some((Damage::Orphaned, "its layer is not stored".to_owned()))
            }
            Some(_) if !derived.iter().any(|(key, _)| *key == index) => {
                // The pass over the layer has not ended.
                return Ok(());
            }
            Some(size) => {
                self.checked(What::Index, 0);
                let wrong = self.examine_index(digest, size, derived).await?;
                wrong.map(|why| (Damage::Corrupt, why))
            }
        };
        let Some((found, why)) = why else {
            return Ok(());
        };
        self.work.require(2)?;
        self.find(Finding {
            found,
            what: What::Index,
            key: index.to_string(),
            why,
            repair: Some(Repair::Delete),
        });
        if self.work.is_dry {
            return Ok(());
        }
        self.work.delete_derived(digest).await
    }

    /// The error in the index of a layer of this size, if there is one.
    async fn examine_index(
        &self,
        digest: &Digest,
        size: u64,
        derived: &[(Key, Meta)],
    ) -> Result<Option<String>, Halt> {
        let key = Key::index(digest);
        let Some((_, bytes)) = self.read_object(&key, MAX_INDEX).await? else {
            return Ok(None);
        };
        let Some(bytes) = bytes else {
            let found = format!("it has more than {MAX_INDEX} bytes");
            return Ok(Some(found));
        };
        let index = match StoredIndex::parse(&bytes) {
            Ok(StoredIndex::Index(index)) => index,
            Ok(StoredIndex::Refused(_)) => return Ok(None),
            Err(IndexError::Version(version)) => {
                let found = format!(
                    "its version is {version}; this registry reads version {}",
                    index::VERSION
                );
                return Ok(Some(found));
            }
            Err(error) => return Ok(Some(error.to_string())),
        };
        let has = |key: &Key, size: Option<u64>| {
            derived
                .iter()
                .any(|(other, meta)| other == key && size.is_none_or(|size| meta.size == size))
        };
        let is_whole = bytes.len() as u64 == index.size();
        let rest = index.size().saturating_sub(index.head());
        let why = if index.compressed != size {
            format!("its layer has {} bytes", index.compressed)
        } else if !is_whole && bytes.len() as u64 != index.head() {
            "it is not complete".to_owned()
        } else if !is_whole && !has(&Key::pages(digest), Some(rest)) {
            "its second part is missing".to_owned()
        } else if !(0..index.objects).all(|number| has(&Key::stored_spans(digest, number), None)) {
            "spans that it names are missing".to_owned()
        } else if is_whole && !has_blocks(&index, &bytes) {
            "its contents can't be read".to_owned()
        } else {
            return Ok(None);
        };
        Ok(Some(why))
    }
}

/// Whether each block of contents of an index can be read.
fn has_blocks(index: &Index, bytes: &[u8]) -> bool {
    let read = |block| {
        let range = index.range_of(block)?;
        let first = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        index.read_block(block, bytes.get(first..end)?).ok()
    };
    (0..index.blocks()).all(|block| read(block).is_some())
}
