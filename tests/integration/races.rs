//! A push of a manifest and a deletion by two isolates, in every schedule with two switches.

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
        Self { store, isolates }
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
fn each_pair(mut check: impl FnMut([usize; 2]) -> [bool; 2]) {
    for of_first in 0.. {
        let mut is_first_done = false;
        for of_second in 0.. {
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
