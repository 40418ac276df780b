//! Layers in zstd: short frames become spans, and long ones are stored in pieces.

use crate::layer::{
    pass::{
        archive::{Archive, Output},
        error::PassError,
        spans::Spans,
    },
    zstd::{Event, Unzstd},
};

/// Decodes frames of zstd, and stores the spans of long ones.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) decoder: Unzstd,
    /// The offsets of the current frame.
    pub(super) frame: (u64, u64),
    /// The current span: where it began, and its bytes.
    pub(super) start: Begun,
    pub(super) bytes: Vec<u8>,
    /// Where the pass was saved. Output before this is already known.
    pub(super) known: u64,
}

/// Where a span of zstd began.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begun {
    /// At the frame with this offset.
    Frame(u64),
    /// Inside a frame.
    Middle,
}

impl Frames {
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        archive: &mut Archive,
        spans: &mut Spans,
        span: u64,
        output: Output<'_>,
    ) -> Result<(), PassError> {
        let Self {
            decoder,
            frame,
            start,
            bytes: begun,
            known,
        } = self;
        let span_bytes = usize::try_from(span).unwrap_or(usize::MAX);
        // Decoding resumes at the beginning of a frame. Output is known up to where the pass was
        // saved.
        let mut at = decoder.position().1;
        decoder.push(bytes, |event| match event {
            Event::Frame { input, output } if output < *known || (input, output) == *frame => {
                Ok::<_, PassError>(())
            }
            Event::Frame { input, output } => {
                *frame = (input, output);
                match *start {
                    Begun::Frame(first) if begun.len() >= span_bytes => {
                        spans.frame(first, input, output, begun);
                    }
                    Begun::Frame(_) if begun.is_empty() => {}
                    Begun::Frame(_) => return Ok(()),
                    Begun::Middle => {
                        spans.store(output - begun.len() as u64, begun, span)?;
                    }
                }
                begun.clear();
                *start = Begun::Frame(input);
                Ok(())
            }
            Event::Bytes(bytes) => {
                let skipped = usize::try_from(known.saturating_sub(at)).unwrap_or(usize::MAX);
                at += bytes.len() as u64;
                let mut bytes = bytes.get(skipped.min(bytes.len())..).unwrap_or_default();
                let mut end = at - bytes.len() as u64;
                archive.take(bytes, output)?;
                while !bytes.is_empty() {
                    let room = start.room(span_bytes);
                    let length = (room - begun.len()).min(bytes.len());
                    let (now, later) = bytes.split_at(length);
                    begun.extend_from_slice(now);
                    end += now.len() as u64;
                    bytes = later;
                    if begun.len() == room {
                        spans.store(end - room as u64, begun, span)?;
                        begun.clear();
                        *start = Begun::Middle;
                    }
                }
                Ok(())
            }
        })
    }

    pub(super) fn finish(&mut self, spans: &mut Spans) -> Result<(), PassError> {
        self.decoder.finish()?;
        let (input, output) = self.decoder.position();
        if output < self.known {
            // The saved pass belongs to another layer: this one inflates to fewer bytes.
            return Err(PassError::Size(input));
        }
        let begun = std::mem::take(&mut self.bytes);
        match self.start {
            _ if begun.is_empty() => Ok(()),
            Begun::Frame(first) => {
                spans.frame(first, input, output, &begun);
                Ok(())
            }
            Begun::Middle => spans.store(output - begun.len() as u64, &begun, u64::MAX),
        }
    }

    /// How many bytes make a span complete.
    pub(super) fn room(&self, span: u64) -> usize {
        self.start.room(usize::try_from(span).unwrap_or(usize::MAX))
    }
}

impl Begun {
    pub(super) const fn room(self, span: usize) -> usize {
        match self {
            Self::Frame(_) => span.saturating_mul(LONG),
            Self::Middle => span,
        }
    }
}

/// Frames of more spans than this are stored.
const LONG: usize = 4;
