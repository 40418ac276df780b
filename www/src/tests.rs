//! The interface that JavaScript sees: names, numbers and texts.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the numbers are small and whole"
)]

use js_sys::{Array, Function, JSON, Reflect, Uint8Array};
use wasm_bindgen::{JsError, JsValue};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{
    analysis::Analyser,
    layer::{Layer, Pass},
    memory_size,
};

/// A layer with `etc/hostname` in it, written by GNU tar and gzip.
const LAYER: &[u8] = include_bytes!("../../tests/data/layer.tar.gz");

fn text(error: JsError) -> String {
    let error: js_sys::Error = JsValue::from(error).into();
    error.message().into()
}

fn layer() -> Layer {
    let store = Function::new_no_args("");
    let mut pass = Pass::new(LAYER.len() as f64).unwrap();
    for piece in LAYER.chunks(100) {
        pass.push(piece, &store).unwrap();
    }
    pass.finish(&store).unwrap()
}

#[track_caller]
fn field(json: &str, path: &[&str]) -> JsValue {
    let mut found = JSON::parse(json).unwrap();
    for name in path {
        found = Reflect::get(&found, &(*name).into()).unwrap();
    }
    found
}

#[wasm_bindgen_test]
fn a_layer_is_described_listed_and_read() {
    let layer = layer();
    let described = layer.describe();
    assert_eq!(field(&described, &["compression"]), "gzip");
    assert_eq!(field(&described, &["size"]), LAYER.len() as f64);
    assert_eq!(field(&described, &["inflatedSize"]), 10_240.0);
    let names = |json: &str| {
        let children: Array = field(json, &["children"]).into();
        let name = |child: JsValue| {
            Reflect::get(&child, &"name".into())
                .unwrap()
                .as_string()
                .unwrap()
        };
        children.iter().map(name).collect::<Vec<_>>()
    };
    let etc = layer.list("etc/", None, 9).unwrap();
    assert!(names(&etc).contains(&"hostname".to_owned()), "{etc}");
    assert!(field(&etc, &["next"]).is_undefined());
    assert_eq!(
        names(&layer.list("etc/", Some("hostname".to_owned()), 9).unwrap()),
        Vec::<String>::new()
    );

    let mut reading = layer.open("etc/hostname", 2.0, 1e9).unwrap();
    assert_eq!((reading.size(), reading.inflated()), (7.0, 0.0));
    while let Some(part) = reading.part().unwrap() {
        assert!(part.object.is_none());
        reading
            .push(&LAYER[part.start as usize..part.end as usize])
            .unwrap();
    }
    assert!(reading.inflated() > 0.0);
    assert_eq!(reading.finish().unwrap(), b"rata\n");
    assert!(memory_size() > 0.0);
}

#[wasm_bindgen_test]
fn numbers_that_are_not_counts_are_refused() {
    for (number, found) in [
        (-1.0, "-1"),
        (0.5, "0.5"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (9_007_199_254_740_992.0, "9007199254740992"),
    ] {
        let error = text(Pass::new(number).unwrap_err());
        assert_eq!(
            error,
            format!(
                "the size of a layer is {found}: a whole number from 0 to 9007199254740991 is wanted"
            )
        );
    }
    Pass::new(9_007_199_254_740_991.0).unwrap();
    assert!(
        text(layer().open("etc/hostname", 0.0, 1e300).unwrap_err())
            .starts_with("the end of a range is 1000")
    );
}

#[wasm_bindgen_test]
fn errors_of_the_inspector_name_the_problem() {
    let store = Function::new_no_args("");
    let mut pass = Pass::new(512.0).unwrap();
    let error = pass.push(&[b'x'; 512], &store).unwrap_err();
    assert!(text(error).starts_with("not a tar archive"));
    let layer = layer();
    assert_eq!(
        text(layer.open("etc/none", 0.0, 1.0).unwrap_err()),
        "no such file or directory: etc/none"
    );
    assert_eq!(
        text(layer.open("etc", 0.0, 1.0).unwrap_err()),
        "/etc is a directory and has no content"
    );
    let mut reading = layer.open("etc/hostname", 0.0, 7.0).unwrap();
    let error = text(reading.push(&[0; 100]).unwrap_err());
    assert!(
        error.ends_with("the layer has changed since it was indexed; open it again"),
        "{error}"
    );
}

#[wasm_bindgen_test]
fn stored_spans_are_written_and_read_back() {
    // One frame of zstd, raw blocks of 128 KiB, of an archive of 6 MiB.
    let size = 6 << 20;
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"file");
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend((0..size).map(|at: u32| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]));
    archive.extend([0; 1024]);
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let last = archive.chunks(128 << 10).count() - 1;
    for (at, block) in archive.chunks(128 << 10).enumerate() {
        let word = (u32::try_from(block.len()).unwrap() << 3) | u32::from(at == last);
        frame.extend(&word.to_le_bytes()[..3]);
        frame.extend(block);
    }
    let objects = Array::new();
    let store = Function::new_with_args("bytes", "this.push(bytes)").bind0(&objects);
    let mut pass = Pass::new(frame.len() as f64).unwrap();
    pass.push(&frame, &store).unwrap();
    let layer = pass.finish(&store).unwrap();
    assert!(objects.length() > 0);
    let from = 5 << 20;
    let mut reading = layer
        .open("file", f64::from(from), f64::from(from + 4))
        .unwrap();
    let part = reading.part().unwrap().unwrap();
    let object: Uint8Array = objects.get(part.object.unwrap()).into();
    reading
        .push(&object.subarray(part.start as u32, part.end as u32).to_vec())
        .unwrap();
    assert!(reading.part().unwrap().is_none());
    let at = 512 + from as usize;
    assert_eq!(reading.finish().unwrap(), &archive[at..at + 4]);
}

#[wasm_bindgen_test]
fn an_image_is_analysed() {
    let mut analyser = Analyser::new(1.0).unwrap();
    analyser.layer(&layer()).unwrap();
    analyser.end_layer().unwrap();
    let page = r#"{"entries":[{"path":"etc/.wh.hostname","type":"file","mode":0,"uid":0,"gid":0,"size":0,"modified":"0","offset":1}]}"#;
    analyser.page(page).unwrap();
    assert!(
        text(analyser.page("{}").unwrap_err())
            .starts_with("not a page of a table of contents: missing field `entries`")
    );
    analyser.end_layer().unwrap();
    let analysis = analyser.finish();
    let described = analysis.describe();
    assert_eq!(field(&described, &["wastedBytes"]), 7.0);
    assert_eq!(
        field(&described, &["offenders", "0", "path"]),
        "etc/hostname"
    );
    assert_eq!(field(&described, &["changes", "1", "removed"]), 1.0);
    assert_eq!(
        field(&analysis.children("etc/").unwrap(), &["0", "state"]),
        "removed"
    );
    assert_eq!(
        field(
            &analysis.layer_children(0, "etc/").unwrap(),
            &["0", "state"]
        ),
        "added"
    );
    assert_eq!(
        text(analysis.layer_children(2, "").unwrap_err()),
        "the image has no layer 2, counted from 0"
    );
    assert_eq!(field(&analysis.search("etc", 9), &["0", "path"]), "etc");
    assert!(analysis.memory() > 0);
}
