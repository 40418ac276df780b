//! Strata: an OCI image registry and pull-through mirror for the edge, as a library.
//!
//! The crate is the whole registry. It authenticates callers, stores and serves blobs and
//! manifests, mirrors other registries, reads files in layers, and deletes unreferenced objects. It
//! implements the OCI distribution-spec v1.1.1 for content of the image-spec v1.1.1.
//!
//! The crate names no platform and does no I/O. Stores, streams, time, randomness and requests to
//! other servers are traits, which a [`platform`] implements. All futures are local to one thread,
//! and the crate starts no task and sets no timer of its own.
//!
//! # Example
//!
//! [`memory`] is a platform that comes with the crate, for tests and for trying it. This program
//! pushes a blob and a manifest, and pulls both:
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
//! let pull = Request::new(Method::GET, format!("/v2/app/blobs/{config}"));
//! assert_eq!(memory::ask(&registry, pull).await?.body(), b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Serving a registry
//!
//! 1. Implement [`store::Objects`] for the durable store, [`store::Values`] for the cache, and the
//!    traits of [`host::Host`] for the rest. [`platform::Composed`] joins the three types.
//!    [`store::suite`] checks a store.
//! 2. Parse the [`Settings`](settings::Settings), and make one [`Registry`](registry::Registry) an
//!    isolate or thread.
//! 3. Pass each request to [`Registry::answer`](registry::Registry::answer). It always returns a
//!    response: an error becomes the JSON of the specification, by the codes of [`error::Code`].
//! 4. Send the response, and meanwhile run [`Registry::finish`](registry::Registry::finish).
//! 5. Call [`Registry::tick`](registry::Registry::tick) every few minutes, for the garbage
//!    collection and other background jobs.
//!
//! `examples/serve.rs` serves a registry over TCP, with its store in a folder. [`layer`] is useful
//! without a registry: it makes the index of a layer, and reads single files by it.
//!
//! # Conventions
//!
//! Sizes and offsets are in bytes. Times are [`Timestamp`](time::Timestamp)s, in milliseconds since
//! the Unix epoch, and periods are [`Duration`](std::time::Duration)s. Digests are texts such as
//! `sha256:` and 64 hexadecimal digits, parsed into a [`Digest`](digest::Digest). The words *hot*,
//! *warm*, *cold*, *extent*, *grant*, *link*, *mark*, *span* and *checkpoint* are defined in
//! `ARCHITECTURE.md`.
//!
//! # Modules
//!
//! A module uses those of its own floor and of the floors above it in this table. A module without
//! a link is hidden: it is public for the tests of this repository only, and may change at any
//! time. The same holds for hidden items of the other modules.
//!
//! | floor | module | content |
//! |---|---|---|
//! | 0 | [`digest`], [`name`], [`range`], [`time`], `pattern` | words of the specification, each parsed once into a type |
//! | 0 | [`budget`] | the lookup budget of a request |
//! | 1 | [`annotations`], [`manifest`] | documents, and the descriptors of a manifest |
//! | 1 | [`error`] | the table of error codes |
//! | 1 | [`layer`] | a layer's bytes in; its index, entries and any range of its bytes out |
//! | 1 | [`tier`], `upload` | tiers and kinds of values; the steps of an upload |
//! | 2 | [`upstream`], [`retention`], `route` | mirrored registries; the tags and manifests that expire; parsed operations |
//! | 3 | [`store`] | the traits of stores and streams, and wrappers that count and retry; keys, stored documents, tiers |
//! | 3 | [`host`], [`platform`] | the traits of a host; the types that a registry runs on |
//! | 3 | [`access`], `end_point` | users, rules and tokens; the table of end-points |
//! | 3 | [`ledger`] | leases on the memory of an isolate |
//! | 3 | [`settings`], [`metrics`] | the table of settings; the table of metrics |
//! | 4 | [`registry`] | the services, and the [`Registry`](registry::Registry) that calls them |
//! | 5 | [`memory`] | a platform in memory, and a registry on it |

pub mod access;
pub mod annotations;
pub mod budget;
pub mod digest;
#[doc(hidden)]
pub mod end_point;
pub mod error;
pub mod host;
pub mod layer;
pub mod ledger;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod name;
#[doc(hidden)]
pub mod pattern;
pub mod platform;
pub mod range;
pub mod registry;
pub mod retention;
#[doc(hidden)]
pub mod route;
pub mod settings;
pub mod store;
pub mod tier;
pub mod time;
#[doc(hidden)]
pub mod upload;
pub mod upstream;
