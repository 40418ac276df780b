//! Amplification: parsing a manifest takes bounded memory for each of its bytes.

use strata::manifest::Manifest;

use crate::{bounds::MANIFEST_MEMORY, cost_of, input::Input};

/// The parts of generated documents.
const PARTS: [&str; 24] = [
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"",
    "{\"schemaVersion\":2,\"mediaType\":\"a/b\"",
    ",\"annotations\":{",
    ",\"layers\":[",
    ",\"manifests\":[",
    ",\"config\":",
    ",\"x\":",
    "{\"mediaType\":\"\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0}",
    "\"a\":\"\"",
    "\"a\":",
    "\"\\u0000\":0",
    ",",
    "0",
    "[]",
    "{}",
    "[",
    "]",
    "{",
    "}",
    "\"\"",
    "[],",
    "{},",
    "0,",
    "\"b\":{\"a\":[",
];

pub(crate) const WORDS: &[&[u8]] = &[];

/// The longest generated document, in bytes.
const MOST: usize = 1 << 20;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        // An image of many layers: a list, one descriptor, and it again.
        vec![0, 5, 7, 3, 7, 11, 7, 30, 1, 100, 0, 16, 18],
        // Annotations, each with a number of its own.
        vec![1, 2, 8, 11, 8, 31, 1, 232, 3, 18, 18],
        // An annotation that is a list.
        vec![1, 2, 9, 15, 22, 30, 0, 232, 3, 12, 16, 18, 18],
    ]
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let (mut length, mut number) = (0, 0);
    while !input.is_empty() && length < MOST {
        let part = match usize::from(input.byte()) % 32 {
            part @ 0..24 => PARTS[part].as_bytes().to_vec(),
            24..30 => {
                let taken = input.below(12);
                input.take(taken).to_vec()
            }
            // The last parts again and again, with other numbers in the place of `a` if it is 31.
            repeat => {
                let last = parts.len().saturating_sub(input.below(8) + 1);
                let last = parts[last..].concat();
                let mut all = Vec::new();
                for _ in 0..input.word() {
                    if length + all.len() > MOST {
                        break;
                    }
                    number += 1;
                    let name = format!("{number:x}");
                    if repeat == 31 {
                        all.extend(last.iter().flat_map(|byte| match byte {
                            b'a' => name.as_bytes().to_vec(),
                            byte => vec![*byte],
                        }));
                    } else {
                        all.extend(&last);
                    }
                }
                all
            }
        };
        length += part.len();
        parts.push(part);
    }
    let document = parts.concat();
    drop(parts);
    let (parsed, cost) = cost_of(|| Manifest::parse(None, &document).map(drop));
    crate::report("manifest", document.len(), cost);
    let peak = cost.peak;
    let most = MANIFEST_MEMORY.of(document.len());
    assert!(
        peak <= most,
        "parsing a manifest of {} bytes took {peak} bytes of memory, more than {most}: {parsed:?}",
        document.len()
    );
}
