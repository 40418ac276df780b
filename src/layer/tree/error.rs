//! Why a path leads nowhere.

use std::{error, fmt};

use crate::budget::Spent;

/// Why a path leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error<E> {
    /// There is nothing at the path.
    NotFound {
        /// The path that was asked for.
        path: Vec<u8>,
    },
    /// There is a hard link, but there was no file at what it links to when it came.
    Dangling {
        /// Where the link is.
        path: Vec<u8>,
        /// What it links to.
        target: Vec<u8>,
    },
    /// The path goes on after what is not a directory.
    NotADirectory {
        /// Where that is.
        path: Vec<u8>,
    },
    /// More than 40 symbolic links are on the way, those on the way to the target of a hard link included.
    Loop {
        /// The path that was asked for.
        path: Vec<u8>,
    },
    /// The path goes through a symbolic link below which its own layer has entries, so that it is not known what is there.
    Through {
        /// Where the link is.
        path: Vec<u8>,
    },
    /// A path, or the target of a link, is longer than [`MAX_PATH`] or has more than
    /// [`MAX_COMPONENTS`].
    TooLong {
        /// The start of the path.
        start: Vec<u8>,
        /// The length in bytes.
        bytes: usize,
        /// The number of components in the first [`MAX_PATH`] bytes.
        components: usize,
    },
    /// The lookup would exceed the budget of its request.
    Spent(Spent),
    /// A table of contents can't be read.
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
                "the lookup needs {spent}, the limit of one request: ask for a path without links, or look into the layers one by one"
            ),
            Self::Layers(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error> error::Error for Error<E> {}

/// A path in an error.
fn shown(path: &[u8]) -> String {
    match path {
        b"" => "/".to_owned(),
        path => String::from_utf8_lossy(path).escape_debug().to_string(),
    }
}

/// How many symbolic links are followed, as on Linux (path_resolution(7)).
pub(super) const LINKS: usize = 40;
/// The most bytes of a path or of the target of a link: `PATH_MAX` of Linux.
pub const MAX_PATH: usize = 4096;
/// The most components of a path or of the target of a link.
pub const MAX_COMPONENTS: usize = 256;
