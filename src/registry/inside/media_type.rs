//! The media types of files, which browsers must not run.

use crate::layer::json;

/// The media type of a file by its name. Any client may have pushed it, and the inspector has the
/// same origin. So no file has a type that a browser runs, styles with or opens as a document:
/// browsers show the pictures of [`PICTURES`] and plain text, and save the rest.
pub(in crate::registry) fn media_type(path: &[u8]) -> &'static str {
    let name = file_name(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let picture = PICTURES
        .iter()
        .find(|(known, _)| ending.eq_ignore_ascii_case(known));
    if let Some((_, media_type)) = picture {
        return media_type;
    }
    let guess = mime_guess::from_path(&name).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT {
        TEXT
    } else {
        BYTES
    }
}

/// The name of a file, without its directories.
pub(in crate::registry) fn file_name(path: &[u8]) -> String {
    let path = json::lossy(path);
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The pictures that a browser shows, by the ending of the name.
/// SVG is left out: opened by itself, it is a document with scripts.
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

/// The media type of every other file.
pub(in crate::registry) const BYTES: &str = "application/octet-stream";
