//! A layer in a file of JavaScript: indexed in one pass, then read at random.

use std::rc::Rc;

use js_sys::{Function, Uint8Array};
use serde_json::{Map, Value, json};
use strata::layer::{
    indexed::{self, IndexedLayer},
    json,
    pass::{self, Options, PART},
};
use wasm_bindgen::{JsError, JsValue, prelude::wasm_bindgen};

use crate::number::{inward, outward};

/// A pass over a layer.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Pass(pass::Pass);

#[wasm_bindgen]
impl Pass {
    /// Begins a pass over a layer of this many bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(size: f64) -> Result<Self, JsError> {
        let size = inward("the size of a layer", size)?;
        Ok(Self(pass::Pass::new(size, Options::local(size))))
    }

    /// Reads the next bytes. `store` is called with each full object of spans, in their order.
    pub fn push(&mut self, bytes: &[u8], store: &Function) -> Result<(), JsError> {
        for part in bytes.chunks(PART) {
            self.0.push(part)?;
            self.store(store)?;
        }
        Ok(())
    }

    /// Returns the number of compressed bytes so far.
    pub fn read(&self) -> f64 {
        outward(self.0.position().0)
    }

    /// Returns the number of decompressed bytes so far.
    pub fn inflated(&self) -> f64 {
        outward(self.0.position().1)
    }

    /// Ends the pass. `store` is called with the last object, if there is one.
    pub fn finish(mut self, store: &Function) -> Result<Layer, JsError> {
        let index = self.0.finish()?.unwrap_or_default();
        self.store(store)?;
        Ok(Layer(Rc::new(IndexedLayer::new(index)?)))
    }

    fn store(&mut self, store: &Function) -> Result<(), JsError> {
        while let Some((_, object)) = self.0.object() {
            let bytes = Uint8Array::from(object.as_slice());
            let stored = store.call1(&JsValue::UNDEFINED, &bytes);
            stored.map_err(|_| {
                JsError::new("what can't be read from the layer itself was not stored")
            })?;
        }
        Ok(())
    }
}

/// A layer with only its index in memory.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Layer(pub(crate) Rc<IndexedLayer>);

#[wasm_bindgen]
impl Layer {
    /// Returns the summary of the index, as JSON.
    pub fn describe(&self) -> String {
        let index = self.0.index();
        let described = json!({
            "compression": index.compression.name(),
            "diffId": index.diff_id.to_string(),
            "entryCount": index.entries,
            "inflatedSize": index.inflated,
            "size": index.compressed,
            "spans": index.spans.len(),
        });
        described.to_string()
    }

    /// Lists the directory at a percent-encoded path, as JSON: up to `limit` children after a name.
    pub fn list(
        &self,
        directory: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<String, JsError> {
        let after = after.map(|after| json::decode(&after));
        let page = self
            .0
            .list(&json::decode(directory), after.as_deref(), limit)?;
        let mut body = Map::new();
        let children = page.children.iter();
        let children = children.map(|child| json::describe_child(child, |_| None));
        body.insert("children".to_owned(), children.collect::<Value>());
        let last = page.last.filter(|_| page.more);
        body.extend(last.map(|last| ("next".to_owned(), json::encode(&last).into())));
        Ok(Value::from(body).to_string())
    }

    /// Begins to read a range of the file at a percent-encoded path, up to and excluding `to`.
    pub fn open(&self, path: &str, from: f64, to: f64) -> Result<FileRead, JsError> {
        let range = inward("the beginning of a range", from)?..inward("the end of a range", to)?;
        let reading = self.0.open(&json::decode(path), range)?;
        Ok(FileRead {
            layer: Rc::clone(&self.0),
            reading,
        })
    }
}

/// A range of a file that is being read.
#[derive(Debug)]
#[wasm_bindgen]
pub struct FileRead {
    layer: Rc<IndexedLayer>,
    reading: indexed::FileRead,
}

#[wasm_bindgen]
impl FileRead {
    /// Returns the size of the file.
    pub fn size(&self) -> f64 {
        outward(self.reading.size())
    }

    /// Returns the number of decompressed bytes.
    pub fn inflated(&self) -> f64 {
        outward(self.reading.inflated())
    }

    /// Returns the next bytes to read. Nothing if all were read.
    pub fn part(&self) -> Result<Option<Part>, JsError> {
        let part = self.reading.part(&self.layer)?;
        Ok(part.map(|part| Part {
            object: part.object,
            start: outward(part.bytes.start),
            end: outward(part.bytes.end),
        }))
    }

    /// Reads the bytes of a part.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), JsError> {
        Ok(self.reading.push(&self.layer, bytes)?)
    }

    /// Ends the reading, and returns the bytes of the range.
    pub fn finish(self) -> Result<Vec<u8>, JsError> {
        Ok(self.reading.finish()?)
    }
}

/// A range of bytes to read next.
#[derive(Clone, Copy, Debug)]
#[wasm_bindgen]
pub struct Part {
    /// The number of the stored object that has the bytes. Nothing for the layer itself.
    #[wasm_bindgen(readonly)]
    pub object: Option<u32>,
    /// The offset of the first byte.
    #[wasm_bindgen(readonly)]
    pub start: f64,
    /// The offset after the last byte.
    #[wasm_bindgen(readonly)]
    pub end: f64,
}
