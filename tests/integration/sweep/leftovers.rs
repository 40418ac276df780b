//! Removal of leftovers: sessions, extents, fills, and objects of other versions.

use super::*;

/// A planted leftover: its name, objects with their bytes and metadata, and the actions of the
/// sweep on it.
type Planted<'a> = (
    &'static str,
    Vec<(&'a str, &'static [u8], &'static str)>,
    Vec<&'static str>,
);

#[test]
fn each_kind_of_leftover_is_deleted_only_when_it_is_old() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let extent = key::extent(&key::extent_name(id, 1, "ff"));
    let entry = key::referrer(&name, &other, &other, "r");
    let start = r#"{"step":"start"}"#;
    let filled = key::step(&name, id, 0);
    let (claim, link) = (key::grant(&other, &name, "g"), key::link(&other, &name));
    let (index, blob) = (key::index(&other), key::blob(&other));
    let fill = key::fill(&other, &name);
    let planted: [Planted<'_>; 10] = [
        (
            "a hint at a fill",
            vec![(&fill, b"00112233445566778899aabbccddeeff", "")],
            vec!["delete hint"],
        ),
        ("nothing", vec![], vec![]),
        (
            "an extent of no upload",
            vec![(&extent, b"x", "")],
            vec!["delete extent"],
        ),
        (
            "an upload",
            vec![(&filled, b"", start)],
            vec!["end upload", "delete upload"],
        ),
        (
            "an upload that was filled and broken off",
            vec![(&filled, b"", start), (&extent, b"x", "")],
            vec!["end upload", "delete upload", "delete extent"],
        ),
        (
            "a referrer without a manifest",
            vec![(&entry, b"", "{}")],
            vec!["delete referrer"],
        ),
        (
            "a claim of bytes that never came",
            vec![(&claim, b"", r#"{"reason":"claim"}"#)],
            vec!["delete grant"],
        ),
        (
            "a link to nothing",
            vec![(&link, b"{}", "")],
            vec!["delete link"],
        ),
        (
            "an index of no layer",
            vec![(&index, b"x", "")],
            vec!["delete index"],
        ),
        (
            "a blob that nobody has",
            vec![(&blob, b"other", r#"{"kind":"bytes"}"#)],
            vec!["condemn blob", "delete blob"],
        ),
    ];
    for (what, objects, expected) in &planted {
        let fixture = Fixture::new(&[]);
        for (key, bytes, metadata) in objects {
            fixture.put(key, bytes, metadata);
        }
        let is_blob = what.starts_with("a blob");
        if !is_blob {
            fixture.host.pass(GRACE - Duration::from_millis(1));
            assert_eq!(fixture.round(), Vec::<Value>::new(), "{what}");
            fixture.host.pass(Duration::from_millis(1));
        }
        let mut found = Vec::new();
        for _ in 0..3 {
            found.extend(short(&fixture.round()));
            fixture.host.pass(GRACE);
        }
        assert_eq!(found, *expected, "{what}");
        assert_eq!(
            fixture.keys(""),
            ["sweep/cursor", "sweep/inventory"],
            "{what}"
        );
    }
}

/// The sweep deletes extents of a fill that several requests resumed, if they are in no record; the
/// extents of the record stay.
#[test]
fn extents_that_a_fill_stored_twice_are_deleted() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let record =
        format!(r#"{{"kind":"extents","size":5,"extents":[{{"key":"{id}/1-ff","size":5}}]}}"#);
    let done = format!(r#"{{"step":"done","digest":"{other}","extents":1}}"#);
    let closing = format!(r#"{{"step":"closing","digest":"{other}"}}"#);
    // The first closer could write that it was done; the second died before that.
    for (last, ended) in [(&done, false), (&closing, true)] {
        let fixture = Fixture::new(&[]);
        let [mine, stray, late] =
            [1, 2, 3].map(|step| key::extent(&key::extent_name(id, step, "ff")));
        fixture.put(&key::step(&name, id, 0), b"", r#"{"step":"start"}"#);
        fixture.put(&key::step(&name, id, 2), b"", last);
        fixture.put(&mine, b"other", "");
        fixture.put(&stray, b"oth", "");
        let kind = r#"{"kind":"extents","size":5}"#;
        fixture.put(&key::blob(&other), record.as_bytes(), kind);
        let manifest = digest(image().to_string().as_bytes());
        fixture.put(&key::manifest(&name, &manifest), b"{}", "{}");
        let reason = format!(r#"{{"reason":"manifest","digest":"{manifest}"}}"#);
        fixture.put(&key::grant(&other, &name, "g"), b"", &reason);
        let first = fixture.step("");
        assert_eq!(first["removals"], json!([]));
        fixture.host.pass(GRACE);
        let expected: &[&str] = if ended {
            &["delete extent", "end upload"]
        } else {
            &["delete extent"]
        };
        assert_eq!(short(&fixture.round()), expected);
        assert_eq!(fixture.keys("extents/"), std::slice::from_ref(&mine));
        fixture.put(&late, b"oth", "");
        fixture.host.pass(GRACE);
        assert_eq!(short(&fixture.round()), ["delete extent"]);
        assert_eq!(fixture.keys("extents/"), [mine]);
        assert_eq!(fixture.keys("blobs/").len(), 1);
        fixture.host.pass(GRACE);
        let last = fixture.step("");
        assert_eq!(last["removals"], json!([]));
        // A closer that was done stated how many extents it named, so nothing is looked at again.
        assert_eq!(last["operations"] == first["operations"], !ended);
    }
}

#[test]
fn unreadable_objects_stay() {
    let other = digest(b"other");
    let name = "a".parse().unwrap();
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let fixture = Fixture::new(&[]);
    fixture.put(&key::blob(&other), b"other", r#"{"kind":"bytes"}"#);
    fixture.put(&key::grant(&other, &name, "g"), b"", "{");
    fixture.put(&key::step(&name, id, 0), b"", "?");
    fixture.put(&key::extent(&key::extent_name(id, 1, "ff")), b"x", "");
    fixture.put("blobs/strange", b"x", "");
    fixture.put("refs/strange", b"x", "");
    fixture.put("uploads/strange", b"x", "");
    fixture.put("repositories/strange", b"x", "");
    let record = digest(b"record");
    fixture.put(&key::blob(&record), b"{", r#"{"kind":"extents","size":1}"#);
    let marked = digest(b"marked");
    fixture.put(&key::blob(&marked), b"marked", r#"{"kind":"bytes"}"#);
    let before = fixture.keys("");
    let mark = key::mark(&marked);
    fixture.put(&mark, b"\xff", "");
    fixture.sweep_clean();
    let mut after = fixture.keys("");
    // A mark that is not text stays, and delays nothing.
    assert!(after.contains(&mark));
    // The record is never removed, because its extents are not known; its mark says that the sweep
    // tried.
    after.retain(|key| !key.starts_with("sweep/"));
    assert_eq!(after, before);
    assert!(!fixture.host.log.borrow().is_empty());
}

/// Versions run side by side during a deployment, and a deployment may be rolled back.
#[test]
fn keys_of_another_version_keep_their_blobs_and_uploads() {
    let name = "a".parse().unwrap();
    let [held, other] = [b"held".as_slice(), b"other"].map(digest);
    let id = "00112233445566778899aabbccddeeff".parse().unwrap();
    let fixture = Fixture::new(&[]);
    for blob in [&held, &other] {
        fixture.put(&key::blob(blob), b"blob", r#"{"kind":"bytes"}"#);
    }
    let holders = key::grants(&held, &name).replace("_grants/", "");
    let unknown = [
        format!("{holders}_lease"),
        format!("{}soci", key::layer(&held)),
        key::step(&name, id, 0).replace("_00000", "_x"),
        "repositories/a/_signatures/x".to_owned(),
        "sweep/replicas".to_owned(),
        "catalog/A".to_owned(),
    ];
    for key in &unknown {
        fixture.put(key, b"x", "{}");
    }
    let step = key::step(&name, id, 0);
    fixture.put(&step, b"", r#"{"step":"start"}"#);
    // No manifest needs it, but the meaning of the other key is not known.
    let filled = key::grant(&held, &name, "f");
    fixture.put(&filled, b"", r#"{"reason":"filled"}"#);
    fixture.sweep_clean();
    assert!(!fixture.keys("").contains(&key::blob(&other)));
    let kept = [key::blob(&held), step, filled];
    for key in kept.iter().chain(&unknown) {
        assert!(fixture.keys("").contains(key), "{key}");
    }
}

#[test]
fn an_active_upload_stays_and_an_ended_one_takes_no_chunk() {
    let fixture = Fixture::new(&[]);
    let location = fixture.push_chunk("a", LAYER);
    fixture.host.pass(GRACE - Duration::from_secs(1));
    assert!(fixture.round().is_empty());
    let chunk = ask(
        &fixture.registry,
        &Ask::new(&format!("PATCH {location}")).stream(b"more"),
    );
    assert_eq!(chunk.status, 202);
    fixture.host.pass(GRACE - Duration::from_secs(1));
    // Its first extent is old, but the upload continues.
    assert!(fixture.round().is_empty());
    fixture.host.pass(Duration::from_secs(1));
    assert_eq!(short(&fixture.round()), ["end upload"]);
    assert!(fixture.keys("extents/").is_empty());
    let late = ask(
        &fixture.registry,
        &Ask::new(&format!("PATCH {}", chunk.location())).stream(b"late"),
    );
    assert_eq!(late.status, 404);
    fixture.sweep_clean();
    assert_eq!(fixture.keys("uploads/"), Vec::<String>::new());
    assert_eq!(fixture.keys("extents/"), Vec::<String>::new());
}

/// On a plan with a small budget per request, an upload of many chunks takes many steps, or has
/// more steps than one request can list.
#[test]
fn an_upload_too_large_for_one_step_does_not_block_the_sweep() {
    for (chunks, is_listed) in [(60, true), (9_000, false)] {
        let fixture = Fixture::new(&[("STRATA_SUBREQUESTS", "50")]);
        let name = "a".parse().unwrap();
        let long = "00112233445566778899aabbccddeeff".parse().unwrap();
        fixture.put(&key::step(&name, long, 0), b"", r#"{"step":"start"}"#);
        for number in 1..=chunks {
            let extent = key::extent_name(long, number.into(), "ff");
            let received = json!({
                "step": "received",
                "extent": { "key": &extent, "size": 1 },
                "offset": number - 1,
                "digest": digest(b"x"),
            });
            fixture.put(&key::step(&name, long, number), b"", &received.to_string());
            fixture.put(&key::extent(&extent), b"x", "");
        }
        let short = "ff112233445566778899aabbccddeeff".parse().unwrap();
        fixture.put(&key::step(&name, short, 0), b"", r#"{"step":"start"}"#);
        fixture.host.pass(3 * GRACE);
        let mut ticks = 0;
        while fixture
            .memory()
            .keys()
            .contains(&key::step(&name, short, 0))
        {
            fixture.host.pass(GRACE / 4);
            block_on(fixture.registry.tick());
            ticks += 1;
            assert!(ticks < 40);
        }
        let log = fixture.host.log.borrow().join("\n");
        assert!(log.contains("not swept in one step"), "{log}");
        // Extents, which take space, are deleted first.
        assert_eq!(fixture.keys("extents/").is_empty(), is_listed);
        // A sweep on request has a larger budget, and deletes everything.
        fixture.sweep_clean();
        fixture.sweep_clean();
        assert!(fixture.keys("extents/").is_empty());
    }
}
