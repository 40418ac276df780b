//! The core of Strata, an OCI image registry and pull-through mirror for the edge.
//!
//! Everything that makes a registry is here — grammar, documents, decisions, the protocol between stores — and no platform:
//! time, randomness, stores and streams are arguments.
//!
//! A registry runs on a [`platform`]: stores, and a host. The first one is [`memory`].
//!
//! ```
//! use http::{HeaderValue, Method, header::CONTENT_TYPE};
//! use strata::{digest::Algorithm, manifest::OCI_MANIFEST, memory, registry::Request};
//!
//! # pollster::block_on(async {
//! let registry = memory::open_registry()?;
//! let config = Algorithm::Sha256.digest(b"{}");
//! let push = Request::new(Method::POST, format!("/v2/app/blobs/uploads/?digest={config}"));
//! let pushed = memory::ask(&registry, push.with_body(b"{}".to_vec(), 2)).await?;
//! assert_eq!(pushed.status(), 201);
//!
//! let manifest = format!(
//!     r#"{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "layers": [], "config":
//!         {{"mediaType": "application/vnd.oci.empty.v1+json", "digest": "{config}", "size": 2}}}}"#
//! );
//! let push = Request::new(Method::PUT, "/v2/app/manifests/v1")
//!     .with_header(CONTENT_TYPE, HeaderValue::from_static(OCI_MANIFEST))
//!     .with_body(manifest.clone().into_bytes(), manifest.len() as u64);
//! assert_eq!(memory::ask(&registry, push).await?.status(), 201);
//!
//! let pull = Request::new(Method::GET, "/v2/app/manifests/v1");
//! assert_eq!(memory::ask(&registry, pull).await?.body(), manifest.as_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! `examples/serve.rs` serves a registry over TCP.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 0 | [`budget`] | what one request may spend |
//! | 0 | [`digest`], [`name`], [`pattern`], [`range`], [`time`] | words of the specification, each parsed once into a type that can't be wrong |
//! | 1 | [`annotations`], [`manifest`], [`route`], [`error`], [`host`] | documents: what a manifest refers to, which end-point a request is for, the table of errors; what is asked of the platform |
//! | 1 | [`layer`] | bytes of a layer in, its index and any part of it out; knows no request and no store |
//! | 2 | [`ledger`] | who holds how much of an isolate's memory |
//! | 2 | [`upload`], [`upstream`], [`access`], [`end_point`], [`settings`] | decisions, without input or output |
//! | 3 | [`store`], [`metrics`], [`tier`] | stores by what they promise, their keys, the tiers, the checks that every store passes; what an isolate has seen and done |
//! | 3 | [`platform`] | the types that a registry runs on |
//! | 4 | [`registry`] | a request and stores in, a response out: it calls a service for each operation |
//! | 5 | [`memory`] | a platform in memory, and a registry on it |

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
