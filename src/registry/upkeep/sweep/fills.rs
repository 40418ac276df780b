//! Sweeping hints at fills. What those have stored goes with their uploads.

use crate::{
    platform::Platform,
    registry::upkeep::{
        listing::Listing,
        step::{Action, Halt, JobStep, Removal, What},
    },
    store::key::{Key, Prefix},
};

impl<P: Platform> JobStep<'_, P> {
    /// Goes through all hints from one on.
    pub(super) async fn sweep_fills(&self, after: &mut Option<Key>) -> Result<(), Halt> {
        let mut hints = Listing::new(Prefix::Fills, after.as_ref().map(Key::to_string), false);
        while let Some((hint, meta)) = hints.next(self).await? {
            self.require_more()?;
            if matches!(hint, Key::Fill { .. }) && self.is_old(&meta) {
                // Who puts another one in its place now only has to begin anew, should that be interrupted.
                self.tell(Removal {
                    action: Action::Delete,
                    what: What::Hint,
                    key: hint.to_string(),
                    bytes: 0,
                    why: "nobody went on with this fill within the grace period",
                });
                self.delete(std::slice::from_ref(&hint)).await?;
            }
            *after = Some(hint);
        }
        Ok(())
    }
}
