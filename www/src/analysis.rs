//! The analysis of an image or a layer.

use serde_json::{Map, Value, json};
use strata::layer::{analysis, json};
use wasm_bindgen::{JsError, prelude::wasm_bindgen};

use crate::{layer::Layer, number::inward};

/// The most offenders that are listed.
const OFFENDERS: usize = 1000;

/// Reads tables of contents.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Analyser(analysis::Analyser);

#[wasm_bindgen]
impl Analyser {
    /// Begins with the lowest layer. `seed` is a number at random.
    #[wasm_bindgen(constructor)]
    pub fn new(seed: f64) -> Result<Self, JsError> {
        let seed = inward("a seed", seed)?;
        Ok(Self(analysis::Analyser::new(seed)))
    }

    /// Takes the next page of the table of contents of a layer, which is JSON.
    pub fn page(&mut self, text: &str) -> Result<(), JsError> {
        for entry in json::read_page(text)? {
            self.0.push(entry)?;
        }
        Ok(())
    }

    /// Takes the whole table of contents of a layer that is at hand.
    pub fn layer(&mut self, layer: &Layer) -> Result<(), JsError> {
        for block in 0..layer.0.index().blocks() {
            for entry in layer.0.block(block)?.iter() {
                self.0.push(entry.clone())?;
            }
        }
        Ok(())
    }

    /// Ends the layer; another one may begin.
    #[wasm_bindgen(js_name = endLayer)]
    pub fn end_layer(&mut self) -> Result<(), JsError> {
        Ok(self.0.end_layer()?)
    }

    /// Ends with what was learnt.
    pub fn finish(self) -> Analysis {
        Analysis(self.0.finish())
    }
}

/// An image that was read.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Analysis(analysis::Analysis);

#[wasm_bindgen]
impl Analysis {
    /// What was learnt of all of it, as JSON.
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

    /// What is in the directory of a percent-encoded path, and what was, as JSON.
    pub fn children(&self, directory: &str) -> Result<String, JsError> {
        let children = self.0.children(&json::decode(directory))?;
        let described = children.iter().map(|child| Value::from(child.describe()));
        Ok(described.collect::<Value>().to_string())
    }

    /// What a layer has in a directory, and what it takes away there, as JSON.
    #[wasm_bindgen(js_name = layerChildren)]
    pub fn layer_children(&self, layer: usize, directory: &str) -> Result<String, JsError> {
        let children = self.0.layer_children(layer, &json::decode(directory))?;
        let described = children.iter().map(|child| Value::from(child.describe()));
        Ok(described.collect::<Value>().to_string())
    }

    /// The paths of which a name has this text in it, as JSON.
    pub fn search(&self, text: &str, limit: usize) -> String {
        let found = self.0.search(text.as_bytes(), limit);
        let described = found.iter().map(|found| Value::from(found.describe()));
        described.collect::<Value>().to_string()
    }

    /// The number of bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}
