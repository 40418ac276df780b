//! What one request asked of the tiers, and what is left to do after its reply.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    time::Duration,
};

use crate::{
    digest::Digest,
    store::{policy::Tier, tiers::Promotion},
};

/// What one request asked of the tiers.
#[derive(Debug)]
pub struct Trace<B> {
    /// Whether the one who asks believes that something was not there a moment ago. Who may push it does not: it may be
    /// there since.
    pub believes_absence: Cell<bool>,
    steps: RefCell<Vec<Step>>,
    last: Cell<Option<Tier>>,
    promotions: RefCell<Vec<Promotion<B>>>,
    layers: RefCell<Vec<Digest>>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    what: &'static str,
    tier: Tier,
    took: Duration,
}

impl<B> Default for Trace<B> {
    fn default() -> Self {
        Self {
            believes_absence: Cell::new(false),
            steps: RefCell::default(),
            last: Cell::new(None),
            promotions: RefCell::default(),
            layers: RefCell::default(),
        }
    }
}

impl<B> Trace<B> {
    /// Notes which tier answered a question, and how long it took. Questions of one kind that one tier answered count as one:
    /// a file may be made of thousands.
    pub fn step(&self, what: &'static str, tier: Tier, took: Duration) {
        self.last.set(Some(tier));
        let mut steps = self.steps.borrow_mut();
        let same = |step: &&mut Step| step.what == what && step.tier == tier;
        match steps.iter_mut().find(same) {
            Some(step) => step.took += took,
            None => steps.push(Step { what, tier, took }),
        }
    }

    /// Notes content that is to go warm after the reply.
    pub fn promote(&self, promotion: Promotion<B>) {
        self.promotions.borrow_mut().push(promotion);
    }

    /// Notes layers that are to be indexed after the reply.
    pub fn index(&self, layers: impl IntoIterator<Item = Digest>) {
        self.layers.borrow_mut().extend(layers);
    }

    /// The tier that gave the last answer, which is what the reply is made of.
    pub fn tier(&self) -> Option<Tier> {
        self.last.get()
    }

    /// The value of a `Server-Timing` header: each kind of question, the tier that answered, milliseconds.
    ///
    /// <https://www.w3.org/TR/server-timing/>
    pub fn server_timing(&self) -> String {
        let mut text = String::new();
        for Step { what, tier, took } in self.steps.borrow().iter() {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "{separator}{what};desc={};dur={}",
                tier.name(),
                took.as_millis()
            );
        }
        text
    }

    /// What is left to do after the reply: content to be promoted, layers to be indexed.
    pub fn into_rest(self) -> (Vec<Promotion<B>>, Vec<Digest>) {
        (self.promotions.into_inner(), self.layers.into_inner())
    }
}
