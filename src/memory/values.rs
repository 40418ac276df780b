//! Values in memory.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use crate::{
    memory::bytes::MemoryBytes,
    store::{StoreError, Values},
};

/// A cache of values in memory. They do not expire: only [`MemoryValues::forget`] and deletions
/// remove them.
#[derive(Debug, Default)]
pub struct MemoryValues {
    values: RefCell<BTreeMap<String, (MemoryBytes, Duration)>>,
}

impl MemoryValues {
    /// The keys of all values in order, each with the time to live that it was written with.
    pub fn keys(&self) -> Vec<(String, Duration)> {
        let values = self.values.borrow();
        let keys = values.iter().map(|(key, (_, time))| (key.clone(), *time));
        keys.collect()
    }

    /// Removes all values, as a cache may at any time.
    pub fn forget(&self) {
        self.values.borrow_mut().clear();
    }
}

impl Values for MemoryValues {
    type Bytes = MemoryBytes;

    async fn get(&self, key: &str) -> Result<Option<MemoryBytes>, StoreError> {
        Ok(self
            .values
            .borrow()
            .get(key)
            .map(|(value, _)| value.clone()))
    }

    async fn put(
        &self,
        key: &str,
        value: MemoryBytes,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        self.values
            .borrow_mut()
            .insert(key.to_owned(), (value, time_to_live));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.values.borrow_mut().remove(key);
        Ok(())
    }
}
