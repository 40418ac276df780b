//! The core of Strata, an OCI image registry and pull-through mirror for the edge.
//!
//! Everything that makes a registry is here — grammar, documents, decisions, the protocol between stores — and no platform:
//! time, randomness, stores and streams are arguments. The Worker that runs at the edge and the tests that run natively
//! hand in their own.
//!
//! ```
//! use http::Method;
//! use strata::{name::Reference, route::{InRepository, Operation}};
//!
//! let operation = Operation::parse(&Method::GET, "/v2/library/alpine/manifests/3.22")?;
//! let Operation::In(name, InRepository::PullManifest(Reference::Tag(tag))) = operation else { unreachable!() };
//! assert_eq!((name.as_str(), tag.as_str()), ("library/alpine", "3.22"));
//! # Ok::<(), strata::error::Error>(())
//! ```
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 0 | [`budget`] | what one request may spend |
//! | 0 | [`digest`], [`name`], [`pattern`], [`range`], [`time`] | words of the specification, each parsed once into a type that can't be wrong |
//! | 1 | [`annotations`], [`manifest`], [`route`], [`error`], [`host`] | documents: what a manifest refers to, which end-point a request is for, the table of errors; what is asked of the platform |
//! | 1 | [`layer`] | bytes of a layer in, its index and any part of it out; knows no request and no store |
//! | 2 | [`ledger`] | who holds how much of an isolate's memory |
//! | 2 | [`upload`], [`upstream`], [`access`], [`end_point`], [`settings`] | decisions, without input or output |
//! | 3 | [`store`], [`metrics`] | stores by what they promise, their keys, the tiers, the stores in memory, the checks that every store passes; what an isolate has seen and done |
//! | 4 | [`registry`] | a request and stores in, a response out |

pub mod access;
pub mod annotations;
pub mod budget;
pub mod digest;
pub mod end_point;
pub mod error;
pub mod host;
pub mod layer;
pub mod ledger;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod name;
pub mod pattern;
pub mod platform;
pub mod range;
pub mod registry;
pub mod retention;
pub mod route;
pub mod settings;
pub mod store;
pub mod tier;
pub mod time;
pub mod upload;
pub mod upstream;
