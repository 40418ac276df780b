//! Inside layers: bytes of a layer in, and what it takes to read parts of it again.
//!
//! A layer is a tar archive, usually compressed. These modules read one in a single pass and bounded memory, and leave
//! an index behind: the table of contents, and checkpoints from which inflating can begin anew. They know no HTTP and no store.

mod contents;
pub mod entry;
pub mod gzip;
pub mod index;
pub mod pass;
pub mod span;
pub mod tar;
pub mod tree;
mod wire;
pub mod zstd;
