//! Layers: archives, compression, indices, and passes over them.

mod gzip;
mod index;
mod reads;
mod saved_pass;
mod tar;
mod zstd;
