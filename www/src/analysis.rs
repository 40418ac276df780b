//! The analysis of an image or a layer.

use serde_json::{Map, Value, json};
use strata::layer::{analysis, json};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};

use crate::{layer::Layer, number::inward};

/// The most offenders in the description.
const OFFENDERS: usize = 1000;

/// Reads tables of contents.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Analyser(analysis::Analyser);

#[wasm_bindgen]
impl Analyser {
    /// Begins with the lowest layer. `seed` is a random number.
    #[wasm_bindgen(constructor)]
    pub fn new(seed: f64) -> Result<Self, JsError> {
        let seed = inward("a seed", seed)?;
        Ok(Self(analysis::Analyser::new(seed)))
    }

    /// Reads the next page of the table of contents of a layer, as JSON.
    pub fn page(&mut self, text: &str) -> Result<(), JsError> {
        for entry in json::read_page(text)? {
            self.0.push(entry)?;
        }
        Ok(())
    }

    /// Reads the whole table of contents of a layer that is in memory.
    pub fn layer(&mut self, layer: &Layer) -> Result<(), JsError> {
        for block in 0..layer.0.index().blocks() {
            for entry in layer.0.block(block)?.iter() {
                self.0.push(entry.clone())?;
            }
        }
        Ok(())
    }

    /// Ends the layer. Another one may begin.
    #[wasm_bindgen(js_name = endLayer)]
    pub fn end_layer(&mut self) -> Result<(), JsError> {
        Ok(self.0.end_layer()?)
    }

    /// Ends the analysis, and returns it.
    pub fn finish(self) -> Analysis {
        Analysis(self.0.finish())
    }
}

/// The analysis of an image.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Analysis(analysis::Analysis);

#[wasm_bindgen]
impl Analysis {
    /// Returns the totals of the image, as JSON.
    pub fn describe(&self) -> String {
        let waste = self.0.waste(OFFENDERS);
        let offenders = waste.offenders.iter().map(|offender| {
            let mut out = Map::new();
            json::insert_path(&mut out, "path", &offender.path);
            out.insert("times".to_owned(), offender.times.into());
            out.insert("bytes".to_owned(), offender.bytes.into());
            Value::from(out)
        });
        let changes = self.0.changes().iter().map(|changes| {
            json!({
                "added": changes.added,
                "changed": changes.changed,
                "removed": changes.removed,
                "bytes": changes.bytes,
            })
        });
        let described = json!({
            "efficiency": waste.efficiency,
            "wastedBytes": waste.bytes,
            "entries": self.0.entries(),
            "offenders": offenders.collect::<Value>(),
            "changes": changes.collect::<Value>(),
        });
        described.to_string()
    }

    /// Returns the present and the removed children of the directory at a percent-encoded path, as
    /// JSON.
    pub fn children(&self, directory: &str) -> Result<String, JsError> {
        let children = self.0.children(&json::decode(directory))?;
        let described = children.iter().map(|child| Value::from(child.describe()));
        Ok(described.collect::<Value>().to_string())
    }

    /// Returns the children that a layer adds to a directory or removes from it, as JSON.
    #[wasm_bindgen(js_name = layerChildren)]
    pub fn layer_children(&self, layer: usize, directory: &str) -> Result<String, JsError> {
        let children = self.0.layer_children(layer, &json::decode(directory))?;
        let described = children.iter().map(|child| Value::from(child.describe()));
        Ok(described.collect::<Value>().to_string())
    }

    /// Returns the paths whose name contains this text, as JSON.
    pub fn search(&self, text: &str, limit: usize) -> String {
        let found = self.0.search(text.as_bytes(), limit);
        let described = found.iter().map(|found| Value::from(found.describe()));
        described.collect::<Value>().to_string()
    }

    /// Returns the bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}
