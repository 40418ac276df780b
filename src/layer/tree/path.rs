//! Paths and their components.

use crate::layer::tree::error::{Error, MAX_COMPONENTS, MAX_PATH};

/// Checks the length of a path.
///
/// # Errors
///
/// [`Error::TooLong`] if it exceeds [`MAX_PATH`] or [`MAX_COMPONENTS`].
pub fn check_path<E>(path: &[u8]) -> Result<(), Error<E>> {
    let is_component = |part: &&[u8]| !matches!(*part, b"" | b".");
    let bytes = path.len();
    // Count components only as far as a valid path can go.
    let start = path.get(..=MAX_PATH).unwrap_or(path);
    let parts = start.split(|byte| *byte == b'/');
    let components = parts.filter(is_component).count();
    if bytes <= MAX_PATH && components <= MAX_COMPONENTS {
        return Ok(());
    }
    Err(Error::TooLong {
        start: path.get(..64).unwrap_or(path).to_vec(),
        bytes,
        components,
    })
}

/// A component of a path.
#[derive(Debug)]
pub(super) enum Component {
    Name(Vec<u8>),
    Parent,
    /// A slash at the end: the path before it must be a directory.
    Here,
}

/// The components of a path from any author.
pub(super) fn steps(path: &[u8]) -> Vec<Component> {
    let mut steps: Vec<_> = path
        .split(|byte| *byte == b'/')
        .filter_map(|component| match component {
            b"" | b"." => None,
            b".." => Some(Component::Parent),
            name => Some(Component::Name(name.to_vec())),
        })
        .collect();
    if matches!(path, b"." | [.., b'/'] | [.., b'/', b'.']) {
        steps.push(Component::Here);
    }
    steps
}

/// The path of the parent directory.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.and_then(|at| path.get(..at)).unwrap_or_default()
}

/// The last component of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The path of a name in a directory.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [&below(path), name].concat()
}

/// The common prefix of all paths in a directory.
pub(super) fn below(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => Vec::new(),
        path => [path, b"/"].concat(),
    }
}

/// The path of the whiteout for a path.
pub(super) fn whiteout(path: &[u8]) -> Vec<u8> {
    join(parent(path), &[WHITEOUT, name(path)].concat())
}

/// The prefix of the names of whiteouts.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The name of an opaque whiteout.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// The byte after the slash: appended to the path of a directory, it comes after all paths in it.
pub(super) const PAST: &[u8] = b"0";
