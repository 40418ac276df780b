//! The pass over a layer: the same index for any chunking and pauses; no damaged state panics.

use strata::layer::pass::{Options, Pass, PassError};

use crate::{
    input::{Input, pieces},
    layers::{self, Bounds, Wrap, wrap},
};

pub(crate) const WORDS: &[&[u8]] = &[b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80\x80\x01"];

const BOUNDS: Bounds = Bounds {
    archive: 60_000,
    repeats: 40,
    run: 2_000,
};

fn options(salt: u8) -> Options {
    Options {
        span: [512, 4_096, 65_536][usize::from(salt) % 3],
        window: 1 << 20,
        ..Options::default()
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // The input of each mode: how the layer is compressed, cut and paused, changes of the state,
    // and the archive.
    let mut seeds = Vec::new();
    for mode in 0..3 {
        for wrap in 0..5 {
            for program in layers::programs() {
                let changes = [mode, wrap, 3, 9, 2, 77, 0, 255, 0, 60, 0, 1, 0];
                seeds.push([changes.as_slice(), &program].concat());
            }
        }
    }
    // One byte at the beginning of a saved state is 255, or the largest number.
    let program = layers::programs().remove(0);
    for (wrap, is_number) in [(0, 0), (3, 1)] {
        for at in 0..96_u16 {
            let [low, high] = (at * 4).to_le_bytes();
            let damage = [1, wrap, 0, 0, 1, low, high, 255, is_number];
            seeds.push([damage.as_slice(), &program].concat());
        }
    }
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.below(3);
    let wrapped = input.pick(&Wrap::ALL);
    let salt = input.byte();
    let pauses = input.byte();
    let changes: Vec<_> = (0..input.below(6)).map(|_| (input.word(), input.byte(), input.bool())).collect();
    if mode == 2 {
        return damaged(input.rest(), salt);
    }
    let archive = layers::archive(&mut input, BOUNDS);
    let layer = wrap(wrapped, &archive);
    let options = options(salt);
    let size = layer.len() as u64;

    let mut pass = Pass::new(size, options.clone());
    let mut objects = Vec::new();
    let whole = layer
        .chunks(1_024)
        .try_for_each(|piece| {
            pass.push(piece)?;
            objects.extend(std::iter::from_fn(|| pass.object()));
            Ok(())
        })
        .and_then(|()| pass.finish());
    objects.extend(std::iter::from_fn(|| pass.object()));
    if mode == 0 {
        let (paused, others) = paused(&layer, &options, salt, pauses);
        assert_eq!(paused, whole, "paused, and at once");
        if whole.is_ok() {
            assert_eq!(objects, others, "objects of a pass that paused, and of one that did not");
        }
        return;
    }

    // The saved state of the first pause, damaged.
    let mut pass = Pass::new(size, options.clone());
    pass.pause();
    for piece in layer.chunks(1_024) {
        if pass.push(piece).is_err() {
            return;
        }
        while pass.object().is_some() {}
        if pass.is_paused() {
            break;
        }
    }
    if !pass.is_paused() {
        return;
    }
    let mut state = pass.save();
    for (at, byte, is_number) in changes {
        // Counters come first and last.
        let at = match at % 4 {
            0 => at / 4 % state.len(),
            1 => state.len() - 1 - at / 4 % state.len().min(160),
            _ => at / 4 % state.len().min(320),
        };
        if is_number {
            // The largest number.
            state.splice(at..=at, [[0xff; 9].as_slice(), &[1]].concat());
        } else {
            state[at] = byte;
        }
    }
    go_on(&state, &layer, &options);
}

/// The index or the reason why there is none, and the objects beside it.
type Passed = (Result<Option<Vec<u8>>, PassError>, Vec<(u32, Vec<u8>)>);

/// Runs a pass that pauses, is saved, and resumes from the saved state.
fn paused(
    layer: &[u8],
    options: &Options,
    salt: u8,
    pauses: u8,
) -> Passed {
    let size = layer.len() as u64;
    let mut pass = Pass::new(size, options.clone());
    let mut objects = Vec::new();
    let mut turns = 0_u32;
    loop {
        // Each saved state resumes where it stopped; some pauses are left out.
        turns += 1;
        let mut wait = pauses.rotate_left(turns) % 16;
        let mut from = pass.position().0 as usize;
        if from > layer.len() {
            panic!("a pass at byte {from} of {}", layer.len());
        }
        let rest = &layer[from..];
        for piece in pieces(rest, salt.wrapping_add(turns as u8)) {
            for part in piece.chunks(1_024) {
                if wait == 0 && turns < 60 {
                    pass.pause();
                }
                wait = wait.wrapping_sub(1);
                if let Err(error) = pass.push(part) {
                    return (Err(error), objects);
                }
                objects.extend(std::iter::from_fn(|| pass.object()));
                if pass.is_paused() {
                    break;
                }
            }
            if pass.is_paused() {
                break;
            }
        }
        if !pass.is_paused() {
            match pass.finish() {
                Ok(None) => {}
                other => {
                    objects.extend(std::iter::from_fn(|| pass.object()));
                    return (other, objects);
                }
            }
        }
        objects.extend(std::iter::from_fn(|| pass.object()));
        let state = pass.save();
        pass = Pass::load(&state, size, options).expect("a saved pass can be loaded");
        from = pass.position().0 as usize;
        assert!(from <= layer.len(), "a loaded pass at byte {from} of {}", layer.len());
    }
}

/// A saved state of arbitrary bytes, after the prefix of every saved state.
fn damaged(bytes: &[u8], salt: u8) {
    let options = options(salt);
    let layer = layers::gzip(&[7; 5_000], 1);
    let state = Pass::new(layer.len() as u64, options.clone()).save();
    // The kind of the source, and the bytes after it.
    let head = &state[..state.len().min(28)];
    let at = head.len() - usize::from(salt % 16);
    go_on(&[&head[..at], bytes].concat(), &layer, &options);
}

fn go_on(state: &[u8], layer: &[u8], options: &Options) {
    let Some(mut pass) = Pass::load(state, layer.len() as u64, options) else {
        return;
    };
    let (read, _) = pass.position();
    assert!(read <= layer.len() as u64, "a loaded pass at byte {read} of {}", layer.len());
    let rest = layer.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
    for piece in rest.chunks(1_024) {
        if pass.push(piece).is_err() {
            return;
        }
        while pass.object().is_some() {}
    }
    let _ = pass.finish();
    let _ = pass.object();
    let mut again = Pass::load(state, layer.len() as u64, options).unwrap();
    let _ = Pass::load(&again.save(), layer.len() as u64, options);
}
