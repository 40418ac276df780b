//! Settings: no text panics, and no error repeats a secret.

use strata::{retention::Policies, settings::Settings};

use crate::input::Input;

/// A marker that occurs in secrets only, so no message may contain it.
const SECRET: &str = "hunter2XYZ";

const NAMES: [&str; 22] = [
    "STRATA_USERS",
    "STRATA_UPSTREAM_CREDENTIALS",
    "STRATA_RULES",
    "STRATA_UPSTREAMS",
    "STRATA_RETENTION",
    "STRATA_ORIGIN",
    "STRATA_ANONYMOUS_PULL",
    "STRATA_SUBREQUESTS",
    "STRATA_GRACE_HOURS",
    "STRATA_GRACE_SECONDS",
    "STRATA_SCRUB_DAYS",
    "STRATA_LOG",
    "STRATA_UPLOADS",
    "STRATA_SPAN_BYTES",
    "STRATA_INDEX_ENTRIES",
    "STRATA_INFLATED_BYTES",
    "STRATA_HOT_BYTES",
    "STRATA_WARM_SECONDS",
    "STRATA_WARM_READS",
    "STRATA_STALE_SECONDS",
    "STRATA_ABSENT_SECONDS",
    "STRATA_WARM_COMPRESSION",
];

pub(crate) const WORDS: &[&[u8]] = &[
    b"hunter2XYZ",
    b"pbkdf2-sha256$100000$",
    b"\"secret\":",
    b"\"groups\":[",
    b"\"repositories\":[\"**\"]",
    b"\"who\":[\"everyone\"]",
    b"\"may\":[\"pull\"]",
    b"\"name\":",
    b"\"address\":\"https://",
    b"\"keep_newest\":1",
    b"\"untagged_days\":7",
    b"\n",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "\x00{\"users\":{\"ann\":\"pbkdf2-sha256$100000$c2FsdHNhbHQ$aHVudGVyMlhZWmh1bnRlcjJYWVpodW50ZXIyWFk\",\"bob\":{\"secret\":\"hunter2XYZ\",\"groups\":[\"team\"]}}}",
        "\x00{\"users\":\"hunter2XYZ\"}",
        "\x00{\"users\":{\"bob\":{\"secret\":[\"hunter2XYZ\"]}}}",
        "\x01{\"docker.io\":\"hunter2XYZ\"}",
        "\x01{\"docker.io\":{\"user\":\"me\",\"password\":\"hunter2XYZ\"}}\n\x03[{\"name\":\"docker.io\",\"library\":true,\"default\":true,\"redirects\":[\"*.example\"]}]",
        "\x02[{\"repositories\":[\"team/**\"],\"who\":[\"group:team\"],\"may\":[\"pull\",\"push\"]}]",
        "\x04[{\"repositories\":[\"**\"],\"keep_newest\":3,\"keep_tags\":[\"v*\"],\"untagged_days\":7,\"immutable_tags\":[\"v*\"]}]",
        "\x05https://registry.example.com/",
        "\x07100\n\x0812\n\x0c9",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub(crate) fn run(bytes: &[u8]) {
    let text = Input(bytes).text();
    let lines: Vec<_> = text
        .split('\n')
        .filter_map(|line| {
            let name = line.chars().next()?;
            let value = &line[name.len_utf8()..];
            Some((NAMES[name as usize % NAMES.len()], value))
        })
        .collect();
    let get = |name: &str| {
        let found = lines.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    // The marker may be quoted if it also occurs in a setting that is no secret.
    let is_secret = lines.iter().all(|(name, value)| {
        matches!(*name, "STRATA_USERS" | "STRATA_UPSTREAM_CREDENTIALS") || !value.contains(SECRET)
    });
    match Settings::parse(get) {
        Ok(settings) => {
            let shown = format!("{settings:?}");
            assert!(!is_secret || !shown.contains(SECRET), "a secret is shown");
            let origin = settings.origin.unwrap_or_default();
            assert!(!origin.contains(['"', '\\', '@']) && !origin.ends_with('/'));
        }
        Err(error) => {
            let said = format!("{error}: {}", error.problem());
            // The name of a user or of an upstream is no secret.
            let is_name = lines.iter().any(|(_, value)| value.contains("hunter2XYZ\":"));
            assert!(!is_secret || is_name || !said.contains(SECRET), "a secret is said: {said}");
        }
    }
    let _ = Policies::parse(&text);
}
