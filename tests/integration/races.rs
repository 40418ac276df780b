//! Two requests to two isolates, in every schedule with two switches: a push of a manifest and a
//! deletion; two requests that close one upload.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use pollster::block_on;
use serde_json::json;
use strata::{
    manifest::{OCI_INDEX, OCI_MANIFEST},
    memory::MemoryObjects,
};
use strata_support::{
    Answer, Ask, CONFIG, LAYER, TestHost, TestRegistry, ask, ask_now, descriptor, digest, image,
    key, push_manifest, registry_on,
    watched::{Verdict, Watched},
};

/// A request that is polled turn by turn. An operation of the store takes two turns.
enum Turns<'a> {
    Running(Pin<Box<dyn Future<Output = Answer> + 'a>>),
    Done(Answer),
}

impl Turns<'_> {
    /// Takes some turns. Returns whether the request goes on.
    fn take(&mut self, turns: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..turns {
            let Self::Running(running) = self else { break };
            if let Poll::Ready(answer) = running.as_mut().poll(&mut context) {
                *self = Self::Done(answer);
            }
        }
        matches!(self, Self::Running(_))
    }

    fn end(self) -> Answer {
        match self {
            Self::Running(running) => block_on(running),
            Self::Done(answer) => answer,
        }
    }
}

/// Two isolates on one store, in which `a` has the image without a tag.
struct Race {
    host: TestHost,
    store: Watched,
    isolates: [TestRegistry<Watched>; 2],
}

impl Race {
    fn new() -> Self {
        let host = TestHost::default();
        let store = Watched::new(MemoryObjects::timed(host.now.clone()), |_, _| Verdict::Done);
        let isolates = [(); 2].map(|()| registry_on(store.clone(), host.clone(), &[]));
        for blob in [LAYER, CONFIG] {
            let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
            assert_eq!(ask(&isolates[0], &Ask::new(&line).body(blob)).status, 201);
        }
        let image = image();
        let named = digest(image.to_string().as_bytes()).to_string();
        push_manifest(&isolates[0], "a", &named, OCI_MANIFEST, &image);
        Self {
            host,
            store,
            isolates,
        }
    }

    fn status(&self, line: &str) -> u16 {
        ask(&self.isolates[0], &Ask::new(line)).status
    }

    /// Runs some turns of the first request, some of the second, and then the rest of both.
    /// Calls `between` before that rest. Returns the answers, and which of the first two parts
    /// ended their request.
    fn run(
        &self,
        [first, second]: [&Ask; 2],
        [of_first, of_second]: [usize; 2],
        between: impl FnOnce(),
    ) -> ([Answer; 2], [bool; 2]) {
        let mut turns = [first, second]
            .into_iter()
            .zip(&self.isolates)
            .map(|(request, isolate)| Turns::Running(Box::pin(ask_now(isolate, request))));
        let (mut first, mut second) = (turns.next().unwrap(), turns.next().unwrap());
        let are_done = [!first.take(of_first), !second.take(of_second)];
        between();
        ([first.end(), second.end()], are_done)
    }
}

/// Calls `check` for every pair of turns, until both requests have ended within theirs.
/// An operation takes two turns, of which the second does it, so every other number is enough.
fn each_pair(mut check: impl FnMut([usize; 2]) -> [bool; 2]) {
    for of_first in (0..).step_by(2) {
        let mut is_first_done = false;
        for of_second in (0..).step_by(2) {
            let [first, second] = check([of_first, of_second]);
            is_first_done = first;
            if second {
                break;
            }
        }
        if is_first_done {
            break;
        }
    }
}

fn image_digest() -> String {
    digest(image().to_string().as_bytes()).to_string()
}

#[test]
fn a_tag_of_a_manifest_that_is_deleted_meanwhile_leads_to_it_or_is_gone() {
    let by_digest = format!("/v2/a/manifests/{}", image_digest());
    let push = Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image());
    let delete = Ask::new(&format!("DELETE {by_digest}"));
    let mut seen = [0; 3];
    for requests in [[&push, &delete], [&delete, &push]] {
        each_pair(|turns| {
            let race = Race::new();
            let (answers, are_done) = race.run(requests, turns, || ());
            let pushed = answers[usize::from(requests[0].method != push.method)].status;
            let (tag, manifest) = (
                race.status("GET /v2/a/manifests/v2"),
                race.status(&format!("GET {by_digest}")),
            );
            let tags = ask(&race.isolates[0], &Ask::new("GET /v2/a/tags/list"));
            let tags = String::from_utf8(tags.body).unwrap();
            let first = &requests[0].method;
            let context = format!("{first} {turns:?}: {pushed} {tag} {manifest} {tags}");
            assert_eq!(tags.contains("v2"), tag == 200, "{context}");
            match (pushed, tag, manifest) {
                // The push came last, or the deletion did.
                (201, 200, 200) => seen[0] += 1,
                (201, 404, 404) => seen[1] += 1,
                (503, 404, 404) => seen[2] += 1,
                _ => panic!("{context}"),
            }
            are_done
        });
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn an_index_whose_manifest_is_deleted_before_it_is_stored_is_refused() {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_MANIFEST, image().to_string().as_bytes())],
    });
    let name = "a".parse().unwrap();
    let index_key = key::manifest(&name, &digest(index.to_string().as_bytes()));
    let image_key = key::manifest(&name, &digest(image().to_string().as_bytes()));
    let push = Ask::new("PUT /v2/a/manifests/all").manifest(OCI_INDEX, &index);
    let delete = Ask::new(&format!("DELETE /v2/a/manifests/{}", image_digest()));
    let mut seen = [0; 3];
    each_pair(|turns| {
        let race = Race::new();
        let mut came_first = false;
        let (answers, are_done) = race.run([&push, &delete], turns, || {
            let memory = &race.store.memory;
            came_first = memory.bytes(&image_key).is_none() && memory.bytes(&index_key).is_none();
        });
        let pushed = answers[0].status;
        let tag = race.status("GET /v2/a/manifests/all");
        match (pushed, tag) {
            (201, 200) if !came_first => seen[0] += 1,
            (404, 404) => seen[1] += 1,
            (503, 404) => seen[2] += 1,
            _ => panic!("{turns:?}: {pushed} {tag}"),
        }
        are_done
    });
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn a_deletion_that_is_repeated_deletes_the_tags_that_the_first_one_left() {
    let race = Race::new();
    let line = format!("DELETE /v2/a/manifests/{}", image_digest());
    let push = Ask::new("PUT /v2/a/manifests/v2").manifest(OCI_MANIFEST, &image());
    assert_eq!(ask(&race.isolates[1], &push).status, 201);
    // An isolate deleted the manifest and died.
    let manifest = key::manifest(
        &"a".parse().unwrap(),
        &digest(image().to_string().as_bytes()),
    );
    block_on(strata::store::Objects::delete(&race.store, &[manifest])).unwrap();
    assert_eq!(race.status(&line), 202);
    assert_eq!(race.status(&line), 404);
    let tags = ask(&race.isolates[0], &Ask::new("GET /v2/a/tags/list"));
    assert_eq!(tags.body, br#"{"name":"a","tags":[]}"#);
}

/// Begins an upload in `a` and sends these chunks; returns the location that closes it as `blob`.
fn begin(race: &Race, blob: &[u8], chunks: &[&[u8]]) -> String {
    let isolate = &race.isolates[0];
    let mut last = ask(isolate, &Ask::new("POST /v2/a/blobs/uploads/"));
    for chunk in chunks {
        last = ask(
            isolate,
            &Ask::new(&format!("PATCH {}", last.location())).stream(chunk),
        );
    }
    let location = last.location();
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("PUT {location}{separator}digest={}", digest(blob))
}

#[test]
fn of_two_requests_that_close_an_upload_both_succeed_or_one_is_told_to_wait() {
    /// The blob, its chunks, and the body of the request that closes the upload.
    type Way<'a> = (&'a [u8], &'a [&'a [u8]], Option<&'a [u8]>);
    let new = b"a new blob";
    let (head, tail) = LAYER.split_at(4);
    let ways: [Way<'_>; 5] = [
        (new, &[], Some(new)),
        (new, &[new], None),
        (new, &[&new[..4]], Some(&new[4..])),
        // These are stored already, so the extents are deleted.
        (LAYER, &[LAYER], None),
        (LAYER, &[head, tail], None),
    ];
    for (blob, chunks, body) in ways {
        let mut succeeded = 0;
        each_pair(|turns| {
            let race = Race::new();
            let line = begin(&race, blob, chunks);
            let close = match body {
                // Without the range, the same bytes could be received twice.
                Some(body) if !chunks.is_empty() => {
                    Ask::new(&line).body(body).header("content-range", "4-9")
                }
                Some(body) => Ask::new(&line).body(body),
                None => Ask::new(&line),
            };
            let (answers, are_done) = race.run([&close, &close], turns, || ());
            let context = format!("{chunks:?} {turns:?}: {answers:?}");
            let statuses = answers.each_ref().map(|answer| answer.status);
            match statuses {
                [201, 201] => succeeded += 1,
                // The last chunk came by the other request, which has yet to close the upload.
                [201, 416] | [416, 201] if body.is_some() => {}
                [201, 503] | [503, 201] => {
                    let refused = answers.iter().find(|answer| answer.status == 503);
                    let found = String::from_utf8_lossy(&refused.unwrap().body).into_owned();
                    assert!(found.contains("another"), "{context}");
                }
                _ => panic!("{context}"),
            }
            let log = race.host.log.borrow().join("\n");
            assert!(!log.contains("the store failed"), "{context}: {log}");
            // A repeated request gets the answer of the first.
            assert_eq!(ask(&race.isolates[1], &close).status, 201, "{context}");
            are_done
        });
        assert!(succeeded > 0, "{chunks:?}");
    }
}

#[test]
fn a_closed_upload_gives_no_right_that_its_closing_did_not() {
    let race = Race::new();
    let line = begin(&race, LAYER, &[]);
    assert_eq!(
        ask(&race.isolates[0], &Ask::new(&line).body(LAYER)).status,
        201
    );
    let chunked = begin(&race, LAYER, &[LAYER]);
    assert_eq!(race.status(&chunked), 201);
    for line in [&line, &chunked] {
        assert_eq!(race.status(line), 201);
        // Of another blob, although the repository has it.
        let other = line.replace(&digest(LAYER).to_string(), &digest(b"none").to_string());
        assert_eq!(race.status(&other), 404);
        // In another repository.
        assert_eq!(race.status(&line.replace("/v2/a/", "/v2/b/")), 404);
    }
    let other = chunked.replace(&digest(LAYER).to_string(), &digest(CONFIG).to_string());
    assert_eq!(race.status(&other), 404);
    // Without the right, a client that may only push can't tell which blobs the repository has.
    let rules = r#"[{"repositories": ["**"], "who": ["users"], "may": ["push"]}]"#;
    let pushes = registry_on(
        race.store.clone(),
        race.host.clone(),
        &[("STRATA_RULES", rules)],
    );
    assert_eq!(ask(&pushes, &Ask::new(&line)).status, 404);
    assert_eq!(ask(&pushes, &Ask::new(&chunked)).status, 201);
    for delete in [
        format!("DELETE /v2/a/manifests/{}", image_digest()),
        format!("DELETE /v2/a/blobs/{}", digest(LAYER)),
    ] {
        assert_eq!(race.status(&delete), 202);
    }
    assert_eq!(race.status(&line), 404);
}
