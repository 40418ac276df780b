//! Slots for bodies: how many bodies one sender may upload concurrently.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use http::{HeaderValue, header};

use crate::error::{Code, Error};

/// The number of bodies that an isolate receives, by sender.
#[derive(Debug, Default)]
pub(super) struct Slots(RefCell<BTreeMap<String, u32>>);

impl Slots {
    /// Counts one more body of a sender, until the returned slot is dropped.
    pub(super) fn take(self: &Rc<Self>, sender: String, most: u32) -> Result<Taken, Error> {
        let mut senders = self.0.borrow_mut();
        let count = senders.entry(sender.clone()).or_default();
        if *count >= most {
            return Err(Error::new(
                Code::TooManyRequests,
                format!(
                    "{most} uploads of this client are in progress; try again when one has ended"
                ),
            )
            .with_header(
                header::RETRY_AFTER,
                HeaderValue::from(Duration::from_secs(5).as_secs()),
            ));
        }
        *count += 1;
        Ok(Taken {
            slots: self.clone(),
            sender,
        })
    }
}

/// The slot of a body, released on drop.
#[derive(Debug)]
pub(super) struct Taken {
    slots: Rc<Slots>,
    sender: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut senders = self.slots.0.borrow_mut();
        if let Some(count) = senders.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                senders.remove(&self.sender);
            }
        }
    }
}
