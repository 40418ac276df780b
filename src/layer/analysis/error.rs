//! Why an image can't be analysed, or a question can't be answered.

use std::{error, fmt};

use crate::layer::json;

/// Why an image can't be analysed, or a question can't be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnalysisError {
    /// Its layers have more than this many rows.
    Rows(u32),
    /// Its paths have more bytes than this.
    Names(usize),
    /// The image has more layers than this.
    Layers(u16),
    /// There is no such directory.
    Directory(Vec<u8>),
    /// There is no such layer.
    Layer(usize),
}

impl fmt::Display for AnalysisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(limit) => {
                write!(f, "an image of more than {limit} entries can't be analysed")
            }
            Self::Names(limit) => {
                write!(
                    f,
                    "an image whose paths take more than {limit} bytes can't be analysed"
                )
            }
            Self::Layers(limit) => {
                write!(f, "an image of more than {limit} layers can't be analysed")
            }
            Self::Directory(path) => write!(
                f,
                "no such directory: /{}",
                json::lossy(path).escape_debug()
            ),
            Self::Layer(layer) => write!(f, "the image has no layer {layer}, counted from 0"),
        }
    }
}

impl error::Error for AnalysisError {}
