//! The cost of a request does not reveal whether a repository that the caller cannot see holds a
//! blob: in both cases the operations of the store, their order and the answer are the same.

use std::{cell::RefCell, rc::Rc};

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue};
use pollster::block_on;
use serde_json::json;
use strata::{
    digest::Digest,
    memory::{MadeItems, MemoryBody, MemoryObjects},
    registry::{Body, Request},
    store::{Condition, Content, Objects as _, PutOptions},
};
use strata_support::{
    Answer, Ask, TestHost, TestRegistry, ask, digest, key,
    mirrors::{says, target},
    registry_on,
    watched::{Verdict, Watched},
};

/// The bytes of a layer that another user may have pushed.
const SECRET: &[u8] = b"the bytes of somebody's private layer";
/// Other bytes of the same length.
const WRONG: &[u8] = b"the bytes of whoever only guesses it.";

/// A user that may pull and push in `a/**` and in the mirrored repositories, and in no other
/// repository.
const RULES: (&str, &str) = (
    "STRATA_RULES",
    r#"[{"repositories": ["a/**", "up.example/**"], "who": ["user:dev"], "may": ["pull", "push"]}]"#,
);

/// The state of the blob in the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum There {
    Nowhere,
    /// Pushed in one piece.
    Whole,
    /// Pushed by `PATCH`.
    Patched,
    /// Pushed, and condemned by a sweep.
    Marked(&'static str),
    /// Pushed, and without a grant by now.
    Ungranted,
}

const PLACES: [There; 6] = [
    There::Whole,
    There::Patched,
    There::Marked("condemned"),
    There::Marked("lifted"),
    There::Marked("deleting"),
    There::Ungranted,
];

/// The requests of a client that guesses; returns their answers.
type Guess = fn(&World) -> Vec<Answer>;

struct World {
    registry: TestRegistry<Watched>,
    log: Rc<RefCell<Vec<String>>>,
}

impl World {
    /// A store with or without the blob, and a new isolate over it that logs its operations.
    fn new(there: There) -> Self {
        let log = Rc::<RefCell<Vec<String>>>::default();
        let written = log.clone();
        let store = Watched::new(MemoryObjects::default(), move |operation, key| {
            written.borrow_mut().push(format!("{operation} {key}"));
            Verdict::Done
        });
        let owner = registry_on(store.clone(), TestHost::default(), &[]);
        let secret = digest(SECRET);
        match there {
            There::Nowhere => {}
            There::Patched => {
                let start = ask(&owner, &Ask::new("POST /v2/secret/blobs/uploads/"));
                let patch = Ask::new(&format!("PATCH {}", start.location()));
                let sent = ask(&owner, &patch.stream(SECRET));
                let close = format!("PUT {}&digest={secret}", sent.location());
                assert_eq!(ask(&owner, &Ask::new(&close)).status, 201);
            }
            There::Whole | There::Marked(_) | There::Ungranted => {
                let line = format!("POST /v2/secret/blobs/uploads/?digest={secret}");
                assert_eq!(ask(&owner, &Ask::new(&line).body(SECRET)).status, 201);
            }
        }
        if let There::Marked(state) = there {
            let mark = json!({ "state": state, "time": 0, "nonce": "n" }).to_string();
            store.plant(&key::mark(&secret), mark.as_bytes(), &mark);
        }
        if there == There::Ungranted {
            let grants = store.keys(&key::grants(&secret, &"secret".parse().unwrap()));
            block_on(store.memory.delete(&grants)).unwrap();
        }
        let host = TestHost::default();
        host.serve(|question| {
            // A client that guesses may also run an upstream, which claims to have every blob.
            match (question.method.as_str(), target(question)) {
                (_, path) if path.contains("/gone/") => says(404, &[], "{}"),
                ("HEAD", _) => {
                    let length = SECRET.len().to_string();
                    says(200, &[("content-length", &length)], "")
                }
                (_, path) if path.contains("/unsized/") => says(200, &[], WRONG),
                _ => says(200, &[("content-length", &WRONG.len().to_string())], WRONG),
            }
        });
        let upstreams = r#"[{"name": "up.example", "address": "https://up.example"}]"#;
        let settings = [RULES, ("STRATA_UPSTREAMS", upstreams)];
        let registry = registry_on(store, host, &settings);
        log.borrow_mut().clear();
        Self { registry, log }
    }

    fn ask(&self, request: &Ask) -> Answer {
        ask(&self.registry, request)
    }

    /// Sends a body piece by piece, and records whether all of it was read.
    fn send(&self, line: &str, length: Option<usize>, pieces: &[&[u8]]) -> Answer {
        let (method, target) = line.split_once(' ').unwrap();
        let mut headers = HeaderMap::new();
        let login = HeaderValue::from_static("Basic ZGV2OnNlY3JldA==");
        headers.insert("authorization", login);
        if let Some(length) = length {
            headers.insert("content-length", HeaderValue::from(length));
        }
        let log = self.log.clone();
        let read = stream::iter([()]).filter_map(move |()| {
            log.borrow_mut().push("all of the body was read".to_owned());
            async { None }
        });
        let pieces = pieces.iter().map(|piece| Ok(piece.to_vec()));
        let pieces: Vec<_> = pieces.collect();
        let items = stream::iter(pieces).chain(read).boxed_local();
        let request = Request {
            method: method.parse().unwrap(),
            target: target.to_owned(),
            origin: "http://registry.example".to_owned(),
            address: "192.0.2.1".to_owned(),
            headers,
            body: Some(MemoryBody::Made(MadeItems(items))),
        };
        let (response, rest) = block_on(self.registry.answer(request));
        block_on(self.registry.finish(rest));
        let (parts, body) = response.into_parts();
        let body = match body {
            Body::Bytes(bytes) => bytes,
            Body::Empty | Body::Held(_) | Body::Stream(_) => Vec::new(),
        };
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    /// The operations that were done, without the random parts of their keys, and whether the body
    /// was read to its end.
    fn operations(&self) -> (Vec<String>, bool) {
        let log = self.log.borrow();
        let (read, operations): (Vec<_>, Vec<_>) =
            log.iter().partition(|entry| entry.starts_with("all of"));
        let operations = operations.iter().map(|entry| nameless(entry)).collect();
        (operations, !read.is_empty())
    }
}

/// An operation without its counted ids.
fn nameless(entry: &str) -> String {
    let is_id = |part: &str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = entry.split('/').map(|part| {
        let (step, nonce) = part.split_once('-').unwrap_or((part, ""));
        match (is_id(part), is_id(nonce)) {
            (true, _) => "ID".to_owned(),
            (_, true) => format!("{step}-ID"),
            (false, false) => part.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn secret() -> Digest {
    digest(SECRET)
}

fn begin(world: &World) -> String {
    world
        .ask(&Ask::new("POST /v2/a/b/blobs/uploads/"))
        .location()
}

/// Each way in which a client may look for a blob without having its bytes.
const GUESSES: [(&str, Guess); 17] = [
    ("whole", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.send(&line, Some(WRONG.len()), &[&WRONG[..9], &WRONG[9..]])]
    }),
    ("whole, by PUT", |world| {
        let line = format!("PUT {}?digest={}", begin(world), secret());
        vec![world.send(&line, Some(WRONG.len()), &[WRONG])]
    }),
    ("whole, without a body", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("whole, with an empty body", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.send(&line, Some(0), &[])]
    }),
    ("whole, of fewer bytes than announced", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.send(&line, Some(SECRET.len()), &[&SECRET[..9]])]
    }),
    ("whole, of more bytes than announced", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.send(&line, Some(9), &[WRONG])]
    }),
    ("of a length that nobody announced", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        vec![world.send(&line, None, &[WRONG])]
    }),
    ("by PUT, of a length that nobody announced", |world| {
        let line = format!("PUT {}?digest={}", begin(world), secret());
        vec![world.send(&line, None, &[WRONG])]
    }),
    ("by PUT, without a body", |world| {
        let line = format!("PUT {}?digest={}", begin(world), secret());
        vec![world.ask(&Ask::new(&line)), world.ask(&Ask::new(&line))]
    }),
    ("by PATCH", |world| {
        let patch = format!("PATCH {}", begin(world));
        let sent = world.send(&patch, Some(WRONG.len()), &[WRONG]);
        let line = format!("PUT {}&digest={}", sent.location(), secret());
        let closed = world.ask(&Ask::new(&line));
        vec![sent, closed, world.ask(&Ask::new(&line))]
    }),
    ("in chunks", |world| {
        let patch = format!("PATCH {}", begin(world));
        let first = world.ask(&Ask::new(&patch).body(&WRONG[..9]));
        let patch = format!("PATCH {}", first.location());
        let second = world.ask(&Ask::new(&patch).stream(&WRONG[9..20]));
        let line = format!("PUT {}&digest={}", second.location(), secret());
        let closed = world.ask(&Ask::new(&line).body(&WRONG[20..]));
        vec![first, second, closed]
    }),
    ("mount from where one may not pull", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?mount={}&from=secret", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("mount from where it is not", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?mount={}&from=a/c", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("mount from anywhere", |world| {
        let line = format!("POST /v2/a/b/blobs/uploads/?mount={}", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("HEAD and GET", |world| {
        let path = format!("/v2/a/b/blobs/{}", secret());
        let methods = ["HEAD", "GET", "HEAD"];
        let asks = methods.map(|method| Ask::new(&format!("{method} {path}")));
        asks.iter().map(|request| world.ask(request)).collect()
    }),
    ("a part", |world| {
        let line = format!("GET /v2/a/b/blobs/{}", secret());
        vec![world.ask(&Ask::new(&line).header("range", "bytes=0-3"))]
    }),
    ("a manifest that names it", |world| {
        let blob = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": secret(), "size": SECRET.len(),
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": strata::manifest::OCI_MANIFEST,
            "config": blob, "layers": [],
        });
        let line = Ask::new("PUT /v2/a/b/manifests/v1");
        vec![world.ask(&line.manifest(strata::manifest::OCI_MANIFEST, &manifest))]
    }),
];

/// The same, through the name of an upstream.
const MIRRORED: [(&str, Guess); 3] = [
    ("HEAD of what the upstream has not", |world| {
        let line = format!("HEAD /v2/up.example/gone/blobs/{}", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("HEAD", |world| {
        let line = format!("HEAD /v2/up.example/a/blobs/{}", secret());
        vec![world.ask(&Ask::new(&line))]
    }),
    ("a part of what the upstream has not", |world| {
        let line = format!("GET /v2/up.example/gone/blobs/{}", secret());
        vec![world.ask(&Ask::new(&line).header("range", "bytes=0-3"))]
    }),
];

#[track_caller]
fn tells_nothing(guesses: &[(&str, Guess)]) {
    for (what, guess) in guesses {
        let nowhere = World::new(There::Nowhere);
        let answers = guess(&nowhere);
        assert!(
            answers.iter().all(|answer| answer.body != SECRET),
            "{what}: {answers:?}"
        );
        for there in PLACES {
            let world = World::new(there);
            let before = world.registry.store().memory.keys();
            assert_eq!(guess(&world), answers, "{what}, {there:?}");
            assert_eq!(
                world.operations(),
                nowhere.operations(),
                "{what}, {there:?}"
            );
            let left = |memory: &MemoryObjects| {
                let mut keys = memory.keys();
                keys.retain(|key| !before.contains(key));
                keys
            };
            assert_eq!(
                left(&world.registry.store().memory),
                left(&nowhere.registry.store().memory),
                "{what}, {there:?}"
            );
        }
    }
}

#[test]
fn the_cost_of_a_guess_does_not_reveal_a_stored_blob() {
    tells_nothing(&GUESSES);
}

#[test]
fn the_cost_of_a_mirrored_guess_does_not_reveal_a_stored_blob() {
    tells_nothing(&MIRRORED);
}

/// The operations of a wrong push: nothing of it is kept.
#[test]
fn a_push_of_wrong_bytes_is_refused_and_leaves_nothing() {
    for there in [There::Nowhere, There::Whole] {
        let world = World::new(there);
        let line = format!("POST /v2/a/b/blobs/uploads/?digest={}", secret());
        let answer = world.send(&line, Some(WRONG.len()), &[WRONG]);
        assert_eq!(answer.status, 400, "{answer:?}");
        let kinds = |operations: Vec<String>| {
            let kind = |entry: &String| {
                let (operation, key) = entry.split_once(' ').unwrap();
                format!("{operation} {}", key.split('/').next().unwrap())
            };
            operations.iter().map(kind).collect::<Vec<_>>()
        };
        let (operations, is_read) = world.operations();
        assert_eq!(
            kinds(operations),
            [
                "head blobs",
                "put refs",
                "head sweep",
                "put blobs",
                "delete refs"
            ],
            "{there:?}"
        );
        assert!(is_read, "{there:?}");
        let memory = &world.registry.store().memory;
        let mut refs = memory.keys();
        refs.retain(|key| key.starts_with("refs/") && key.contains("/a/b/"));
        assert_eq!(refs, [""; 0], "{there:?}");
    }
}

/// The write after wrong bytes is refused by its digest even if its condition holds: a sweep may
/// delete the blob at that moment.
#[test]
fn the_memory_store_refuses_bytes_of_another_digest() {
    let empty = digest(b"");
    let memory = MemoryObjects::default();
    for (digest, bytes) in [(secret(), b"".as_slice()), (empty, b"\0")] {
        for condition in [Condition::Absent, Condition::Always] {
            let options = PutOptions {
                condition,
                digest: Some(&digest),
                ..PutOptions::default()
            };
            let content = Content::Bytes(bytes.to_vec());
            let put = block_on(memory.put(&key::blob(&digest), content, options));
            assert!(put.is_err());
        }
    }
    assert!(memory.keys().is_empty());
}
