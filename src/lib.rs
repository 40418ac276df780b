//! Strata: an OCI image registry and pull-through mirror for the edge, as a library.
//!
//! The crate is the whole registry and names no platform. Stores, streams, time, randomness and
//! requests to other servers are traits, which a [`platform`] implements. [`memory`] is a platform
//! that comes with the crate, for tests and for trying it:
//!
//! ```
//! use http::{HeaderValue, Method, header::CONTENT_TYPE};
//! use strata::{digest::Algorithm, manifest::OCI_MANIFEST, memory, registry::Request};
//!
//! # pollster::block_on(async {
//! let registry = memory::open_registry()?;
//! let config = Algorithm::Sha256.digest(b"{}");
//! let target = format!("/v2/app/blobs/uploads/?digest={config}");
//! let push = Request::new(Method::POST, target);
//! let pushed = memory::ask(&registry, push.with_body(b"{}".to_vec(), 2)).await?;
//! assert_eq!(pushed.status(), 201);
//!
//! let manifest = format!(
//!     r#"{{"schemaVersion": 2, "mediaType": "{OCI_MANIFEST}", "layers": [],
//!         "config": {{"mediaType": "application/vnd.oci.empty.v1+json",
//!                     "digest": "{config}", "size": 2}}}}"#
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
//! `examples/serve.rs` serves a registry over TCP, with its store in a folder.
//!
//! # Modules
//!
//! A module uses those of its own floor and of the floors above it in this table.
//!
//! | floor | module | content |
//! |---|---|---|
//! | 0 | [`digest`], [`name`], [`pattern`], [`range`], [`time`] | words of the specification, each parsed once into a type |
//! | 0 | [`budget`] | the lookup budget of a request |
//! | 1 | [`annotations`], [`manifest`] | documents, and the descriptors of a manifest |
//! | 1 | [`error`] | the table of error codes |
//! | 1 | [`layer`] | a layer's bytes in; its index, entries and any range of its bytes out |
//! | 1 | [`tier`], [`upload`] | tiers and kinds of values; the steps of an upload |
//! | 2 | [`route`], [`upstream`], [`retention`] | parsed operations; mirrored registries; the tags and manifests that expire |
//! | 3 | [`store`] | the traits of stores and streams; keys, stored documents, tiers; [`store::suite`] |
//! | 3 | [`host`], [`platform`] | the traits of a host; the types that a registry runs on |
//! | 3 | [`access`], [`end_point`] | users, rules and tokens; the table of end-points |
//! | 3 | [`ledger`] | leases on the memory of an isolate |
//! | 3 | [`settings`], [`metrics`] | the table of settings; the table of metrics |
//! | 4 | [`registry`] | the services, and the [`Registry`](registry::Registry) that calls them |
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
