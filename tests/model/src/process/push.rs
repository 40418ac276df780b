//! Push, whole: 1 KEEP; 2, 3 create the blob if absent, which is the look; 4 201.

use crate::{
    process::{After, At as Place, Client, World, keep},
    scenario::Operation,
    store::{Body, Key, Record, Right},
};

/// Where a client is in a push.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum At {
    /// Look whether the blob is there, outside of any protection. If it is, its bytes are hashed
    /// and not stored.
    Head,
    /// 2, 3: create it if absent, which is the look.
    Put,
    /// 2: look.
    Look,
    /// Delete the start of the session through which the blob came.
    Forget(Record),
    /// Write the link.
    Link(Record),
}

impl Client {
    /// One step of a push.
    pub(crate) fn push(self, at: At, operation: Operation, world: &mut World<'_>) -> Self {
        let Operation::Push {
            repository,
            blob,
            session,
        } = operation
        else {
            return self;
        };
        let stored = |record| match session {
            Some(_) => self.to(Place::Push(At::Forget(record))),
            None => self.to(Place::Push(At::Link(record))),
        };
        match at {
            At::Head => {
                let after = if world.store.record(blob).is_some() {
                    world.known.hash(repository, blob);
                    After::Look
                } else {
                    After::Put
                };
                self.to(Place::Keep(keep::At::first(world), after))
            }
            At::Put => {
                // The loser of a race to create the blob has its bytes too: see the assumptions.
                world.known.hash(repository, blob);
                if world.store.create_blob(blob, Body::Bytes(0)) {
                    stored(Record::Bytes).without_link(world)
                } else {
                    self.to(Place::Push(At::Look))
                }
            }
            At::Look => match world.store.record(blob) {
                Some(record) => stored(record).without_link(world),
                None => self.refused(world),
            },
            At::Forget(record) => {
                if let Some(session) = session {
                    world.store.delete(Key::Step(session, 0));
                }
                self.to(Place::Push(At::Link(record))).without_link(world)
            }
            At::Link(record) => {
                world.store.put(
                    Key::Link(blob, repository),
                    Body::Link(record, Right::Pushed),
                );
                self.accepted(world)
            }
        }
    }

    /// Answers at once if the scenario has no links.
    fn without_link(self, world: &World<'_>) -> Self {
        match self.at {
            Place::Push(At::Link(_)) if !world.model.scenario.links => self.accepted(world),
            _ => self,
        }
    }
}
