//! Sweeping the hints that lead to fills. The extents of a fill are deleted with its upload.

use crate::{
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        step::{Halt, JobStep, Removal, RemovalAction, What},
    },
    store::key::{Key, Prefix},
};

impl<P: Platform> JobStep<'_, P> {
    /// Sweeps all hints, after the given one.
    pub(super) async fn sweep_fills(&self, after: &mut Option<Key>) -> Result<(), Halt> {
        let mut hints = Listing::new(Prefix::Fills, after.as_ref().map(Key::to_string), false);
        while let Some((hint, meta)) = hints.next(self).await? {
            self.require_more()?;
            if matches!(hint, Key::Fill { .. }) && self.is_old(&meta) {
                // A hint that is written over it at this moment is lost too: if that fill is
                // interrupted, it begins anew.
                self.tell(Removal {
                    action: RemovalAction::Delete,
                    what: What::Hint,
                    key: hint.to_string(),
                    bytes: 0,
                    why: "the hint is older than the grace period",
                });
                self.delete(std::slice::from_ref(&hint)).await?;
            }
            *after = Some(hint);
        }
        Ok(())
    }
}
