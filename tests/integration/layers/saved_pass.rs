//! Damaged states of saved passes: each is refused, or ends in an error or an index, and never in a
//! panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use strata::layer::pass::{Options, Pass};
use strata_support::layers::{Tar, gzip, noise, through};

fn options() -> Options {
    Options {
        span: 2_048,
        ..Options::default()
    }
}

/// The state at the first pause after so many bytes of a layer.
fn saved(layer: &[u8], after: usize) -> Vec<u8> {
    let mut pass = Pass::new(layer.len() as u64, options());
    for (number, piece) in layer.chunks(512).enumerate() {
        if number * 512 >= after {
            pass.pause();
        }
        pass.push(piece).unwrap();
        while pass.object().is_some() {}
        if pass.is_paused() {
            return pass.save();
        }
    }
    unreachable!("the pass does not pause");
}

/// Resumes from a state and runs to the end, if the state is accepted.
fn go_on(state: &[u8], layer: &[u8]) {
    let Some(mut pass) = Pass::load(state, layer.len() as u64, &options()) else {
        return;
    };
    let read = usize::try_from(pass.position().0).unwrap_or(usize::MAX);
    for piece in layer.get(read..).unwrap_or_default().chunks(4_096) {
        if pass.push(piece).is_err() {
            return;
        }
        while pass.object().is_some() {}
    }
    let _ = pass.finish();
    let _ = pass.object();
}

/// Every byte of a state set to other values, and extended to the largest number.
fn never_panics(layer: &[u8], after: usize) {
    let state = saved(layer, after);
    go_on(&state, layer);
    let mut failed = Vec::new();
    let mut attempt = |what: &str, at: usize, state: &[u8]| {
        let outcome = catch_unwind(AssertUnwindSafe(|| go_on(state, layer)));
        if outcome.is_err() {
            failed.push(format!("{what} at byte {at} of {}", state.len()));
        }
    };
    // After the limits, which must match, counters come first and last. Windows and blocks are
    // deflate, so a part of them is enough.
    let chosen =
        |at: &usize| (28..320).contains(at) || at.is_multiple_of(997) || at + 100 > state.len();
    for at in (0..state.len()).filter(chosen) {
        for byte in [0x7f, 0xff] {
            let mut changed = state.clone();
            changed[at] = byte;
            attempt("another byte", at, &changed);
        }
        let mut changed = state.clone();
        changed.splice(at..=at, [[0xff; 9].as_slice(), &[1]].concat());
        attempt("a long number", at, &changed);
        let mut changed = state.clone();
        let end = changed.len().min(at + 8);
        changed[at..end].fill(0xff);
        attempt("a wide number", at, &changed);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Files of so many bytes.
fn archive(size: usize) -> Vec<u8> {
    let files = 0..12;
    let tar = files.fold(Tar::default(), |tar, number| {
        tar.file(format!("dir/{number}"), noise(number, size))
    });
    tar.end()
}

#[test]
fn a_changed_saved_pass_over_a_plain_archive_never_panics() {
    never_panics(&archive(900), 5_000);
}

#[test]
fn a_changed_saved_pass_over_gzip_never_panics() {
    never_panics(&gzip(&archive(13_000)), 5_000);
}

#[test]
fn a_changed_saved_pass_over_gzip_members_never_panics() {
    let layer: Vec<u8> = archive(7_000).chunks(9_000).flat_map(gzip).collect();
    never_panics(&layer, 5_000);
}

#[test]
fn a_changed_saved_pass_over_one_zstd_frame_never_panics() {
    never_panics(&through("zstd -q", &archive(900)), 5_000);
}

#[test]
fn a_changed_saved_pass_over_zstd_frames_never_panics() {
    let frames = archive(900);
    let frames = frames
        .chunks(1_500)
        .flat_map(|part| through("zstd -q", part));
    never_panics(&frames.collect::<Vec<_>>(), 5_000);
}
