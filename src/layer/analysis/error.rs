//! Why an image can't be analysed, or a question can't be answered.

use std::{error, fmt};

use crate::layer::json;

/// The reason why an image can't be analysed, or a question can't be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AnalysisError {
    /// The layers have more entries than this.
    Rows(u32),
    /// The names and links of the image have more bytes than this.
    Names(usize),
    /// The image has more layers than this.
    Layers(u16),
    /// No layer has a path like this one.
    Directory(Vec<u8>),
    /// The image has no layer of this number, counted from 0.
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
