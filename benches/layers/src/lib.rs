//! The code that reads layers, under the names that JavaScript uses.

use std::ops::Range;

use js_sys::{Function, Uint8Array};
use strata::layer::{
    gzip::{Checkpoint, Gunzip, GzipError, Start},
    index::{Index, Span, SpanStart, StoredIndex},
    pass::{self, Options, PassError},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

/// The memory of the module.
#[wasm_bindgen]
pub fn linear_memory() -> JsValue {
    wasm_bindgen::memory()
}

/// A pass over a layer.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Pass {
    pass: pass::Pass,
    options: Options,
}

#[wasm_bindgen]
impl Pass {
    /// Begins a pass over a layer of this many bytes, with or without computing the diff ID.
    #[wasm_bindgen(constructor)]
    pub fn new(size: u64, span: u32, has_diff_id: bool) -> Self {
        let options = Options {
            span: span.into(),
            ..Options::default()
        };
        let begin = if has_diff_id {
            pass::Pass::new
        } else {
            pass::Pass::without_diff_id
        };
        Self {
            pass: begin(size, options.clone()),
            options,
        }
    }

    /// Reads the next bytes. The exception has the kind of the refusal in metrics, and the reason.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let outcome = self.pass.push(bytes);
        outcome.map_err(|error| self.refuse(&error))
    }

    /// Ends the pass, and returns the index.
    pub fn finish(&mut self) -> Result<Vec<u8>, String> {
        let outcome = self.pass.finish();
        outcome
            .map(Option::unwrap_or_default)
            .map_err(|error| self.refuse(&error))
    }

    /// Reads the next bytes, and passes copies of the archive's bytes to `output`.
    pub fn push_to(&mut self, bytes: &[u8], output: &Function) -> Result<(), String> {
        let outcome = self.pass.push_to(bytes, |bytes| call(output, bytes));
        outcome.map_err(|error| self.refuse(&error))
    }

    /// Passes copies of the last bytes of the archive to `output`.
    pub fn end_to(&mut self, output: &Function) -> Result<(), String> {
        let outcome = self.pass.end_to(|bytes| call(output, bytes));
        outcome.map_err(|error| self.refuse(&error))
    }

    /// Ends the pass, and returns the index with the diff ID that the caller computed.
    pub fn finish_as(&mut self, diff_id: &[u8]) -> Result<Vec<u8>, String> {
        let diff_id = diff_id.try_into().map_err(|_| "a SHA-256 has 32 bytes")?;
        let outcome = self.pass.finish_as(diff_id);
        outcome.map_err(|error| self.refuse(&error))
    }

    /// The next object of spans.
    pub fn object(&mut self) -> Option<Vec<u8>> {
        self.pass.object().map(|(_, bytes)| bytes)
    }

    /// The number of bytes of the archive so far.
    pub fn inflated(&self) -> u64 {
        self.pass.position().1
    }

    fn refuse(&self, error: &PassError) -> String {
        let refusal = error.refusal(&self.options);
        format!("{}: {}", refusal.kind, refusal.reason)
    }
}

fn call(output: &Function, bytes: &[u8]) {
    // Exceptions are ignored: `output` only hashes.
    let _ = output.call1(&JsValue::UNDEFINED, &Uint8Array::from(bytes));
}

/// Decompression alone: as gzip requires it, and with checkpoints if a span is given.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Inflater(Gunzip);

#[wasm_bindgen]
impl Inflater {
    /// Begins with a member.
    #[wasm_bindgen(constructor)]
    pub fn new(span: Option<u32>) -> Self {
        Self(span.map_or_else(Gunzip::default, |span| {
            Gunzip::with_checkpoints(span.into())
        }))
    }

    /// Reads the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let outcome = self.0.push(bytes, |_| Ok::<_, GzipError>(()));
        while self.0.checkpoint().is_some() {}
        outcome.map_err(|error| error.to_string())
    }

    /// Marks the end of the input.
    pub fn finish(&mut self) -> Result<(), String> {
        let outcome = self.0.finish(|_| Ok::<_, GzipError>(()));
        outcome.map_err(|error| error.to_string())
    }
}

/// The head of an index.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Head(Index);

#[wasm_bindgen]
impl Head {
    /// Parses the head.
    #[wasm_bindgen(constructor)]
    pub fn new(index: &[u8]) -> Result<Self, String> {
        match StoredIndex::parse(index).map_err(|error| error.to_string())? {
            StoredIndex::Index(index) => Ok(Self(index)),
            StoredIndex::Refused(refusal) => Err(refusal.reason),
        }
    }

    /// The diff ID.
    pub fn diff_id(&self) -> String {
        self.0.diff_id.to_string()
    }

    /// The number of entries.
    pub fn entries(&self) -> u64 {
        self.0.entries
    }

    /// The number of spans.
    pub fn spans(&self) -> usize {
        self.0.spans.len()
    }

    /// The first span with these bytes of the archive, and the one after the last.
    pub fn spans_of(&self, start: u64, end: u64) -> Vec<usize> {
        let Range { start, end } = self.0.spans_of(&(start..end));
        vec![start, end]
    }

    /// The beginnings and ends of a span, of its input and of its window. The number of its object
    /// follows, if it has one.
    pub fn span(&self, number: usize) -> Result<Vec<f64>, String> {
        let span = self.at(number)?;
        let (window, object) = match &span.start {
            SpanStart::Block { window, .. } => (window.clone(), None),
            SpanStart::Stored(object) => (0..0, Some(f64::from(*object))),
            SpanStart::Plain | SpanStart::Member | SpanStart::Frame => (0..0, None),
        };
        let ranges = [span.output.clone(), span.input.clone(), window];
        #[expect(clippy::cast_precision_loss, reason = "they are below 2^53")]
        let numbers = ranges
            .iter()
            .flat_map(|range| [range.start, range.end].map(|at| at as f64));
        Ok(numbers.chain(object).collect())
    }

    /// Decompresses the first bytes of a span.
    pub fn inflate(
        &self,
        number: usize,
        window: &[u8],
        bytes: &[u8],
        length: u32,
    ) -> Result<Vec<u8>, String> {
        let span = self.at(number)?;
        span.inflate(window, bytes, length.into())
            .map_err(|error| error.to_string())
    }

    /// The compressed bytes that the first bytes of a span take. They come in pieces of this size,
    /// and reading stops at the first piece that is enough.
    pub fn taken(
        &self,
        number: usize,
        window: &[u8],
        bytes: &[u8],
        length: u32,
        piece: usize,
    ) -> Result<usize, String> {
        let span = self.at(number)?;
        let start = match &span.start {
            SpanStart::Member => Start::Member,
            SpanStart::Block { count, bits, .. } => Start::Block {
                count: *count,
                bits: *bits,
                window: window.to_vec(),
            },
            // A stored span is decompressed at once.
            SpanStart::Plain | SpanStart::Frame | SpanStart::Stored(_) => return Ok(bytes.len()),
        };
        let checkpoint = Checkpoint {
            input: span.input.start,
            output: span.output.start,
            start,
            check: span.check,
        };
        let mut gunzip = Gunzip::from_checkpoint(&checkpoint).map_err(|error| error.to_string())?;
        let end = span.output.start + u64::from(length);
        let mut taken = 0;
        for piece in bytes.chunks(piece) {
            taken += piece.len();
            gunzip
                .push(piece, |_| Ok::<_, GzipError>(()))
                .map_err(|error| error.to_string())?;
            if gunzip.position().1 >= end {
                break;
            }
        }
        Ok(taken)
    }

    fn at(&self, number: usize) -> Result<&Span, String> {
        let span = self.0.spans.get(number);
        span.ok_or_else(|| format!("there is no span {number}"))
    }
}
