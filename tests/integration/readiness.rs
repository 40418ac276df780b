//! Health and readiness: which callers may ask, the cost, and the answer if the bucket fails.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::future::join_all;
use pollster::block_on;
use strata::{memory::MemoryObjects, store::StoreError};
use strata_support::{
    Answer, Ask, TestHost, TestRegistry, ask, ask_now, registry_on,
    watched::{Verdict, Watched},
};

struct Fixture {
    host: TestHost,
    registry: TestRegistry<Watched>,
    /// The operations of the bucket.
    asked: Rc<RefCell<Vec<String>>>,
    verdict: Rc<RefCell<Verdict>>,
}

impl Fixture {
    fn new() -> Self {
        let host = TestHost::default();
        let asked = Rc::<RefCell<Vec<String>>>::default();
        let verdict = Rc::new(RefCell::new(Verdict::Done));
        let (log, next) = (asked.clone(), verdict.clone());
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
            log.borrow_mut().push(format!("{operation} {key}"));
            next.borrow().clone()
        });
        Self {
            registry: registry_on(store, host.clone(), &[]),
            host,
            asked,
            verdict,
        }
    }

    fn get(&self, path: &str) -> Answer {
        ask(
            &self.registry,
            &Ask::new(&format!("GET {path}")).anonymous(),
        )
    }

    /// The number of requests to the bucket.
    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

#[test]
fn health_reads_no_store_and_needs_no_credentials() {
    let fixture = Fixture::new();
    for authorization in [None, Some("Basic d3Jvbmc6d3Jvbmc="), Some("Bearer x")] {
        let mut request = Ask::new("GET /healthz").anonymous();
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = ask(&fixture.registry, &request);
        assert_eq!(
            (answer.status, &*answer.body),
            (200, &br#"{"status":"ok"}"#[..])
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!((fixture.asked(), fixture.host.derived.get()), (0, 0));
}

#[test]
fn readiness_asks_the_bucket_once_in_ten_seconds() {
    let fixture = Fixture::new();
    for _ in 0..100 {
        assert_eq!(fixture.get("/readyz").status, 200);
        fixture.host.pass(Duration::from_millis(99));
    }
    assert_eq!(*fixture.asked.borrow(), ["head sweep/cursor"]);
    fixture.host.pass(Duration::from_millis(100));
    assert_eq!(fixture.get("/readyz").status, 200);
    assert_eq!(fixture.asked(), 2);
}

#[test]
fn concurrent_readiness_checks_are_one_request_to_the_bucket() {
    let fixture = Fixture::new();
    let request = Ask::new("GET /readyz").anonymous();
    let asked = (0..32).map(|_| ask_now(&fixture.registry, &request));
    let answers = block_on(join_all(asked));
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(fixture.asked(), 1);
}

#[test]
fn a_failing_bucket_is_not_ready_until_it_is_checked_again() {
    let fixture = Fixture::new();
    let failed = StoreError::Failed("the network is down".to_owned());
    fixture.verdict.replace(Verdict::Lost(failed));
    for _ in 0..3 {
        let answer = fixture.get("/readyz");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("10"));
        let body = String::from_utf8(answer.body).unwrap();
        assert!(body.contains("the bucket failed"), "{body}");
        assert!(!body.contains("network"), "{body}");
    }
    assert_eq!(fixture.get("/healthz").status, 200);
    assert_eq!(fixture.asked(), 1);
    fixture.verdict.replace(Verdict::Done);
    fixture.host.pass(Duration::from_secs(10));
    assert_eq!(fixture.get("/readyz").status, 200);
}

#[test]
fn a_bucket_that_throttles_is_ready() {
    let fixture = Fixture::new();
    let throttled = StoreError::Throttled("429".to_owned());
    fixture.verdict.replace(Verdict::Lost(throttled));
    assert_eq!(fixture.get("/readyz").status, 200);
}

#[test]
fn a_bucket_that_never_answers_is_not_ready() {
    let fixture = Fixture::new();
    fixture.verdict.replace(Verdict::Never);
    let answer = fixture.get("/readyz");
    assert_eq!(answer.status, 503);
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("gave no answer within 5s"), "{body}");
}

/// The platform cancels the requests of clients that disconnect.
#[test]
fn cancelled_readiness_checks_do_not_repeat_the_request() {
    let fixture = Fixture::new();
    let request = Ask::new("GET /readyz").anonymous();
    let polls = Cell::new(0);
    for _ in 0..20 {
        let mut asking = pin!(ask_now(&fixture.registry, &request));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asking.as_mut().poll(&mut context).is_pending());
        polls.set(polls.get() + 1);
    }
    assert_eq!((polls.get(), fixture.asked()), (20, 1));
    fixture.host.pass(Duration::from_secs(10));
    assert_eq!(fixture.get("/readyz").status, 200);
    assert_eq!(fixture.asked(), 2);
}
