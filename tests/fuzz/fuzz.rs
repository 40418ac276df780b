//! The program of `npm run fuzz`: one target under libFuzzer, named by `STRATA_FUZZ_TARGET`.
#![cfg_attr(libfuzzer, no_main)]
#![cfg_attr(
    libfuzzer,
    expect(clippy::expect_used, reason = "scripts/fuzz.mjs sets the variables")
)]

/// Writes the seeds of a target into a folder, and its words into a libFuzzer dictionary beside the
/// folder.
#[cfg(libfuzzer)]
fn write_seeds(target: strata_fuzz::Target, folder: &str) -> std::io::Result<()> {
    use std::{fmt::Write as _, fs, path::Path};

    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    for (name, bytes) in target.seeds() {
        fs::write(folder.join(name), bytes)?;
    }
    let mut dictionary = String::new();
    for word in target.words {
        let bytes = word.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        });
        dictionary += &format!("\"{bytes}\"\n");
    }
    fs::write(folder.with_extension("dict"), dictionary)
}

#[cfg(libfuzzer)]
static TARGET: std::sync::OnceLock<strata_fuzz::Target> = std::sync::OnceLock::new();

#[cfg(libfuzzer)]
libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("STRATA_FUZZ_TARGET").expect("STRATA_FUZZ_TARGET names a target");
        let target = strata_fuzz::Target::named(&name).expect("STRATA_FUZZ_TARGET names a target");
        if let Ok(folder) = std::env::var("STRATA_FUZZ_SEEDS") {
            write_seeds(target, &folder).expect("seeds can be written");
            std::process::exit(0);
        }
        TARGET.set(target).expect("it is set once");
    },
    |bytes: &[u8]| {
        TARGET.get().expect("it was set").run(bytes);
    }
);

#[cfg(not(libfuzzer))]
fn main() {
    for target in strata_fuzz::TARGETS {
        println!("{}", target.name);
    }
    eprintln!("npm run fuzz builds this program with libFuzzer, and runs a target");
}
