//! The work that a request leaves for after its reply, outside of the client's wait.

use std::{cell::RefCell, fmt, rc::Rc};

use futures_util::future::{LocalBoxFuture, join_all};

use crate::{
    digest::Digest,
    name::{Name, Tag},
    store::warm::Content,
    tier::Kind,
    time::Timestamp,
};

/// The work that is left for after a reply.
#[derive(Debug)]
pub struct After<B> {
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

/// Notes of what to do after the reply, made while a request is answered.
#[derive(Debug)]
pub struct Notes<B>(RefCell<After<B>>);

/// Content that has earned a place in the warm tier.
#[derive(Debug)]
pub struct Promotion<B> {
    /// The repository whose manifest it is; none for what is no manifest.
    pub name: Option<Name>,
    /// The content.
    pub content: Rc<Content<B>>,
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) confirmed: Timestamp,
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

impl<B> Default for Notes<B> {
    fn default() -> Self {
        Self(RefCell::new(After {
            promotions: Vec::new(),
            layers: Vec::new(),
            learnt: Vec::new(),
            work: Vec::new(),
            sender: None,
        }))
    }
}

impl<B> Notes<B> {
    /// Notes content that is to go warm after the reply.
    pub fn promote(&self, promotion: Promotion<B>) {
        self.0.borrow_mut().promotions.push(promotion);
    }

    /// Notes layers that are to be indexed after the reply.
    pub fn index(&self, layers: impl IntoIterator<Item = Digest>) {
        self.0.borrow_mut().layers.extend(layers);
    }

    /// Notes what an upstream said, to be stored after the reply.
    pub fn learn(&self, learnt: Learnt<B>) {
        self.0.borrow_mut().learnt.push(learnt);
    }

    /// Notes who is charged for the memory of what is left to do.
    pub fn charge(&self, sender: Option<Rc<str>>) {
        self.0.borrow_mut().sender = sender;
    }

    /// Notes what has to go on while the reply is read.
    pub fn work(&self, work: LocalBoxFuture<'static, ()>) {
        self.0.borrow_mut().work.push(Work(work));
    }

    /// The work that was noted.
    pub fn into_after(self) -> After<B> {
        self.0.into_inner()
    }
}

impl<B> After<B> {
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
