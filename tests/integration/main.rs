//! Tests of the core's public interface, as one program: a module for each subject.

#![expect(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "an unexpected value must fail the test"
)]

mod access;
mod api;
mod attacks;
mod audience;
mod browsers;
mod faults;
mod files;
mod guessing;
mod hints;
mod isolate;
mod layers;
mod lookup;
mod memory;
mod mirror;
mod oracle;
mod process;
mod properties;
mod protocol;
mod races;
mod readiness;
mod refused_bodies;
mod rights;
mod rules;
mod scrub;
mod settings_secrets;
mod short_pages;
mod stale_links;
mod sweep;
mod tiers;
mod types;
mod upstream_tokens;
