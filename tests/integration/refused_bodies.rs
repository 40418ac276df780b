//! Bodies that no service took: they are read to their end, within limits of bytes, time, number
//! and memory.

use std::{
    cell::Cell,
    mem::forget,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use strata::{
    ledger::MemoryKind,
    memory::{MadeItems, MemoryBody, MemoryObjects},
    registry::Request,
    store::PIECE,
};
use strata_support::{TestHost, TestRegistry, registry_on};

const MIB: usize = 1024 * 1024;
const MOST: usize = 16 * MIB;

/// The user `dev`, whose requests are admitted.
const DEV: &str = "Basic ZGV2OnNlY3JldA==";

/// A request in progress, and the bytes of its body that were read.
struct Sent<'a> {
    read: Rc<Cell<usize>>,
    answer: Pin<Box<dyn Future<Output = u16> + 'a>>,
}

impl Sent<'_> {
    fn poll(&mut self) -> Option<u16> {
        match self
            .answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(status) => Some(status),
            Poll::Pending => None,
        }
    }

    /// Polls to the end, or as often as a request of these tests may need.
    fn finish(&mut self) -> Option<u16> {
        (0..1_000).find_map(|_| self.poll())
    }
}

/// Sends a body that has `bytes` and then pauses for ever if `pauses`.
fn send<'a>(
    registry: &'a TestRegistry<MemoryObjects>,
    credentials: Option<&'static str>,
    length: Option<usize>,
    bytes: usize,
    pauses: bool,
) -> Sent<'a> {
    let read = Rc::<Cell<usize>>::default();
    let seen = read.clone();
    let made = stream::iter((0..bytes).step_by(MIB)).map(move |at| {
        let piece = MIB.min(bytes - at);
        seen.set(seen.get() + piece);
        Ok(vec![0; piece])
    });
    let body = if pauses {
        made.chain(stream::pending()).boxed_local()
    } else {
        made.boxed_local()
    };
    let target = "/v2/a/manifests/v1".to_owned();
    let mut request = Request::new("PUT".parse().unwrap(), target);
    request.address = "192.0.2.1".to_owned();
    request.body = Some(MemoryBody::Made(MadeItems(body)));
    if let Some(credentials) = credentials {
        // No service reads the body of a GET.
        request.method = "GET".parse().unwrap();
        let credentials = credentials.parse().unwrap();
        request.headers.insert("authorization", credentials);
    }
    if let Some(length) = length {
        request.headers.insert("content-length", length.into());
    }
    Sent {
        read,
        answer: Box::pin(async { registry.answer(request).await.0.status().as_u16() }),
    }
}

fn registry(host: &TestHost) -> TestRegistry<MemoryObjects> {
    registry_on(MemoryObjects::default(), host.clone(), &[])
}

#[test]
fn a_refused_body_is_read_up_to_16_mib() {
    let registry = registry(&TestHost::default());
    for (credentials, status) in [(None, 401), (Some(DEV), 404)] {
        for (length, bytes, expected) in [
            (Some(MOST), MOST, MOST..=MOST),
            (None, MOST, MOST..=MOST),
            (Some(MOST + 1), MOST + 1, 0..=0),
            // Without a length, the first bytes above the limit end it.
            (None, 4 * MOST, MOST + 1..=MOST + MIB),
            (Some(0), 0, 0..=0),
        ] {
            let mut sent = send(&registry, credentials, length, bytes, false);
            assert_eq!(sent.finish(), Some(status));
            let read = sent.read.get();
            assert!(expected.contains(&read), "{length:?} {bytes}: {read}");
        }
    }
}

#[test]
fn a_refused_body_is_read_for_ten_seconds() {
    let host = TestHost::default();
    let registry = registry(&host);
    for (credentials, status) in [(None, 401), (Some(DEV), 404)] {
        let start = host.now.get();
        let mut sent = send(&registry, credentials, Some(MOST), MIB, true);
        assert_eq!(sent.finish(), Some(status));
        assert_eq!(sent.read.get(), MIB);
        assert_eq!(host.now.get().since(start), Duration::from_secs(10));
    }
    assert_eq!(registry.ledger().used(), 0);
}

#[test]
fn four_bodies_without_permission_are_read_at_a_time() {
    let host = TestHost::default();
    let registry = registry(&host);
    let begin = || {
        let mut sent = send(&registry, None, None, MIB, true);
        let status = sent.poll();
        (sent, status)
    };
    for _ in 0..3 {
        for _ in 0..4 {
            let (sent, status) = begin();
            assert_eq!((status, sent.read.get()), (None, MIB));
            // The platform cancels the request: no destructor runs.
            forget(sent);
        }
        let (fifth, status) = begin();
        assert_eq!((status, fifth.read.get()), (Some(401), 0));
        // Those of a user are read all the same.
        let mut admitted = send(&registry, Some(DEV), None, MIB, false);
        assert_eq!(admitted.finish(), Some(404));
        assert_eq!(admitted.read.get(), MIB);
        host.pass(Duration::from_secs(10));
    }
}

#[test]
fn eight_bodies_of_one_sender_are_read_at_a_time_in_its_own_memory() {
    let host = TestHost::default();
    let registry = registry(&host);
    let begin = |credentials| {
        let mut sent = send(&registry, credentials, None, MIB, true);
        let status = sent.poll();
        (sent, status)
    };
    let first: Vec<_> = (0..8).map(|_| begin(Some(DEV))).collect();
    for (sent, status) in &first {
        assert_eq!((*status, sent.read.get()), (None, MIB));
    }
    let (ninth, status) = begin(Some(DEV));
    assert_eq!((status, ninth.read.get()), (Some(404), 0));
    let (other, status) = begin(None);
    assert_eq!((status, other.read.get()), (None, MIB));

    let ledger = registry.ledger();
    assert_eq!(ledger.used(), 9 * 2 * PIECE as u64);
    let left = ledger.share() - 8 * 2 * PIECE as u64;
    for (sender, is_own) in [("user dev", true), ("user other", false)] {
        ledger.charge(Some(sender.into()));
        let full = ledger.take(MemoryKind::Buffer, left + 1, host.now.get());
        assert_eq!(full.is_err_and(|full| full.is_own), is_own, "{sender}");
    }
    ledger.charge(None);
    drop((first, other));
    assert_eq!(ledger.used(), 0);
    let mut again = send(&registry, Some(DEV), None, MIB, false);
    assert_eq!(again.finish(), Some(404));
    assert_eq!(again.read.get(), MIB);
}
