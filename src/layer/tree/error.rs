//! Why a lookup fails.

use std::{error, fmt};

use crate::budget::Spent;

/// The reason why a lookup in the file system of an image fails. `E` is the error of its layers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error<E> {
    /// Nothing is at the path.
    NotFound {
        /// The requested path, as it was written.
        path: Vec<u8>,
    },
    /// A hard link had no file at its target when the link came.
    Dangling {
        /// The path of the link.
        path: Vec<u8>,
        /// The target of the link.
        target: Vec<u8>,
    },
    /// The path continues after a component that is not a directory.
    NotADirectory {
        /// The path of that component.
        path: Vec<u8>,
    },
    /// The path leads through more than 40 symbolic links, as on Linux (path_resolution(7)). Those
    /// to targets of hard links count too.
    Loop {
        /// The requested path, or that of the hard link.
        path: Vec<u8>,
    },
    /// The path leads through a symbolic link whose own layer has entries below it. Lookups can't
    /// find them.
    Through {
        /// The path of the link.
        path: Vec<u8>,
    },
    /// A path, or the target of a link, is longer than [`MAX_PATH`] or has more than
    /// [`MAX_COMPONENTS`].
    TooLong {
        /// The first bytes of the path.
        start: Vec<u8>,
        /// The length of the path, in bytes.
        bytes: usize,
        /// The number of components in the first [`MAX_PATH`] bytes.
        components: usize,
    },
    /// The lookup would exceed this limit of its request.
    Spent(Spent),
    /// A table of contents can't be read, for this reason.
    Layers(E),
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Layers(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { path } => write!(f, "no such file or directory: {}", shown(path)),
            Self::Dangling { path, target } => {
                let (path, target) = (shown(path), shown(target));
                write!(f, "no such file: {target}, which {path} is a hard link to")
            }
            Self::NotADirectory { path } => write!(f, "not a directory: {}", shown(path)),
            Self::Loop { path } => write!(f, "more than {LINKS} symbolic links: {}", shown(path)),
            Self::Through { path } => {
                write!(
                    f,
                    "a symbolic link with entries below it in its own layer: {}",
                    shown(path)
                )
            }
            Self::TooLong {
                start,
                bytes,
                components,
            } => write!(
                f,
                "path too long, with {bytes} bytes and {components} components of at most {MAX_PATH} bytes and {MAX_COMPONENTS} components: {}…",
                shown(start)
            ),
            Self::Spent(spent) => write!(
                f,
                "the lookup reaches {spent}, the limit of a request: request a path without links, or a file of one layer"
            ),
            Self::Layers(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error> error::Error for Error<E> {}

/// A path for messages.
fn shown(path: &[u8]) -> String {
    match path {
        b"" => "/".to_owned(),
        path => String::from_utf8_lossy(path).escape_debug().to_string(),
    }
}

/// The most symbolic links on a path, as on Linux (path_resolution(7)).
pub(super) const LINKS: usize = 40;
/// The most bytes in a path or the target of a link: `PATH_MAX` of Linux.
pub const MAX_PATH: usize = 4096;
/// The most components in a path or the target of a link.
pub const MAX_COMPONENTS: usize = 256;
