//! The table of settings as Markdown.

use crate::settings::{setting::SettingRow, table};

/// Formats the table of settings as Markdown: the text of `docs/settings.md`.
pub fn document() -> String {
    let sections = table::groups().into_iter().map(|group| {
        let rows: String = group.rows.iter().map(line).collect();
        format!(
            "\n## {}\n\n{}\n\n| name | default | allowed | meaning |\n|---|---|---|---|\n{rows}",
            group.title, group.about
        )
    });
    HEAD.to_owned() + &sections.collect::<String>()
}

const HEAD: &str = "# Settings

This page is generated from the table in `src/settings/table.rs`.
Change a setting there, then run `cargo run --locked --example settings > docs/settings.md`.

Settings are variables of the Worker: set them under `[vars]` in `wrangler.toml`, and secrets by `npx wrangler secret put NAME`.
A list is written as JSON, or as tables such as `[[vars.STRATA_RULES]]`.
A blank setting counts as not set.
If a value is invalid, every request is answered with 503 and the name of the setting; the log has the reason and the allowed values.
";

fn line(row: &SettingRow) -> String {
    let (name, meaning) = (row.name, row.meaning);
    let [default, allowed] = [&row.default, &row.allowed].map(|text| match name {
        name if name.ends_with("_BYTES") => with_sizes(text),
        _ => text.clone(),
    });
    let secret = if row.is_secret { "a secret: " } else { "" };
    format!("| `{name}` | {default} | {secret}{allowed} | {meaning} |\n")
}

/// Repeats each number of bytes in the largest unit in which it is whole.
fn with_sizes(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bytes: u64 = word.parse().unwrap_or_default();
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |(bits, _): &(u32, _)| bytes > 0 && bytes.trailing_zeros() >= *bits;
        match units.into_iter().find(whole) {
            Some((bits, unit)) => format!("{word} ({} {unit})", bytes >> bits),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_page_in_docs_is_up_to_date() {
        let page = include_str!("../../docs/settings.md");
        assert!(
            page == document(),
            "docs/settings.md differs from the table of settings: \
             run `cargo run --locked --example settings > docs/settings.md`"
        );
    }

    #[test]
    fn settings_named_in_documents_exist() {
        let documents = [
            ("README.md", include_str!("../../README.md")),
            ("wrangler.toml", include_str!("../../wrangler.toml")),
            ("docs/access.md", include_str!("../../docs/access.md")),
            ("docs/limits.md", include_str!("../../docs/limits.md")),
            ("docs/threats.md", include_str!("../../docs/threats.md")),
            ("docs/incidents.md", include_str!("../../docs/incidents.md")),
            ("docs/operating.md", include_str!("../../docs/operating.md")),
            ("docs/tiers.md", include_str!("../../docs/tiers.md")),
            ("docs/layers.md", include_str!("../../docs/layers.md")),
            ("docs/mirror.md", include_str!("../../docs/mirror.md")),
            ("docs/sweep.md", include_str!("../../docs/sweep.md")),
        ];
        let rows: Vec<_> = table::groups().into_iter().flat_map(|g| g.rows).collect();
        let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
        for (document, text) in documents {
            let words = text.split(|c: char| !is_part(c));
            let mut named = words.filter(|word| word.starts_with("STRATA_")).peekable();
            assert!(named.peek().is_some(), "{document} names no setting");
            for name in named {
                let is_known = rows.iter().any(|row| row.name == name);
                assert!(is_known, "{document} names {name}, which is no setting");
            }
        }
    }

    #[test]
    fn sizes_are_repeated_in_larger_units() {
        let sizes = [
            ("0", "0"),
            ("65536", "65536 (64 KiB)"),
            ("1572864", "1572864 (1536 KiB)"),
            ("68719476736", "68719476736 (64 GiB)"),
            ("from 0 to 100663296", "from 0 to 100663296 (96 MiB)"),
        ];
        for (text, shown) in sizes {
            assert_eq!(with_sizes(text), shown);
        }
    }
}
