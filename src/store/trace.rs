//! What one request asked of the tiers, and what is left to do after its reply.

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
    rc::Rc,
    time::Duration,
};

use futures_util::future::{LocalBoxFuture, join_all};

use crate::{
    digest::Digest,
    name::{Name, Tag},
    store::{policy::Tier, tiers::Promotion, warm::Content},
    time::Timestamp,
};

/// What one request asked of the tiers.
#[derive(Debug)]
pub struct Trace<B> {
    /// Whether the one who asks believes that something was not there a moment ago. Who may push it does not: it may be
    /// there since.
    pub believes_absence: Cell<bool>,
    /// Why what is stored was served, where an upstream should have been asked again.
    pub stale: Cell<Option<&'static str>>,
    steps: RefCell<Vec<Step>>,
    last: Cell<Option<Tier>>,
    rest: RefCell<Rest<B>>,
}

/// What is left to do after a reply, outside of the client's wait.
#[derive(Debug)]
pub struct Rest<B> {
    /// Content to be promoted.
    pub promotions: Vec<Promotion<B>>,
    /// Layers to be indexed.
    pub layers: Vec<Digest>,
    /// What an upstream said, to be stored.
    pub learnt: Vec<Learnt<B>>,
    /// What has to go on while the reply is read.
    work: Vec<Work>,
    /// The sender that is charged for the memory of the request.
    pub sender: Option<Rc<str>>,
}

struct Work(LocalBoxFuture<'static, ()>);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// What an upstream said of a manifest or a tag.
#[derive(Debug)]
pub struct Learnt<B> {
    /// The repository, as it is called here.
    pub name: Name,
    /// The manifest.
    pub digest: Digest,
    /// Its content, where the upstream gave it.
    pub content: Option<Rc<Content<B>>>,
    /// The tag that names it.
    pub tag: Option<Sighted>,
}

/// A tag of which an upstream said what it names.
#[derive(Debug)]
pub struct Sighted {
    /// The tag.
    pub tag: Tag,
    /// When the upstream was asked.
    pub seen: Timestamp,
    /// The etag of what was stored of the tag then. What was written since stays: it is no older, or asks to ask again.
    pub over: Option<String>,
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
            stale: Cell::new(None),
            steps: RefCell::default(),
            last: Cell::new(None),
            rest: RefCell::new(Rest {
                promotions: Vec::new(),
                layers: Vec::new(),
                learnt: Vec::new(),
                work: Vec::new(),
                sender: None,
            }),
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
        self.rest.borrow_mut().promotions.push(promotion);
    }

    /// Notes layers that are to be indexed after the reply.
    pub fn index(&self, layers: impl IntoIterator<Item = Digest>) {
        self.rest.borrow_mut().layers.extend(layers);
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

    /// Notes what an upstream said, to be stored after the reply.
    pub fn learn(&self, learnt: Learnt<B>) {
        self.rest.borrow_mut().learnt.push(learnt);
    }

    /// Notes who is charged for the memory of what is left to do.
    pub fn charge(&self, sender: Option<Rc<str>>) {
        self.rest.borrow_mut().sender = sender;
    }

    /// Notes what has to go on while the reply is read.
    pub fn work(&self, work: LocalBoxFuture<'static, ()>) {
        self.rest.borrow_mut().work.push(Work(work));
    }

    /// What is left to do after the reply.
    pub fn into_rest(self) -> Rest<B> {
        self.rest.into_inner()
    }
}

impl<B> Rest<B> {
    /// Whether nothing is.
    pub const fn is_nothing(&self) -> bool {
        self.promotions.is_empty()
            && self.layers.is_empty()
            && self.learnt.is_empty()
            && self.work.is_empty()
    }

    /// Does what has to go on while the reply is read.
    pub async fn work(&mut self) {
        let work = self.work.drain(..).map(|Work(work)| work);
        join_all(work.collect::<Vec<_>>()).await;
    }
}
