//! Joining: blobs in several extents become one object, and their extents go a grace period later.

use std::task::Poll;

use super::*;

impl Fixture {
    /// Pushes a blob in chunks of 4 bytes.
    fn push_in_chunks(&self, name: &str, blob: &[u8]) {
        let closed = self.ask(&self.send_chunks(name, blob));
        assert_eq!(closed.status, 201);
    }

    /// Sends a blob in chunks of 4 bytes, and returns the request that closes the upload.
    fn send_chunks(&self, name: &str, blob: &[u8]) -> String {
        let start = self.ask(&format!("POST /v2/{name}/blobs/uploads/"));
        let mut location = start.location();
        for chunk in blob.chunks(4) {
            let line = format!("PATCH {location}");
            let sent = ask(&self.registry, &Ask::new(&line).stream(chunk));
            assert_eq!(sent.status, 202);
            location = sent.location();
        }
        format!("PUT {location}&digest={}", digest(blob))
    }

    /// Pushes an image whose layer is in three extents.
    fn push_chunked_image(&self, name: &str) {
        self.push_in_chunks(name, LAYER);
        self.push_whole(name, CONFIG);
        self.push_manifest(name, "v1", OCI_MANIFEST, &image());
    }

    /// Pushes an image of these layers, each in chunks.
    fn push_chunked_layers(&self, name: &str, layers: &[Vec<u8>]) {
        let described = layers.iter().map(|layer| {
            self.push_in_chunks(name, layer);
            descriptor("application/vnd.oci.image.layer.v1.tar", layer)
        });
        let mut manifest = image();
        manifest["layers"] = described.collect();
        self.push_whole(name, CONFIG);
        self.push_manifest(name, "v1", OCI_MANIFEST, &manifest);
    }

    /// The stored cursor of the sweep.
    fn cursor(&self) -> Value {
        serde_json::from_slice(&self.memory().bytes("sweep/cursor").unwrap()).unwrap()
    }

    /// A round of the sweep: the keys of the blobs that it joined.
    fn joined(&self) -> Vec<String> {
        let mut joined = Vec::new();
        for _ in 0..100 {
            let body = self.step("");
            let blobs = body["joined"].as_array().unwrap().iter();
            joined.extend(blobs.map(|blob| blob["key"].as_str().unwrap().to_owned()));
            if body["finished"] == true {
                return joined;
            }
        }
        panic!("a round does not end");
    }

    fn metadata(&self, key: &str) -> String {
        block_on(self.memory().head(key)).unwrap().unwrap().metadata
    }

    /// Whether the layer is one object with the right bytes.
    fn is_one(&self) -> bool {
        let key = key::blob(&digest(LAYER));
        self.metadata(&key) == r#"{"kind":"bytes"}"#
            && self.memory().bytes(&key).as_deref() == Some(LAYER)
    }

    /// An isolate over the same store that caches nothing but links.
    fn isolate(&self) -> TestRegistry<Watched> {
        let settings = [("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")];
        let store = self.registry.store().clone();
        registry_on(store, self.host.clone(), &settings)
    }

    fn log(&self) -> String {
        self.host.log.borrow().join("\n")
    }
}

fn layer() -> String {
    key::blob(&digest(LAYER))
}

#[test]
fn extents_become_one_object_and_stay_for_the_grace_period() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    assert_eq!(fixture.keys("extents/").len(), 3);
    fixture.host.pass(GRACE / 2 - Duration::from_millis(1));
    assert_eq!(fixture.step("")["joined"], json!([]), "it is young");
    fixture.host.pass(Duration::from_millis(1));
    let step = fixture.step("");
    let expected = json!([{ "key": layer(), "bytes": LAYER.len(), "extents": 3 }]);
    assert_eq!(step["joined"], expected);
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
    let metrics = String::from_utf8(fixture.ask("GET /metrics").body).unwrap();
    assert!(metrics.contains("\nstrata_joined_bytes_total 10\n"));
    // The upload is older than the grace period long before the join is.
    fixture.host.pass(GRACE - Duration::from_millis(1));
    assert_eq!(short(&fixture.round()), ["delete grant", "delete grant"]);
    assert_eq!(fixture.keys("extents/").len(), 3);
    fixture.host.pass(Duration::from_millis(1));
    let removals = fixture.round();
    assert_eq!(short(&removals), ["delete upload"]);
    assert_eq!(removals[0]["bytes"], LAYER.len());
    assert_eq!(fixture.keys("extents/"), Vec::<String>::new());
    assert_eq!(fixture.keys("uploads/"), Vec::<String>::new());
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
    fixture.sweep_clean();
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
    fixture.delete_image("a");
    fixture.sweep_clean();
    assert_eq!(fixture.keys("blobs/"), Vec::<String>::new());
}

/// A join costs a read of the mark and of the record, one of each extent, and a write.
#[test]
fn only_blobs_in_several_extents_cost_anything() {
    let round = |push: &dyn Fn(&Fixture)| {
        let fixture = Fixture::new(&[]);
        push(&fixture);
        fixture.push_whole("a", CONFIG);
        fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
        fixture.host.pass(GRACE / 2);
        let before = fixture.operations.get();
        let step = fixture.step("");
        let done = fixture.operations.get() - before;
        // The cursor is read once, written once, and the inventory is written.
        assert_eq!(step["operations"].as_u64().unwrap() + 3, done);
        done
    };
    let whole = round(&|fixture| fixture.push_whole("a", LAYER));
    let one = round(&|fixture| fixture.push_patched("a", LAYER));
    let several = round(&|fixture| fixture.push_in_chunks("a", LAYER));
    assert_eq!(one, whole);
    assert_eq!(several, whole + 1 + 1 + 3 + 1);
}

#[test]
fn a_dry_run_lists_what_it_would_join() {
    let fixture = Fixture::new(&[("STRATA_JOIN_BYTES", "10")]);
    fixture.push_chunked_image("a");
    fixture.push_in_chunks("a", b"unused blob");
    fixture.push_in_chunks("a", b"another");
    fixture.host.pass(GRACE / 2);
    let before = fixture.keys("");
    let told = fixture.step("?dry-run");
    let mut keys = vec![layer(), key::blob(&digest(b"another"))];
    keys.sort();
    let told = told["joined"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|blob| blob["key"].as_str().unwrap()).collect();
    assert_eq!(told, keys);
    assert_eq!(fixture.keys(""), before);
    assert!(!fixture.is_one());
    assert_eq!(fixture.joined(), keys);
    assert!(fixture.is_one());
}

#[test]
fn blobs_above_the_limit_stay_in_extents() {
    for (limit, is_joined) in [("0", false), ("9", false), ("10", true)] {
        let fixture = Fixture::new(&[("STRATA_JOIN_BYTES", limit)]);
        fixture.push_chunked_image("a");
        for _ in 0..6 {
            fixture.host.pass(GRACE / 2);
            fixture.round();
            assert!(fixture.is_whole("a", "v1"));
        }
        assert_eq!(fixture.is_one(), is_joined, "{limit}");
        let extents = if is_joined { 0 } else { 3 };
        assert_eq!(fixture.keys("extents/").len(), extents, "{limit}");
        fixture.delete_image("a");
        fixture.sweep_clean();
        assert!(fixture.keys("extents/").is_empty() && fixture.keys("uploads/").is_empty());
    }
}

/// The limit of a blob is also that of a step, so each step joins one of these blobs.
#[test]
fn a_step_joins_a_bounded_number_of_bytes() {
    let fixture = Fixture::new(&[("STRATA_JOIN_BYTES", "10")]);
    for number in 0..5_u8 {
        fixture.push_in_chunks("a", &[number; 9]);
    }
    fixture.host.pass(GRACE / 2);
    let mut steps = 0;
    loop {
        let step = fixture.step("");
        assert_eq!(step["joined"].as_array().unwrap().len(), 1);
        steps += 1;
        if step["finished"] == true {
            break;
        }
    }
    assert_eq!(steps, 5);
}

/// On a plan with a small budget, a step joins few blobs, and none of too many extents.
#[test]
fn a_step_joins_as_many_extents_as_its_operations_allow() {
    let fixture = Fixture::new(&[("STRATA_SUBREQUESTS", "50")]);
    for number in 0..8_u8 {
        fixture.push_in_chunks("a", &[number; 20]);
    }
    fixture.push_in_chunks("a", &[9; 4 * 30]);
    fixture.host.pass(GRACE / 2);
    let is_left = |key: &String| fixture.metadata(key).contains("extents");
    for _ in 0..12 {
        let before = fixture.operations.get();
        block_on(fixture.registry.tick());
        let operations = fixture.operations.get() - before;
        assert!(operations <= 50, "{operations}");
    }
    let left: Vec<_> = fixture.keys("blobs/").into_iter().filter(is_left).collect();
    assert_eq!(left, [key::blob(&digest(&[9; 4 * 30]))]);
    assert_eq!(fixture.log(), "");
}

#[test]
fn a_sweep_that_joins_may_fail_at_any_operation() {
    let state = || {
        let fixture = Fixture::new(&[]);
        fixture.push_chunked_image("a");
        fixture.host.pass(GRACE / 2);
        fixture
    };
    let fixture = state();
    let start = fixture.operations.get();
    assert_eq!(fixture.joined(), [layer()]);
    let operations = fixture.operations.get() - start;
    for at in 1..=operations {
        for verdict in [Fault::Lost, Fault::Kept] {
            let fixture = state();
            let at = fixture.operations.get() + at;
            fixture.fails.set(Some((at, verdict)));
            let answer = fixture.ask("POST /v2/_strata/sweep");
            assert!(matches!(answer.status, 200 | 202 | 503), "{at}: {answer:?}");
            assert!(fixture.is_whole("a", "v1"), "{verdict:?} at {at}");
            for _ in 0..4 {
                fixture.host.pass(GRACE);
                fixture.round();
                assert!(fixture.is_whole("a", "v1"), "{verdict:?} at {at}");
            }
            assert!(fixture.is_one(), "{verdict:?} at {at}");
            assert!(fixture.keys("extents/").is_empty(), "{verdict:?} at {at}");
            assert!(fixture.keys("uploads/").is_empty(), "{verdict:?} at {at}");
        }
    }
}

/// The cursor is stored before the joins, so a blob that can't be joined does not stop the sweep.
#[test]
fn a_failed_join_is_no_failure_of_the_sweep() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    *fixture.fails_next.borrow_mut() = Some("put blobs/".to_owned());
    let step = fixture.step("");
    assert_eq!(step["finished"], true);
    assert_eq!(step["joined"], json!([]));
    assert!(
        fixture.log().contains("extents not joined"),
        "{}",
        fixture.log()
    );
    assert!(!fixture.is_one() && fixture.is_whole("a", "v1"));
    assert_eq!(fixture.joined(), [layer()]);
    assert!(fixture.is_one());
}

#[test]
fn wrong_bytes_are_not_joined() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    let extent = fixture.keys("extents/")[1].clone();
    let right = fixture.memory().bytes(&extent).unwrap();
    for wrong in [&b"xxxx"[..], b"xxx"] {
        fixture.put(&extent, wrong, "");
        fixture.host.pass(GRACE / 2);
        assert_eq!(fixture.joined(), Vec::<String>::new());
        assert!(fixture.log().contains("extents not joined"));
    }
    block_on(fixture.memory().delete(std::slice::from_ref(&extent))).unwrap();
    assert_eq!(fixture.joined(), Vec::<String>::new());
    fixture.put(&extent, &right, "");
    assert_eq!(fixture.joined(), [layer()]);
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
}

/// The bytes are written over the record that was read, and over nothing else.
#[test]
fn an_object_that_has_changed_stays() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    let aside = r#"{"kind":"aside"}"#;
    let change = || fixture.put(&layer(), b"a note", aside);
    fixture.sweep_with(&[("put blobs/", &change)]);
    assert_eq!(fixture.metadata(&layer()), aside);
    fixture.push_whole("a", LAYER);
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
    assert_eq!(fixture.log(), "");
}

#[test]
fn a_blob_is_not_joined_while_the_sweep_may_remove_it() {
    let mark = |state: &str| json!({ "state": state, "time": 1, "nonce": "ff" }).to_string();
    for (state, is_joined) in [("condemned", false), ("deleting", false), ("lifted", true)] {
        let fixture = Fixture::new(&[]);
        fixture.push_chunked_image("a");
        fixture.host.pass(GRACE / 2);
        let mark = mark(state);
        fixture.put(&key::mark(&digest(LAYER)), mark.as_bytes(), &mark);
        let joined = fixture.joined();
        assert_eq!(joined.len(), usize::from(is_joined), "{state}");
    }
    // Nobody has a grant on it.
    let fixture = Fixture::new(&[]);
    fixture.push_in_chunks("a", LAYER);
    fixture.host.pass(GRACE);
    assert_eq!(fixture.joined(), Vec::<String>::new());
}

/// A client whose closing was interrupted closes the upload again, and loses nothing.
#[test]
fn an_upload_can_be_closed_again_after_the_join() {
    let fixture = Fixture::new(&[]);
    let close = fixture.send_chunks("a", LAYER);
    assert_eq!(fixture.ask(&close).status, 201);
    // The isolate of the closer died before it wrote that the upload was done.
    let done = fixture.keys("uploads/").pop().unwrap();
    assert!(fixture.metadata(&done).contains("done"));
    block_on(fixture.memory().delete(&[done])).unwrap();
    fixture.host.pass(GRACE / 2);
    assert_eq!(fixture.joined(), [layer()]);
    assert_eq!(fixture.ask(&close).status, 201);
    fixture.push_whole("a", CONFIG);
    fixture.push_manifest("a", "v1", OCI_MANIFEST, &image());
    fixture.host.pass(GRACE - Duration::from_millis(1));
    fixture.round();
    assert_eq!(fixture.keys("extents/").len(), 3, "the join is young");
    for _ in 0..4 {
        assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
        fixture.host.pass(GRACE);
        fixture.round();
    }
    assert!(fixture.keys("extents/").is_empty() && fixture.keys("uploads/").is_empty());
}

#[test]
fn pulls_that_began_before_the_join_get_all_bytes() {
    let fixture = Fixture::new(&[("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    let other = fixture.isolate();
    let sweep = || {
        assert_eq!(ask(&other, &Ask::new("POST /v2/_strata/sweep")).status, 200);
        assert!(fixture.is_one());
    };
    let later = || {
        fixture.host.pass(GRACE - Duration::from_secs(1));
        assert_eq!(ask(&other, &Ask::new("POST /v2/_strata/sweep")).status, 200);
    };
    let line = format!("GET /v2/a/blobs/{}", digest(LAYER));
    let answer = fixture.ask_with(&line, &[("get extents/", &sweep), ("get extents/", &later)]);
    assert_eq!((answer.status, &*answer.body), (200, LAYER));
}

/// A link from before the join leads to the blob for every reader, while its extents are there and
/// when they are gone, and is written anew.
#[test]
fn links_from_before_the_join_lead_to_the_blob() {
    let bytes = strata_support::layers::gzip(
        &strata_support::layers::Tar::default()
            .file("etc/hostname", b"strata")
            .end(),
    );
    let blob = format!("/v2/a/blobs/{}", digest(&bytes));
    let file = format!(
        "GET /v2/a/_strata/layers/{}/files/etc/hostname",
        digest(&bytes)
    );
    for is_gone in [false, true] {
        for line in [
            Ask::new(&format!("GET {blob}")),
            Ask::new(&format!("GET {blob}")).header("range", "bytes=1-9"),
            Ask::new(&format!("GET {blob}")).header("range", "bytes=1-2,6-9"),
            Ask::new(&format!("HEAD {blob}")),
            Ask::new(&file),
        ] {
            let fixture = Fixture::new(&[]);
            fixture.push_in_chunks("a", &bytes);
            let expected = ask(&fixture.isolate(), &line);
            assert!(
                matches!(expected.status, 200 | 206),
                "{line:?}: {expected:?}"
            );
            let name = "a".parse().unwrap();
            let link = key::link(&digest(&bytes), &name);
            let stale = fixture.memory().bytes(&link).unwrap();
            assert!(String::from_utf8_lossy(&stale).contains("extents"));
            fixture.host.pass(GRACE / 2);
            assert_eq!(fixture.joined(), [key::blob(&digest(&bytes))]);
            if is_gone {
                let extents = fixture.keys("extents/");
                block_on(fixture.memory().delete(&extents)).unwrap();
            }
            assert_eq!(fixture.memory().bytes(&link), Some(stale));
            let answer = ask(&fixture.isolate(), &line);
            assert_eq!(answer.status, expected.status, "{line:?}");
            // The boundary of several ranges is another in each answer.
            let lines = |answer: &Answer| {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                let lines = body.lines().filter(|line| !line.starts_with("--"));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(lines(&answer), lines(&expected), "{line:?}");
            let link = fixture.memory().bytes(&link).unwrap();
            let fresh = format!(r#"{{"kind":"bytes","size":{}}}"#, bytes.len());
            assert_eq!(String::from_utf8_lossy(&link), fresh);
        }
    }
}

/// The scrub finds no damage in a joined blob, and writes stale links anew.
#[test]
fn the_scrub_renews_links_from_before_the_join() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    assert_eq!(fixture.joined(), [layer()]);
    let link = key::link(&digest(LAYER), &"a".parse().unwrap());
    for is_dry in [true, false] {
        let line = format!("POST /v2/_strata/scrub?dry-run={is_dry}");
        let scrubbed = fixture.ask(&line);
        let scrubbed: Value = serde_json::from_slice(&scrubbed.body).unwrap();
        assert_eq!(scrubbed["findings"], json!([]));
        let record = String::from_utf8(fixture.memory().bytes(&link).unwrap()).unwrap();
        assert_eq!(record.contains("extents"), is_dry, "{record}");
    }
    assert!(fixture.is_whole("a", "v1"));
}

/// A blob may be removed and pushed again before the sweep has looked at the extents of its first
/// upload.
#[test]
fn extents_of_a_joined_blob_that_was_pushed_again_are_removed() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    assert_eq!(fixture.joined(), [layer()]);
    block_on(fixture.memory().delete(&[layer()])).unwrap();
    fixture.host.pass(GRACE);
    fixture.push_in_chunks("a", LAYER);
    assert_eq!(fixture.keys("extents/").len(), 6);
    fixture.round();
    assert_eq!(fixture.keys("extents/").len(), 3);
    fixture.sweep_clean();
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
    assert!(fixture.keys("extents/").is_empty() && fixture.keys("uploads/").is_empty());
}

/// A record of ten thousand extents is a megabyte, so one request reads it for all.
#[test]
fn concurrent_reads_compare_a_link_once() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    let other = fixture.isolate();
    let line = Ask::new(&format!("HEAD /v2/a/blobs/{}", digest(LAYER)));
    let mut looks: Vec<_> = (0..30).map(|_| Box::pin(ask_now(&other, &line))).collect();
    let (mut links, mut records) = (0, 0);
    let mut context = Context::from_waker(Waker::noop());
    while !looks.is_empty() {
        looks.retain_mut(|look| {
            fixture.begun.borrow_mut().clear();
            let is_pending = look.as_mut().poll(&mut context).is_pending();
            let begun = fixture.begun.borrow();
            links += u32::from(begun.starts_with("get refs/"));
            records += u32::from(begun.starts_with("get blobs/"));
            is_pending
        });
    }
    assert_eq!((links, records), (1, 1));
}

/// However short the grace period is, a cached link is compared anew long before the extents that
/// it names may be gone.
#[test]
fn a_pull_by_a_cached_link_has_three_quarters_of_the_grace_period() {
    let hour = Duration::from_secs(3_600);
    let settings = [
        ("STRATA_GRACE_HOURS", "1"),
        ("STRATA_HOT_BLOB_BYTES", "0"),
        ("STRATA_WARM_SECONDS", "0"),
    ];
    let line = Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)));
    for cached_for in [
        hour / 4 - Duration::from_secs(1),
        hour / 4,
        hour - Duration::from_secs(1),
    ] {
        let fixture = Fixture::new(&settings);
        fixture.push_chunked_image("a");
        fixture.host.pass(hour / 2);
        let store = fixture.registry.store().clone();
        let other = registry_on(store, fixture.host.clone(), &settings);
        assert_eq!(ask(&other, &line).body, LAYER);
        assert_eq!(fixture.joined(), [layer()]);
        fixture.host.pass(cached_for);
        let mut pull = pin!(try_ask_now(&other, &line));
        let mut context = Context::from_waker(Waker::noop());
        while !fixture.begun.borrow().starts_with("get ") {
            assert!(pull.as_mut().poll(&mut context).is_pending());
        }
        fixture.host.pass(hour / 4 * 3);
        fixture.round();
        let answer = block_on(pull);
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.body == LAYER),
            "{answer:?}"
        );
    }
}

/// The links of an isolate's pulls after a join are one write: the store takes one write a second
/// of a key.
#[test]
fn concurrent_pulls_after_a_join_write_the_link_once() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    assert_eq!(fixture.joined(), [layer()]);
    let other = fixture.isolate();
    let line = Ask::new(&format!("GET /v2/a/blobs/{}", digest(LAYER)));
    let mut pulls: Vec<_> = (0..30).map(|_| Box::pin(ask_now(&other, &line))).collect();
    let mut writes = 0;
    let mut context = Context::from_waker(Waker::noop());
    while !pulls.is_empty() {
        pulls.retain_mut(|pull| {
            fixture.begun.borrow_mut().clear();
            let polled = pull.as_mut().poll(&mut context);
            writes += u32::from(fixture.begun.borrow().starts_with("put refs/"));
            if let Poll::Ready(answer) = &polled {
                assert_eq!(answer.body, LAYER);
            }
            polled.is_pending()
        });
    }
    assert_eq!(writes, 1);
}

/// A blob is joined between the two reads of its object. Its bytes, which a client chose, are not
/// taken for a record.
#[test]
fn bytes_that_look_like_a_record_are_no_record() {
    let other = b"bytes of another repository";
    for kind in ["plain", "bytes", "extents"] {
        let fixture = Fixture::new(&[("STRATA_HOT_BLOB_BYTES", "0"), ("STRATA_WARM_SECONDS", "0")]);
        let close = fixture.send_chunks("other", other);
        assert_eq!(fixture.ask(&close).status, 201);
        let extent = fixture.keys("extents/")[0].replace("extents/", "");
        let blob = match kind {
            "plain" => "neither JSON nor one extent".to_owned(),
            "bytes" => json!({ "kind": "bytes", "size": 99 }).to_string(),
            _ => {
                let extents = json!([{ "key": extent, "size": 4 }]);
                json!({ "kind": "extents", "size": 4, "extents": extents }).to_string()
            }
        };
        let blob = blob.as_bytes();
        let close = fixture.send_chunks("a", blob);
        assert_eq!(fixture.ask(&close).status, 201);
        fixture.host.pass(GRACE / 2);
        let sweeper = fixture.isolate();
        let join = || {
            let swept = ask(&sweeper, &Ask::new("POST /v2/_strata/sweep"));
            assert!(String::from_utf8_lossy(&swept.body).contains(&key::blob(&digest(blob))));
        };
        let read = format!("get {}", key::blob(&digest(blob)));
        let again = fixture.ask_with(&close, &[(read.as_str(), &join)]);
        assert_eq!(again.status, 201, "{kind}");
        let pulled = ask(
            &fixture.isolate(),
            &Ask::new(&format!("GET /v2/a/blobs/{}", digest(blob))),
        );
        assert_eq!((pulled.status, &*pulled.body), (200, blob), "{kind}");
        let found = ask(
            &fixture.isolate(),
            &Ask::new(&format!("HEAD /v2/a/blobs/{}", digest(blob))),
        );
        assert_eq!(
            found.headers["content-length"],
            blob.len().to_string(),
            "{kind}"
        );
    }
}

/// Joins are the last phase of a round, so many blobs to join delay no removal.
#[test]
fn removals_do_not_wait_for_joins() {
    let ticks = |limit: &str| {
        let fixture = Fixture::new(&[("STRATA_JOIN_BYTES", limit)]);
        let layers: Vec<_> = (0..40_u8).map(|number| vec![number; 6]).collect();
        fixture.push_chunked_layers("a", &layers);
        fixture.host.pass(GRACE / 2);
        for ticks in 1.. {
            block_on(fixture.registry.tick());
            let cursor = fixture.cursor();
            let left = cursor["candidates"]["blobs"].as_object().unwrap().len();
            match cursor["place"]["phase"].as_str().unwrap() {
                "joins" => return (ticks, left),
                "rest" => return (ticks, 0),
                _ => {}
            }
        }
        unreachable!()
    };
    let (joining, left) = ticks("10");
    assert!(left > 30, "{left} blobs are still to be joined");
    assert_eq!((joining, 0), ticks("0"));
}

/// Blobs that can't be joined keep no others waiting, however long they take, and no removals.
#[test]
fn blobs_that_cannot_be_joined_keep_no_others_waiting() {
    // A step joins one blob of this size.
    let settings = [("STRATA_JOIN_BYTES", "10"), ("STRATA_SCRUB_DAYS", "0")];
    let fixture = Fixture::new(&settings);
    let mut layers: Vec<_> = (0..41_u8).map(|number| vec![number; 9]).collect();
    layers.sort_by_key(|layer| digest(layer).to_string());
    fixture.push_chunked_layers("a", &layers);
    let good = layers.pop().unwrap();
    for layer in &layers {
        let record = fixture.memory().bytes(&key::blob(&digest(layer))).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let extent = format!("extents/{}", record["extents"][0]["key"].as_str().unwrap());
        fixture.put(&extent, b"xxxx", "");
    }
    fixture.host.pass(GRACE / 2);
    // A round has time for 24 steps.
    let pause = GRACE / 4 / 24;
    let mut began = Vec::new();
    for tick in 0..72 {
        let was_at_rest = tick == 0 || fixture.cursor()["place"]["phase"] == "rest";
        block_on(fixture.registry.tick());
        if was_at_rest && fixture.cursor()["place"]["phase"] != "rest" {
            began.push(tick);
        }
        fixture.host.pass(pause);
    }
    let key = key::blob(&digest(&good));
    assert_eq!(fixture.metadata(&key), r#"{"kind":"bytes"}"#);
    assert_eq!(began, [0, 25, 49], "each round begins when it is due");
}

/// Of two sweeps at one place, only the one that stores the place joins.
#[test]
fn concurrent_sweeps_join_a_blob_once() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    let other = fixture.isolate();
    let joined = RefCell::new(Vec::new());
    let before = Cell::new(0);
    let sweep_elsewhere = || {
        let swept = ask(&other, &Ask::new("POST /v2/_strata/sweep"));
        joined.borrow_mut().push(swept);
        before.set(fixture.operations.get());
    };
    let line = "POST /v2/_strata/sweep";
    let swept = fixture.ask_with(line, &[("put sweep/cursor", &sweep_elsewhere)]);
    joined.borrow_mut().push(swept);
    // After the cursor, which is counted before it is written, no extent is read.
    assert_eq!(fixture.operations.get(), before.get());
    let joined = joined.borrow();
    let counts = joined.iter().map(|answer| {
        let report: Value = serde_json::from_slice(&answer.body).unwrap();
        report["joined"].as_array().unwrap().len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 0]);
    assert!(fixture.is_one() && fixture.is_whole("a", "v1"));
}

/// A step that has joined for a minute leaves the rest to the next round.
#[test]
fn a_step_begins_no_join_after_a_minute() {
    let fixture = Fixture::new(&[]);
    let layers: Vec<_> = (0..3_u8).map(|number| vec![number; 9]).collect();
    fixture.push_chunked_layers("a", &layers);
    fixture.host.pass(GRACE / 2);
    let waits = || fixture.host.pass(Duration::from_secs(30));
    let writes = ["put blobs/"; 2].map(|write| (write, &waits as &dyn Fn()));
    let answer = fixture.ask_with("POST /v2/_strata/sweep", &writes);
    let report: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(report["joined"].as_array().unwrap().len(), 2);
    assert_eq!(fixture.joined().len(), 1);
}

/// A round ends before all blobs are joined, if that takes long. The next one goes on.
#[test]
fn joins_end_before_they_delay_the_next_round() {
    let fixture = Fixture::new(&[("STRATA_JOIN_BYTES", "10")]);
    for number in 0..5_u8 {
        fixture.push_in_chunks("a", &[number; 9]);
    }
    fixture.host.pass(GRACE / 2);
    assert_eq!(fixture.step("")["finished"], false);
    fixture.host.pass(GRACE / 4);
    assert_eq!(fixture.step("")["finished"], true);
    let is_left = |key: &String| fixture.metadata(key).contains("extents");
    assert_eq!(
        fixture.keys("blobs/").into_iter().filter(is_left).count(),
        3
    );
    assert_eq!(fixture.joined().len(), 3);
}

/// The other jobs of a tick come before the joins, which the platform may end.
#[test]
fn joins_are_the_last_work_of_a_tick() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.host.pass(GRACE / 2);
    let mut tick = Box::pin(fixture.registry.tick());
    let mut context = Context::from_waker(Waker::noop());
    let write = format!("put {}", layer());
    let mut begun = Vec::new();
    while !begun.contains(&write) {
        assert!(tick.as_mut().poll(&mut context).is_pending());
        begun.push(fixture.begun.borrow().clone());
    }
    for cursor in ["put sweep/cursor", "put sweep/scrub"] {
        assert!(
            begun.iter().any(|operation| operation == cursor),
            "{begun:#?}"
        );
    }
}

/// A blob that can't be read stops neither the walk nor the joins.
#[test]
fn a_blob_that_is_never_read_does_not_stop_the_sweep() {
    let fixture = Fixture::new(&[]);
    fixture.push_chunked_image("a");
    fixture.push_in_chunks("a", b"another blob");
    fixture.host.pass(GRACE / 2);
    *fixture.fails_next.borrow_mut() = Some(format!("get {}", layer()));
    assert_eq!(fixture.joined(), [key::blob(&digest(b"another blob"))]);
    assert!(fixture.log().contains("extents not joined"));
    assert_eq!(fixture.joined(), [layer()]);
    fixture.host.pass(GRACE);
    *fixture.fails_next.borrow_mut() = Some(format!("head {}", layer()));
    assert_eq!(fixture.step("")["finished"], true);
}

/// Blobs that the settings keep in extents cost no more than those of one extent.
#[test]
fn blobs_that_are_never_joined_cost_nothing() {
    let cost = |settings: &[(&str, &str)], blob: &[u8]| {
        let fixture = Fixture::new(settings);
        fixture.push_chunked_layers("a", &[blob.to_vec()]);
        fixture.host.pass(GRACE / 2);
        let young = fixture.step("")["operations"].as_u64().unwrap();
        fixture.host.pass(GRACE / 2);
        fixture.round();
        // Its upload is as old as the grace period.
        (young, fixture.step("")["operations"].as_u64().unwrap())
    };
    let one = cost(&[], b"one");
    assert_eq!(cost(&[("STRATA_JOIN_BYTES", "0")], b"three extents"), one);
    assert_eq!(cost(&[("STRATA_SUBREQUESTS", "50")], &[7; 4 * 20]), one);
    let joined = cost(&[], b"three extents");
    assert!(joined.0 > one.0, "{joined:?} {one:?}");
    assert_eq!(joined.1, one.1 + 1);
}
