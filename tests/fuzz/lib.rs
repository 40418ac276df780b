//! Fuzz targets for the core.
//!
//! A target is a function of bytes that panics if a promise is broken. `cargo test` runs each
//! target over its seeds: inputs that the target generates, and regressions in `seeds/`.
//! `npm run fuzz` runs it under libFuzzer.

#![cfg(not(target_arch = "wasm32"))]
#![expect(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what is not as expected fails the target"
)]

use std::{fs, path::Path};

use cap::Cap;
use peak_alloc::PeakAlloc;
use strata_support::layers as programs;

mod bounds;
mod filesystem;
mod input;
mod layers;

/// Counts the peak memory of the process, and the total of its allocations.
#[global_allocator]
static MEMORY: Cap<PeakAlloc> = Cap::new(PeakAlloc, usize::MAX);

/// The most bytes of memory that one input may take: the memory of an isolate.
pub const MOST_MEMORY: usize = 128 << 20;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its file in `targets/`.
    pub name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    /// Words that libFuzzer may put into inputs.
    pub words: &'static [&'static [u8]],
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        mod targets {
            $(pub(crate) mod $name;)*
        }

        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: targets::$name::run,
            seeds: targets::$name::seeds,
            words: targets::$name::WORDS,
        }),*];

        #[cfg(test)]
        mod tests {
            $(#[test]
            fn $name() {
                super::run_seeds(stringify!($name));
            })*
        }
    };
}

targets! {
    amplify_layer,
    amplify_lookup,
    amplify_manifest,
    challenge,
    gzip,
    index,
    key,
    manifest,
    pass,
    range,
    route,
    settings,
    tar,
    token,
    tree,
    zstd,
}

impl Target {
    /// The target of a name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().copied().find(|target| target.name == name)
    }

    /// Runs the target on one input, and panics if that takes more than [`MOST_MEMORY`].
    pub fn run(&self, bytes: &[u8]) {
        let ((), Cost { peak, .. }) = cost_of(|| (self.run)(bytes));
        assert!(
            peak <= MOST_MEMORY,
            "{peak} bytes of memory for an input of {} bytes",
            bytes.len()
        );
    }

    /// The seeds: inputs that the target generates, then the regressions in `seeds/`.
    pub fn seeds(&self) -> Vec<(String, Vec<u8>)> {
        let made = (self.seeds)().into_iter().enumerate();
        let mut seeds: Vec<_> = made
            .map(|(number, bytes)| (format!("made-{number}"), bytes))
            .collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name);
        for file in fs::read_dir(folder).into_iter().flatten() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            seeds.push((name, fs::read(path).unwrap()));
        }
        seeds
    }
}

/// The cost of a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Peak memory in bytes, above the memory held before.
    pub(crate) peak: usize,
    /// Total allocated bytes: each copy, compression or rebuild counts.
    pub(crate) work: usize,
}

/// Runs a function, and returns its result and its cost.
pub(crate) fn cost_of<T>(f: impl FnOnce() -> T) -> (T, Cost) {
    let (before, begun) = (PeakAlloc.current_usage(), MEMORY.total_allocated());
    PeakAlloc.reset_peak_usage();
    let made = f();
    let cost = Cost {
        peak: PeakAlloc.peak_usage().saturating_sub(before),
        work: MEMORY.total_allocated() - begun,
    };
    (made, cost)
}

#[cfg(test)]
fn run_seeds(name: &str) {
    use std::sync::{Mutex, PoisonError};

    /// Memory is counted for the whole process: one target at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    let target = Target::named(name).unwrap();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = target.seeds();
    assert!(!seeds.is_empty());
    for (seed, bytes) in seeds {
        let ran = std::panic::catch_unwind(|| target.run(&bytes));
        assert!(ran.is_ok(), "seed {seed} of target {name} fails");
    }
}

/// Prints the cost of an input of so many bytes, if the environment asks for it.
pub(crate) fn report(what: &str, input: usize, cost: Cost) {
    if std::env::var_os("STRATA_FUZZ_REPORT").is_some() {
        eprintln!("{what} of {input} bytes: {cost:?}");
    }
}
