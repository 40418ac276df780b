//! The answers of an analysis.

use std::cmp::Ordering;

use crate::layer::analysis::{
    error::AnalysisError,
    image::Image,
    listing::{LayerChanges, ListedPath, Match},
    row::{NONE, ROOT},
};

/// An image that was analysed. Layers are numbered from 0, the lowest first.
#[derive(Debug)]
pub struct Analysis(pub(super) Image);

impl Analysis {
    /// The number of entries in all layers, whiteouts included.
    pub const fn entries(&self) -> u64 {
        self.0.entries
    }

    /// The changes of each layer, the lowest first.
    pub fn changes(&self) -> &[LayerChanges] {
        &self.0.layers
    }

    /// The memory of the analysis, in bytes.
    pub fn memory(&self) -> usize {
        let Image {
            nodes,
            rows,
            totals,
            text,
            table,
            ..
        } = &self.0;
        nodes.memory() + rows.memory() + totals.memory() + text.capacity() + table.allocation_size()
    }

    /// The children of a directory of the image in the order of names, with removed ones. The path
    /// need not begin with a slash, and is empty for the root.
    ///
    /// # Errors
    ///
    /// [`AnalysisError::Directory`] if no layer has such a path.
    pub fn children(&self, directory: &[u8]) -> Result<Vec<ListedPath>, AnalysisError> {
        self.list(directory, |image, number| Some(image.merged(number)))
    }

    /// The children that a layer has or removes in a directory, in the order of names.
    ///
    /// # Errors
    ///
    /// - [`AnalysisError::Layer`] if there is no such layer.
    /// - [`AnalysisError::Directory`] if no layer has such a path.
    pub fn layer_children(
        &self,
        layer: usize,
        directory: &[u8],
    ) -> Result<Vec<ListedPath>, AnalysisError> {
        let number = u16::try_from(layer)
            .ok()
            .filter(|_| layer < self.0.layers.len());
        let number = number.ok_or(AnalysisError::Layer(layer))?;
        self.list(directory, |image, node| image.said(node, number))
    }

    fn list(
        &self,
        directory: &[u8],
        describe: impl Fn(&Image, u32) -> Option<ListedPath>,
    ) -> Result<Vec<ListedPath>, AnalysisError> {
        let image = &self.0;
        let mut node = ROOT;
        for name in directory
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            let child = image.child(node, name);
            node = child.ok_or_else(|| AnalysisError::Directory(directory.to_vec()))?;
        }
        let mut numbers = Vec::new();
        let mut child = image.nodes.at(node).child;
        while child != NONE {
            numbers.push(child);
            child = image.nodes.at(child).sibling;
        }
        let name = |number| image.read(image.nodes.at(number).name);
        sort(&mut numbers, &|one, other| name(one).cmp(name(other)));
        let children = numbers
            .into_iter()
            .filter_map(|number| describe(image, number));
        Ok(children.collect())
    }

    /// Searches names for a text, or whole paths if the text has a slash, and returns up to `limit`
    /// matches. It ignores the case of ASCII letters. An empty text matches nothing.
    pub fn search(&self, text: &[u8], limit: usize) -> Vec<Match> {
        let image = &self.0;
        let text = text.to_ascii_lowercase();
        if text.is_empty() {
            return Vec::new();
        }
        let is_path = text.contains(&b'/');
        let has = |found: &[u8]| {
            found
                .windows(text.len())
                .any(|part| part.eq_ignore_ascii_case(&text))
        };
        let is_found = |number: &u32| {
            let node = image.nodes.at(*number);
            image.top(node.row).is_some()
                && if is_path {
                    has(&image.path(*number))
                } else {
                    has(image.read(node.name))
                }
        };
        let found = (ROOT + 1..image.nodes.len()).filter(is_found).take(limit);
        let found = found.map(|number| Match {
            path: image.path(number),
            child: image.merged(number),
        });
        found.collect()
    }
}

/// Sorts numbers. Not generic, so that the module that a page loads has one copy.
pub(super) fn sort(numbers: &mut [u32], order: &dyn Fn(u32, u32) -> Ordering) {
    numbers.sort_unstable_by(|one, other| order(*one, *other));
}
