//! Pull of a blob's bytes, by a repository that has the right.
//!
//! Read the link. If it names extents, or is absent, the record decides. Then read the bytes: the
//! blob's own object, or the extents, one by one. A pull takes less than the grace period from the
//! reading of the record to the last extent: a slower one is outside of the promise.

use crate::{
    process::{At as Place, Client, World},
    rule::Rule,
    scenario::Operation,
    store::{Body, Extents, Key, Record},
};

/// Where a client is in a pull of a blob's bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Read the link.
    Link,
    /// Read the record.
    Record,
    /// Read the bytes at the blob's own key.
    Bytes,
    /// Read this one of the extents.
    Extent {
        /// The extents that the record or the link names.
        extents: Extents,
        /// The number of the next extent.
        number: u8,
        /// Whether the link names them: if the first one is gone, the record decides.
        is_linked: bool,
    },
    /// Some bytes were missing or wrong.
    Broken,
}

impl Client {
    /// One step of a pull of a blob's bytes.
    pub(crate) fn read_bytes(self, at: At, operation: Operation, world: &World<'_>) -> Self {
        let Operation::Read { repository, blob } = operation else {
            return self;
        };
        let broken = self.to(Place::Read(At::Broken));
        match at {
            At::Link => {
                let link = world.store.get(Key::Link(blob, repository));
                match link.map(|link| link.body) {
                    Some(Body::Record(Record::Bytes) | Body::Link(Record::Bytes, _)) => {
                        self.to(Place::Read(At::Bytes))
                    }
                    Some(
                        Body::Record(Record::Extents(extents))
                        | Body::Link(Record::Extents(extents), _),
                    ) if !world.keeps(Rule::RecordBeforePull) => {
                        self.bound().to(Place::Read(At::Extent {
                            extents,
                            number: 0,
                            is_linked: true,
                        }))
                    }
                    _ => self.to(Place::Read(At::Record)),
                }
            }
            At::Record => match world.store.record(blob) {
                Some(Record::Bytes) => self.to(Place::Read(At::Bytes)),
                Some(Record::Extents(extents)) => self.bound().to(Place::Read(At::Extent {
                    extents,
                    number: 0,
                    is_linked: false,
                })),
                None => broken,
            },
            At::Bytes => match world.store.get(Key::Blob(blob)).map(|blob| blob.body) {
                Some(Body::Bytes(0)) => self.accepted(world),
                Some(Body::Record(_)) => self.to(Place::Read(At::Record)),
                _ => broken,
            },
            At::Extent {
                extents,
                number,
                is_linked,
            } => {
                let is_slow = self
                    .since
                    .is_some_and(|since| since >= world.model.scenario.grace);
                let Some(extent) = extents.get(number) else {
                    return self.accepted(world);
                };
                match world.store.get(Key::Extent(extent)).map(|bytes| bytes.body) {
                    _ if is_slow => self.refused(world),
                    Some(Body::Bytes(0)) => self.to(Place::Read(At::Extent {
                        extents,
                        number: number + 1,
                        is_linked,
                    })),
                    None if number == 0 && is_linked && world.keeps(Rule::RecordReread) => {
                        self.to(Place::Read(At::Record))
                    }
                    _ => broken,
                }
            }
            At::Broken => self,
        }
    }
}
