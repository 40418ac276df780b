//! Lists: tables of contents and directories, in pages.

use super::*;

fn odd_archive() -> Vec<u8> {
    Tar::default()
        .directory("etc/")
        .file("etc/passwd", "root")
        .file(b"etc/\xff\xfe", "bytes")
        .file("etc/a b&c=d%2F+\u{e9}", "odd")
        .file("etc/.wh.shadow", "")
        .file("opt/.wh..wh..opq", "")
        .hard_link("etc/again", "etc/passwd")
        .symlink("link", "etc")
        .symlink("up", "../../../../etc/passwd")
        .symlink("absolute", "/etc/passwd")
        .symlink("loop", "loop")
        .symlink("dangling", "nowhere")
        .entry(b"dev/null", b'3', "", b"")
        .entry(b"dev/disk", b'4', "", b"")
        .entry(b"run/pipe", b'6', "", b"")
        .file("etc/passwd", "twice")
        .end()
}

#[test]
fn a_table_of_contents_lists_every_entry_of_a_layer() {
    let archive = odd_archive();
    let layer = gzip(&archive);
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let whole = get(&isolate, &contents(&layer));
    assert_eq!(whole.header("content-type"), Some("application/json"));
    let body = json_of(&whole);
    for (name, value) in [
        ("digest", json!(digest(&layer).to_string())),
        ("diffId", json!(digest(&archive).to_string())),
        ("compression", json!("gzip")),
        ("size", json!(layer.len())),
        ("inflatedSize", json!(archive.len())),
        ("spanSize", json!(MIB)),
        ("spans", json!(1)),
        ("entryCount", json!(16)),
        (
            "indexSize",
            json!(world.stored(&key::index(&digest(&layer))).unwrap().len()),
        ),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    let entries = body["entries"].as_array().unwrap();
    let paths: Vec<&str> = entries
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert_eq!(entries.len(), 16);
    assert!(paths.is_sorted_by(|a, b| a <= b), "{paths:?}");
    let of = |path: &str| entries.iter().rfind(|entry| entry["path"] == path).unwrap();
    assert_eq!(
        of("etc/passwd"),
        &json!({ "path": "etc/passwd", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 5, "modified": "15", "offset": of("etc/passwd")["offset"] })
    );
    assert_eq!(of("etc/.wh.shadow")["whiteout"], "name");
    assert_eq!(of("opt/.wh..wh..opq")["whiteout"], "opaque");
    assert_eq!(
        (&of("link")["type"], &of("link")["link"]),
        (&json!("symlink"), &json!("etc"))
    );
    assert_eq!(
        (&of("etc/again")["type"], &of("etc/again")["link"]),
        (&json!("hardlink"), &json!("etc/passwd"))
    );
    assert_eq!(
        (&of("dev/null")["type"], &of("dev/disk")["type"]),
        (&json!("char"), &json!("block"))
    );
    assert_eq!(of("dev/null")["device"], json!([0, 0]));
    assert_eq!(of("run/pipe")["type"], "fifo");
    assert!(of("etc/passwd").get("pathEncoded").is_none());
    let bytes = of("etc/\u{fffd}\u{fffd}");
    assert_eq!(bytes["pathEncoded"], "etc/%FF%FE");
    assert_eq!(read(&isolate, &file(&layer, "etc/%FF%FE")), b"bytes");
    assert_eq!(
        read(&isolate, &file(&layer, "etc/a%20b&c=d%252F+%C3%A9")),
        b"odd"
    );

    // All pages together are the same, and no entry comes twice. Entries of one path stay together.
    for limit in 1..=16 {
        let target = format!("{}?n={limit}", contents(&layer));
        let (paged, count) = pages(&isolate, &target, "entries");
        assert_eq!(&paged, entries, "{limit}");
        assert!(
            count >= 15_usize.div_ceil(limit) && count <= 15,
            "{count} pages of {limit}"
        );
    }
    let target = format!("{}?n=2&prefix=etc%2F", contents(&layer));
    let (below, _) = pages(&isolate, &target, "entries");
    let expected: Vec<_> = entries
        .iter()
        .filter(|entry| entry["path"].as_str().unwrap().starts_with("etc/"))
        .cloned()
        .collect();
    assert_eq!(below, expected);
    let (odd, _) = pages(
        &isolate,
        &format!("{}?prefix=etc/%FF", contents(&layer)),
        "entries",
    );
    assert_eq!(odd.len(), 1);
    assert_eq!(
        pages(
            &isolate,
            &format!("{}?prefix=zzz", contents(&layer)),
            "entries"
        )
        .0
        .len(),
        0
    );
    let none = get(&isolate, &format!("{}?n=0", contents(&layer)));
    assert_eq!(
        (
            json_of(&none)["entries"].as_array().unwrap().len(),
            next(&none)
        ),
        (0, None)
    );
    let wrong = get(&isolate, &format!("{}?n=x", contents(&layer)));
    assert_eq!(wrong.status, 400);

    let etag = whole.header("etag").unwrap().to_owned();
    let request = Ask::new(&format!("GET {}", contents(&layer))).header("if-none-match", etag);
    let (answer, log) = world.ask(&isolate, &request);
    assert_eq!((answer.status, answer.body.len(), log.len()), (304, 0, 0));
    let head = ask(&isolate, &Ask::new(&format!("HEAD {}", contents(&layer))));
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
}

#[test]
fn directories_are_listed_and_special_files_have_no_content() {
    let layer = gzip(&odd_archive());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    let names = |target: &str, limit: usize| {
        let (children, _) = pages(&isolate, &format!("{target}?n={limit}"), "children");
        children
            .iter()
            .map(|child| child["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let root = [
        "absolute", "dangling", "dev", "etc", "link", "loop", "opt", "run", "up",
    ];
    let etc = ["a b&c=d%2F+\u{e9}", "again", "passwd", "\u{fffd}\u{fffd}"];
    for limit in 1..=12 {
        assert_eq!(names(&file(&layer, ""), limit), root, "{limit}");
        for path in ["etc/", "link/", "./etc/../etc/"] {
            assert_eq!(names(&file(&layer, path), limit), etc, "{path}");
        }
    }
    let without = contents(&layer) + "/files";
    assert_eq!(names(&without, 100), root);
    let listed = json_of(&get(&isolate, &file(&layer, "etc/")));
    assert_eq!(listed["path"], "etc/");
    assert_eq!(listed["children"][3]["nameEncoded"], "%FF%FE");
    assert_eq!(listed["children"][2]["layer"], digest(&layer).to_string());
    let implied = json_of(&get(&isolate, &file(&layer, "")));
    assert_eq!(
        implied["children"][2],
        json!({ "name": "dev", "type": "directory" })
    );

    for (path, status, said) in [
        ("etc", 422, "etc is a directory; request etc/ to list it"),
        ("link", 422, "etc is a directory; request etc/ to list it"),
        ("dev", 422, "dev is a directory"),
        ("dev/null", 422, "dev/null is a char and has no content"),
        ("dev/disk", 422, "dev/disk is a block"),
        ("run/pipe", 422, "run/pipe is a fifo"),
        ("loop", 422, "more than 40 symbolic links"),
        ("loop/x", 422, "more than 40 symbolic links"),
        ("dangling", 404, "no such file or directory"),
        ("etc/shadow", 404, "no such file or directory"),
        ("etc/.wh.shadow", 404, "no such file or directory"),
        ("nothing", 404, "no such file or directory"),
        ("etc/passwd/x", 404, "not a directory"),
        ("etc/passwd/", 404, "not a directory"),
        ("nothing/", 404, "no such file or directory"),
        ("etc%2Fnothing", 404, "no such file or directory"),
    ] {
        let (message, _) = refused(&get(&isolate, &file(&layer, path)), status, "FILE_UNKNOWN");
        assert!(message.contains(said), "{path}: {message}");
    }
    // Nothing leads out of the layer.
    for path in [
        "up",
        "absolute",
        "link/passwd",
        "etc/again",
        "../../etc/passwd",
        "etc/../../../etc/passwd",
        "/etc//passwd",
        "%2e%2e/etc/passwd",
        "etc%2Fpasswd",
    ] {
        let expected: &[u8] = if path == "etc/again" {
            b"root"
        } else {
            b"twice"
        };
        assert_eq!(read(&isolate, &file(&layer, path)), expected, "{path}");
    }
}

#[test]
fn a_listing_of_large_entries_is_split_into_bounded_pages() {
    let value = "v".repeat(60_000);
    let record = |n: usize| {
        let rest = format!(" SCHILY.xattr.user.a={value}{n:04}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n);
        format!("{}{rest}", length.unwrap())
    };
    let tar = (0..200).fold(Tar::default(), |tar, n| {
        tar.entry(b"x", b'x', "", record(n).as_bytes())
            .file(format!("dir/file-{n:03}"), "")
    });
    let layer = gzip(&tar.end());
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    for (target, list) in [
        (contents(&layer), "entries"),
        (file(&layer, "dir/"), "children"),
    ] {
        let (found, pages) = pages(&isolate, &target, list);
        assert_eq!(found.len(), 200);
        assert!(pages > 2, "{pages} pages");
        let first = get(&isolate, &target);
        assert!(first.body.len() < 6 * MIB, "{}", first.body.len());
    }
}

#[test]
fn the_last_of_many_entries_of_one_path_is_read() {
    let times = |count| (0..count).fold(Tar::default(), |tar, _| tar.file("same", "old"));
    let tar = times(7_000);
    let layer = tar.file("same", "new").file("z", "z").end();
    let world = World::with_layer(&layer);
    let isolate = world.isolate(&[]);
    assert_eq!(read(&isolate, &file(&layer, "same")), b"new");
    assert_eq!(read(&isolate, &file(&layer, "z")), b"z");
    let names = pages(&isolate, &file(&layer, "?n=1"), "children").0;
    assert_eq!(names.len(), 2);
    let (entries, pages) = pages(&isolate, &format!("{}?n=1", contents(&layer)), "entries");
    assert_eq!(pages, 2);
    assert_eq!(entries.last().unwrap()["path"], "z");
    // All entries of a path are in memory at once: those of no layer are as many.
    let layer = times(20_000).end();
    let world = World::with_layer(&layer);
    let answer = get(&world.isolate(&[]), &file(&layer, "same"));
    assert_eq!(answer.status, 422, "{answer:?}");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("more than 2097152 bytes of entries at one path"),
        "{text}"
    );
}
