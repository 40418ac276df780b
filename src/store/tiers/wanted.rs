//! The questions that tiers are asked, and their answers.

use std::{cell::Cell, rc::Rc};

use crate::{
    digest::Digest,
    name::Name,
    store::{
        document::{Record, Right},
        key::{Key, Prefix},
        warm::TierContent,
    },
    tier::Kind,
    time::Timestamp,
};

/// A value that tiers hold.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// A manifest of a repository.
    Manifest(&'a Name, &'a Digest),
    /// The bytes of a blob.
    Blob(&'a Digest),
    /// The link of a blob: the place of its bytes, for a repository that may read them.
    Link(&'a Name, &'a Digest),
    /// The index of a layer.
    Index(&'a Digest),
    /// The bytes of an index of a layer, from the one offset up to the other.
    Page(&'a Digest, u64, u64),
    /// The bytes of a layer's archive from the one offset up to the other.
    Span(&'a Digest, u64, u64),
}

impl Wanted<'_> {
    /// The key by which every tier knows the value. For whole objects, it is their key in the cold
    /// tier.
    pub fn key(&self) -> String {
        match self {
            Self::Manifest(name, digest) => Key::manifest(name, digest).to_string(),
            Self::Blob(digest) => Key::blob(digest).to_string(),
            Self::Link(name, digest) => Key::link(digest, name).to_string(),
            Self::Index(digest) => Key::index(digest).to_string(),
            Self::Page(digest, first, end) => format!("{}#{first}-{end}", Key::index(digest)),
            Self::Span(digest, first, end) => {
                format!("{}archive/{first}-{end}", Prefix::Layer(digest))
            }
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Manifest(..) => Kind::Manifest,
            Self::Blob(_) => Kind::Blob,
            Self::Link(..) => Kind::Link,
            Self::Index(_) => Kind::Index,
            Self::Page(..) => Kind::Page,
            Self::Span(..) => Kind::Span,
        }
    }

    /// The digest by which its content is named.
    pub(super) const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Manifest(_, digest) | Self::Blob(digest) => Some(digest),
            Self::Link(..) | Self::Index(_) | Self::Page(..) | Self::Span(..) => None,
        }
    }
}

/// An answer of the tiers.
#[derive(Debug)]
pub(super) enum TierAnswer<B> {
    /// Content.
    Content(Rc<TierContent<B>>),
    /// The link of a blob.
    Link(Rc<KnownLink>),
    /// Nothing: the repository does not have it.
    Absent,
}

impl<B> Clone for TierAnswer<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Content(content) => Self::Content(content.clone()),
            Self::Link(known) => Self::Link(known.clone()),
            Self::Absent => Self::Absent,
        }
    }
}

/// The digest that a tag named when the cold tier was asked.
#[derive(Debug)]
pub(super) struct BelievedTag {
    pub(super) digest: Digest,
    pub(super) asked: Timestamp,
}

/// A link of a blob in a repository, as a tier caches it.
#[derive(Debug)]
pub struct KnownLink {
    /// The place of the blob's bytes.
    pub record: Record,
    /// The kind of grant that gave the repository the right to the blob. `None` if an older version
    /// wrote the link.
    pub right: Option<Right>,
    /// Whether the bytes were seen at that place. A link alone is a hint.
    pub seen: Cell<bool>,
    /// Whether a request has found the link out of date, and writes it anew.
    pub is_replaced: Cell<bool>,
    /// The time at which the cold tier confirmed the link.
    pub confirmed: Timestamp,
}

impl KnownLink {
    /// Makes a link as it is stored, before the blob itself was looked up.
    pub fn new(record: Record, right: Option<Right>, confirmed: Timestamp) -> Self {
        Self {
            record,
            right,
            seen: Cell::new(false),
            is_replaced: Cell::new(false),
            confirmed,
        }
    }
}
