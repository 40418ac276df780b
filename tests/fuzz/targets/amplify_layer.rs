//! Amplification: a pass takes memory and work in proportion to a layer and its archive.

use strata::layer::pass::{Options, Pass, PassError};

use crate::{
    bounds::{LAYER_MEMORY, LAYER_WORK},
    cost_of,
    input::Input,
    layers::{self, Bounds, Wrap, wrap},
};

pub(crate) const WORDS: &[&[u8]] = &[b"\xff\xff", b"\x0a\x01\xff\x1f\x01"];

const BOUNDS: Bounds = Bounds {
    archive: 32 << 20,
    repeats: 8_191,
    run: 1 << 20,
};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for wrap in 0..5 {
        for program in layers::programs() {
            seeds.push([&[wrap], program.as_slice()].concat());
        }
    }
    // Thousands of files with names of their own, and one path again and again.
    seeds.push(vec![1, 0, 40, 0, 1, 9, 0, 10, 0, 255, 15, 1]);
    seeds.push(vec![1, 0, 40, 0, 1, 9, 0, 10, 0, 255, 15, 0]);
    seeds
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let wrapped = input.pick(&Wrap::ALL);
    let archive = layers::archive(&mut input, BOUNDS);
    let layer = wrap(wrapped, &archive);
    let (size, length) = (layer.len(), archive.len());

    let (indexed, cost) = cost_of(|| {
        let mut pass = Pass::new(size as u64, Options::default());
        for piece in layer.chunks(64 << 10) {
            for part in piece.chunks(1_024) {
                pass.push(part)?;
                while pass.object().is_some() {}
            }
        }
        pass.finish().map(|index| index.map_or(0, |index| index.len()))
    });
    crate::report("layer", size, cost);
    let most = LAYER_MEMORY.of(size);
    let (peak, work) = (cost.peak, cost.work);
    assert!(
        peak <= most,
        "a pass over a layer of {size} bytes took {peak} bytes of memory, more than {most}: {indexed:?}"
    );
    // One block of deflate may inflate to more than a span has.
    let is_corrupt = match &indexed {
        Err(PassError::Gzip(error)) => !error.is_limit(),
        Err(PassError::Zstd(_)) => true,
        _ => false,
    };
    assert!(!is_corrupt, "a layer that was just compressed: {indexed:?}");

    let most = LAYER_WORK.of(length);
    assert!(
        work <= most,
        "a pass over an archive of {length} bytes allocated {work} bytes, more than {most}: {indexed:?}"
    );
}
