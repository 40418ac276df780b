//! Lookups of files in layers and images: what a request may cost.

mod budget;
mod images;
mod memory;
