//! Prints the page of the settings: `cargo run --locked --example settings > docs/settings.md`.

fn main() {
    print!("{}", strata::settings::document());
}
