//! The media types of files, which browsers must not run.

use http::{HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{layer::json, registry::headers::value};

/// Describes a file by its name. Anybody may have made it, and the inspector has the same origin.
/// So no file has a type that a browser runs, styles with or opens as a document: pictures of [`PICTURES`] and plain text are
/// shown, and a browser saves the rest.
pub(in crate::registry) fn describe_file(headers: &mut http::HeaderMap, path: &[u8]) {
    let name = name_of(path);
    let media_type = media_type_of(&name);
    let disposition = if media_type != BYTES {
        "inline".to_owned()
    } else if name.len() > MAX_NAME {
        "attachment".to_owned()
    } else {
        format!(
            "attachment; filename*=UTF-8''{}",
            encode_name(name.as_bytes())
        )
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition));
}

/// The media type of a file by its name.
pub(super) fn media_type(path: &[u8]) -> &'static str {
    media_type_of(&name_of(path))
}

fn name_of(path: &[u8]) -> String {
    let path = json::lossy(path);
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn media_type_of(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let picture = PICTURES
        .iter()
        .find(|(known, _)| ending.eq_ignore_ascii_case(known));
    if let Some((_, media_type)) = picture {
        return media_type;
    }
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT {
        TEXT
    } else {
        BYTES
    }
}

/// Percent-encodes a name in a header (RFC 8187).
fn encode_name(bytes: &[u8]) -> String {
    percent_encode(bytes, NAME).to_string()
}

/// What stands for itself: what is unreserved in an address (RFC 3986, section 2.3).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The pictures that a browser shows, by the ending of the name. SVG is left out: opened by itself, it is a document with
/// scripts.
const PICTURES: [(&str, &str); 9] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("gif", "image/gif"),
    ("ico", "image/x-icon"),
    ("jfif", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
];

/// The media type of every text, whatever its language: no browser runs it.
const TEXT: &str = "text/plain; charset=utf-8";

/// The media type of all that is neither text nor a picture.
const BYTES: &str = "application/octet-stream";

/// The longest name that a header says: as long as any on Linux.
const MAX_NAME: usize = 255;
