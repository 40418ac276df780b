//! The book of the ledger: the leases, and the bounds that a new one must keep.

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    ledger::{cache::Cached, full::Full, line::Line},
    time::Timestamp,
};

#[derive(Debug)]
pub(super) struct Book {
    pub(super) bound: u64,
    pub(super) leases: Vec<LeaseRow>,
    /// The requests that wait in line, in the order of arrival.
    pub(super) line: Line<Wanted>,
    pub(super) next: u64,
    /// The sender that is charged for new leases.
    pub(super) sender: Option<Rc<str>>,
    /// The most bytes that all leases of [`MemoryKind::Wasm`] ever had together, up to their bound.
    pub(super) wasm_peak: u64,
    pub(super) cached: Cached,
}

#[derive(Debug)]
pub(super) struct LeaseRow {
    pub(super) id: u64,
    pub(super) memory: MemoryKind,
    pub(super) bytes: u64,
    pub(super) sender: Option<Rc<str>>,
    pub(super) renewed: Timestamp,
}

/// The lease that a request in the line waits for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) memory: MemoryKind,
    pub(super) bytes: u64,
    pub(super) sender: Option<Rc<str>>,
}

/// The kind of memory of a lease, by whether it is ever returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryKind {
    /// Memory of the platform, which is freed after use.
    Buffer,
    /// Memory of this module. WebAssembly's memory never shrinks, so the peak of these leases keeps
    /// counting.
    Wasm,
}

impl Book {
    pub(super) fn leased(&self) -> u64 {
        let of = |memory| {
            let rows = self.leases.iter().filter(move |row| row.memory == memory);
            rows.map(|row| row.bytes).sum::<u64>()
        };
        of(MemoryKind::Buffer) + of(MemoryKind::Wasm).max(self.wasm_peak)
    }

    pub(super) fn room(&self) -> u64 {
        let spared = COUNTED - BOUND;
        (self.bound + spared).saturating_sub(self.leased())
    }

    pub(super) fn counted(&self) -> u64 {
        self.leased() + self.cached.bytes
    }

    pub(super) fn note_peak(&mut self) {
        self.cached.peak = self.cached.peak.max(self.counted());
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.leases.retain(|row| now.since(row.renewed) < LEASE);
    }

    /// Whether so many more bytes are within the share of a sender.
    pub(super) fn has_share(&self, sender: Option<&str>, bytes: u64) -> bool {
        sender.is_none() || self.used_by(sender).saturating_add(bytes) <= self.bound / 3
    }

    pub(super) fn used_by(&self, sender: Option<&str>) -> u64 {
        let own = self
            .leases
            .iter()
            .filter(|row| row.sender.as_deref() == sender);
        own.map(|row| row.bytes).sum()
    }

    /// Fails if `wanted` more bytes exceed a bound.
    pub(super) fn admit(
        &self,
        sender: Option<&str>,
        memory: MemoryKind,
        wanted: u64,
    ) -> Result<(), Full> {
        let sum = |is: &dyn Fn(&LeaseRow) -> bool| -> u64 {
            let rows = self.leases.iter().filter(|row| is(row));
            rows.map(|row| row.bytes).sum()
        };
        let check = |used: u64, bound: u64, is_own| {
            if used.saturating_add(wanted) <= bound {
                return Ok(());
            }
            Err(Full {
                wanted,
                used,
                bound,
                is_own,
            })
        };
        if sender.is_some() {
            check(self.used_by(sender), self.bound / 3, true)?;
        }
        let wasm = sum(&|row| row.memory == MemoryKind::Wasm);
        let buffers = sum(&|row| row.memory == MemoryKind::Buffer);
        let most_wasm = WASM.min(self.bound);
        let for_buffers = self.bound / BUFFERS;
        let for_wasm = most_wasm / MANIFESTS;
        let (room, reserve, grown) = match memory {
            MemoryKind::Wasm => (
                most_wasm,
                for_wasm,
                self.wasm_peak.max(wasm.saturating_add(wanted)),
            ),
            MemoryKind::Buffer => {
                let grown = self.wasm_peak.max(wasm);
                (self.bound.saturating_sub(grown), for_buffers, grown)
            }
        };
        if let Some(sender) = sender {
            let is_charged = |row: &LeaseRow| row.memory == memory && row.sender.is_some();
            let is_own = |row: &LeaseRow| row.sender.as_deref() == Some(sender);
            if sum(&|row| is_charged(row) && is_own(row)) > 0 {
                check(sum(&is_charged), room.saturating_sub(reserve), false)?;
            }
            if is_stranger(sender) {
                let of_strangers = |row: &LeaseRow| {
                    row.memory == memory && row.sender.as_deref().is_some_and(is_stranger)
                };
                check(sum(&of_strangers), room / 3 * 2, false)?;
                // Both kinds of memory together must leave enough room to grow.
                let reserve = for_buffers + for_wasm.min(most_wasm.saturating_sub(grown));
                let all = match memory {
                    MemoryKind::Wasm => buffers + grown.saturating_sub(wanted),
                    MemoryKind::Buffer => buffers + grown,
                };
                check(all, self.bound.saturating_sub(reserve), false)?;
            }
        }
        match memory {
            MemoryKind::Wasm => {
                check(wasm, WASM.min(self.bound), false)?;
                // Memory up to the peak is allocated already, so using it costs nothing.
                let grown = self.wasm_peak.max(wasm.saturating_add(wanted));
                check(buffers + grown - wanted, self.bound, false)
            }
            MemoryKind::Buffer => check(buffers + self.wasm_peak.max(wasm), self.bound, false),
        }
    }

    pub(super) fn enter(&mut self, row: LeaseRow) {
        self.leases.push(row);
        let wasm = self
            .leases
            .iter()
            .filter(|row| row.memory == MemoryKind::Wasm);
        let wasm: u64 = wasm.map(|row| row.bytes).sum();
        // Holders that renew late may exceed their bound together. If all of that counted for good,
        // no buffer would ever be free again.
        self.wasm_peak = self.wasm_peak.max(wasm.min(WASM));
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.leases.retain(|row| row.id != id);
    }
}

impl LeaseRow {
    pub(super) fn copy(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            ..*self
        }
    }
}

/// Lets the cache give way to the leases.
pub(super) fn make_room(book: &RefCell<Book>) {
    let (room, shrink) = {
        let book = book.borrow();
        let room = book.room();
        let shrink = book.cached.shrink.clone();
        (room, shrink.filter(|_| book.cached.bytes > room))
    };
    // The book is not borrowed meanwhile: the cache may look into it.
    let bytes = shrink.map(|shrink| shrink(room));
    let mut book = book.borrow_mut();
    if let Some(bytes) = bytes {
        book.cached.bytes = bytes;
    }
    book.note_peak();
}

/// The prefix of an anonymous sender: an address, of which there are any number. All of them
/// together use at most two thirds of each kind of memory.
pub(crate) const STRANGER: &str = "address ";

fn is_stranger(sender: &str) -> bool {
    sender.starts_with(STRANGER)
}

/// See [`Ledger::BOUND`](super::Ledger::BOUND).
pub(super) const BOUND: u64 = 75 * MIB;
/// See [`Ledger::COUNTED`](super::Ledger::COUNTED).
pub(super) const COUNTED: u64 = 100 * MIB;
/// See [`Ledger::WASM`](super::Ledger::WASM).
pub(super) const WASM: u64 = 48 * MIB;
/// See [`Ledger::LEASE`](super::Ledger::LEASE).
pub(super) const LEASE: Duration = Duration::from_secs(300);
const MIB: u64 = 1024 * 1024;
/// A sender who uses memory already leaves this share of it, as a divisor, to others: a part
/// buffer.
const BUFFERS: u64 = 15;
/// The same of WebAssembly's memory: the bytes for a manifest of 4 MiB.
const MANIFESTS: u64 = 4;
