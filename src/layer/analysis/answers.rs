//! What can be asked of an image that was analysed.

use std::cmp::Ordering;

use crate::layer::analysis::{
    error::AnalysisError,
    image::Image,
    listing::{Changes, Child, Match},
    row::{NONE, ROOT},
};

/// An image that was read.
#[derive(Debug)]
pub struct Analysis(pub(super) Image);

impl Analysis {
    /// How many entries there were, in all layers.
    pub const fn entries(&self) -> u64 {
        self.0.entries
    }

    /// How much each layer changes.
    pub fn changes(&self) -> &[Changes] {
        &self.0.layers
    }

    /// The number of bytes of memory that it takes.
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

    /// What is in a directory of the image, and what was, in the order of names.
    pub fn children(&self, directory: &[u8]) -> Result<Vec<Child>, AnalysisError> {
        self.list(directory, |image, number| Some(image.merged(number)))
    }

    /// What a layer has in a directory, and what it takes away there, in the order of names.
    pub fn layer_children(
        &self,
        layer: usize,
        directory: &[u8],
    ) -> Result<Vec<Child>, AnalysisError> {
        let number = u16::try_from(layer)
            .ok()
            .filter(|_| layer < self.0.layers.len());
        let number = number.ok_or(AnalysisError::Layer(layer))?;
        self.list(directory, |image, node| image.said(node, number))
    }

    fn list(
        &self,
        directory: &[u8],
        describe: impl Fn(&Image, u32) -> Option<Child>,
    ) -> Result<Vec<Child>, AnalysisError> {
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

    /// The paths of the image of which a name has this text in it, whether in capital letters or not; of a text with a slash, the
    /// paths that have it in them.
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

/// Orders numbers. There is one copy of it, for a page waits for the module that it is in.
pub(super) fn sort(numbers: &mut [u32], order: &dyn Fn(u32, u32) -> Ordering) {
    numbers.sort_unstable_by(|one, other| order(*one, *other));
}
