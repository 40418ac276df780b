//! Reading of layers: makes an index of a layer's bytes, and reads any part by it.
//!
//! A layer is a tar archive, usually compressed. These modules read it in a single pass with
//! bounded memory, and make an index: the table of contents, and checkpoints at which decompression
//! can resume. They know no HTTP and no store, and are useful without the registry:
//!
//! ```
//! use std::rc::Rc;
//! use strata::layer::{index::{IndexError, StoredIndex}, pass::{Options, Pass, PassError}};
//!
//! let layer = include_bytes!("../tests/data/layer.tar.gz");
//!
//! // Once, however large the layer is, in pieces of any size.
//! let mut pass = Pass::new(layer.len() as u64, Options::default());
//! for piece in layer.chunks(64) {
//!     pass.push(piece)?;
//! }
//! let bytes = pass.finish()?.expect("nobody had it pause");
//!
//! // From then on, a lookup in the table of contents …
//! let StoredIndex::Index(index) = StoredIndex::parse(&bytes)? else { unreachable!() };
//! let slice = |bytes: &[u8], range: std::ops::Range<u64>| {
//!     bytes[range.start as usize..range.end as usize].to_vec()
//! };
//! let read = async |block| {
//!     let bytes = slice(&bytes, index.range_of(block).unwrap());
//!     index.read_block(block, &bytes).map(Rc::from)
//! };
//! let found = pollster::block_on(index.seek::<IndexError>(b"etc/hostname", read))?.unwrap();
//! assert_eq!((found[0].path.as_slice(), found[0].mode), (b"etc/hostname".as_slice(), 0o644));
//!
//! // … and inflating the spans that a file is in, each only as far as the file goes.
//! let file = found[0].offset..found[0].offset + found[0].size;
//! let mut text: Vec<u8> = Vec::new();
//! for span in &index.spans[index.spans_of(&file)] {
//!     let window = span.window().map_or_else(Vec::new, |window| slice(&bytes, window));
//!     let end = file.end.min(span.output.end) - span.output.start;
//!     let out = span.inflate(&window, &slice(layer, span.input.clone()), end)?;
//!     text.extend(&out[file.start.saturating_sub(span.output.start) as usize..]);
//! }
//! assert_eq!(text, b"Strata\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`pass`] | the pass over a layer that makes its index |
//! | [`index`], [`span`] | the index, and reading a span of the layer by it |
//! | [`entry`] | the entries of an archive |
//! | [`indexed`] | a layer whose index is in memory: directories and files |
//! | [`tree`] | the file system of an image, whose layers lie over each other |
//! | [`analysis`] | the changes of each layer, total sizes and waste |
//! | [`json`] | entries in JSON |
//! | [`gzip`], [`zstd`], [`tar`] | why bytes are refused; their decoders are hidden |

pub mod analysis;
mod arena;
mod contents;
pub mod entry;
#[doc(hidden)]
pub mod file;
pub mod gzip;
pub mod index;
pub mod indexed;
pub mod json;
pub mod pass;
pub mod span;
pub mod tar;
pub mod tree;
mod wire;
pub mod zstd;
