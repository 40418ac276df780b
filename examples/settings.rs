//! Prints the page of the settings: `cargo run --example settings > docs/settings.md`.

fn main() {
    print!("{}", strata::settings::document());
}
