//! The work that is left for after the reply, so that the client does not wait for it.

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    mem,
    pin::pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use futures_util::future::{Either, LocalBoxFuture, join_all, select};

use crate::{
    digest::Digest,
    host::Clock,
    name::{Name, Tag},
    store::warm::TierContent,
    tier::Kind,
    time::Timestamp,
};

/// The work that is left for after a reply, which [`Registry::finish`] does. `B` are bytes of the
/// platform.
///
/// [`Registry::finish`]: crate::registry::Registry::finish
#[derive(Debug)]
pub struct After<B> {
    /// Content to promote.
    #[doc(hidden)]
    pub promotions: Vec<Promotion<B>>,
    /// Hot values to renew.
    #[doc(hidden)]
    pub renewals: Vec<Renewal>,
    /// Layers to index.
    #[doc(hidden)]
    pub layers: Vec<Digest>,
    /// Answers of an upstream to store.
    #[doc(hidden)]
    pub learnt: Vec<Learnt<B>>,
    /// Work that goes on while the reply is read.
    work: Vec<Work>,
    /// The sender that is charged for the memory of the work.
    #[doc(hidden)]
    pub sender: Option<Rc<str>>,
}

struct Work(LocalBoxFuture<'static, ()>);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// Notes of the work for after the reply, made while a request is handled.
#[doc(hidden)]
#[derive(Debug)]
pub struct Notes<B>(RefCell<After<B>>);

/// Content to promote to the warm tier.
#[doc(hidden)]
#[derive(Debug)]
pub struct Promotion<B> {
    /// The repository of a manifest. `None` for other content.
    pub name: Option<Name>,
    /// The content.
    pub content: Rc<TierContent<B>>,
    pub(super) key: String,
    pub(super) kind: Kind,
    /// Whether the warm tier may have it already, so that it is asked first.
    pub(super) may_be_warm: bool,
    pub(super) confirmed: Timestamp,
}

/// A hot value that expires soon.
#[doc(hidden)]
#[derive(Debug)]
pub struct Renewal {
    /// The repository.
    pub name: Name,
    /// The digest of the manifest, or of the blob that a link leads to.
    pub digest: Digest,
    /// Whether the value is a link. Otherwise it is a manifest.
    pub is_link: bool,
}

/// An upstream's answer about a manifest or a tag.
#[doc(hidden)]
#[derive(Debug)]
pub struct Learnt<B> {
    /// The repository's name in this registry.
    pub name: Name,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest itself, if the upstream sent it.
    pub content: Option<Rc<TierContent<B>>>,
    /// The tag that names the manifest, if the request was for a tag.
    pub tag: Option<Sighted>,
}

/// A tag that an upstream resolved.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sighted {
    /// The tag.
    pub tag: Tag,
    /// The time at which the upstream was asked.
    pub seen: Timestamp,
    /// The etag of the stored tag at that time. A later write stays, because it is no older or
    /// invalidates the tag.
    pub over: Option<String>,
}

impl<B> Default for Notes<B> {
    fn default() -> Self {
        Self(RefCell::new(After {
            promotions: Vec::new(),
            renewals: Vec::new(),
            layers: Vec::new(),
            learnt: Vec::new(),
            work: Vec::new(),
            sender: None,
        }))
    }
}

impl<B> Notes<B> {
    /// Notes content to promote after the reply.
    pub fn promote(&self, promotion: Promotion<B>) {
        self.0.borrow_mut().promotions.push(promotion);
    }

    /// Notes a hot value to renew after the reply.
    pub fn renew(&self, renewal: Renewal) {
        self.0.borrow_mut().renewals.push(renewal);
    }

    /// Notes layers to index after the reply.
    pub fn index(&self, layers: impl IntoIterator<Item = Digest>) {
        self.0.borrow_mut().layers.extend(layers);
    }

    /// Notes an upstream's answer to store after the reply.
    pub fn learn(&self, learnt: Learnt<B>) {
        self.0.borrow_mut().learnt.push(learnt);
    }

    /// Notes the sender that is charged for the memory of the remaining work.
    pub fn charge(&self, sender: Option<Rc<str>>) {
        self.0.borrow_mut().sender = sender;
    }

    /// Notes work that goes on while the reply is read.
    pub fn work(&self, work: LocalBoxFuture<'static, ()>) {
        self.0.borrow_mut().work.push(Work(work));
    }

    /// Awaits a read. If the caller drops it, because another tier has answered first, the read
    /// goes on after the reply and `discard` gets its result: a stream that nobody reads stalls.
    pub async fn read_to_end<T: 'static>(
        &self,
        clock: &(impl Clock + Clone + 'static),
        read: impl Future<Output = T> + 'static,
        discard: impl AsyncFnOnce(T) + 'static,
    ) -> T {
        let rest = Some((Box::pin(read) as LocalBoxFuture<'static, T>, discard));
        let mut awaited = Awaited {
            notes: self,
            rest,
            clock,
        };
        poll_fn(move |context| {
            let Some((read, _)) = &mut awaited.rest else {
                // It is not polled again after its end.
                return Poll::Pending;
            };
            let read = ready!(read.as_mut().poll(context));
            awaited.rest = None;
            Poll::Ready(read)
        })
        .await
    }

    /// The work that was noted.
    pub fn into_after(self) -> After<B> {
        self.0.into_inner()
    }
}

impl<B> After<B> {
    /// Whether there is no work, so that [`Registry::finish`](crate::registry::Registry::finish)
    /// need not run.
    pub const fn is_nothing(&self) -> bool {
        self.promotions.is_empty()
            && self.renewals.is_empty()
            && self.layers.is_empty()
            && self.learnt.is_empty()
            && self.work.is_empty()
    }

    /// Takes the work that goes on while the reply is read. All of it runs concurrently.
    #[doc(hidden)]
    pub fn take_work(&mut self) -> impl Future<Output = ()> + use<B> {
        let work = mem::take(&mut self.work);
        async move {
            join_all(work.into_iter().map(|Work(work)| work)).await;
        }
    }
}

/// A read that is being awaited. If it is dropped before its end, it goes on after the reply.
struct Awaited<'a, B, T, D, C>
where
    T: 'static,
    D: AsyncFnOnce(T) + 'static,
    C: Clock + Clone + 'static,
{
    notes: &'a Notes<B>,
    rest: Option<(LocalBoxFuture<'static, T>, D)>,
    clock: &'a C,
}

impl<B, T, D, C> Drop for Awaited<'_, B, T, D, C>
where
    T: 'static,
    D: AsyncFnOnce(T) + 'static,
    C: Clock + Clone + 'static,
{
    fn drop(&mut self) {
        let Some((read, discard)) = self.rest.take() else {
            return;
        };
        let clock = self.clock.clone();
        self.notes.work(Box::pin(async move {
            let late = pin!(clock.sleep(MOST_REST));
            if let Either::Left((read, _)) = select(read, late).await {
                discard(read).await;
            }
        }));
    }
}

/// How long a read that was dropped goes on. The platform cancels all work 30 seconds after the
/// reply.
const MOST_REST: Duration = Duration::from_secs(10);
