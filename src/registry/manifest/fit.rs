//! Refusing manifests whose content is missing, or has another size.

use serde_json::json as detail;

use crate::{
    error::{Code, Error},
    manifest::Manifest,
    name::Name,
    platform::Platform,
    registry::{grant::right::Unfit, manifest::Manifests},
    store::tiers::Wanted,
};

impl<P: Platform> Manifests<P> {
    /// Fails if a manifest names content that keeps it from being stored.
    ///
    /// Another isolate may have deleted content that this one has cached.
    /// A client that is told that the content is there would not push it again.
    pub(super) fn require_fit(
        &self,
        name: &Name,
        manifest: &Manifest,
        unfit: &[Unfit],
        may_pull: bool,
    ) -> Result<(), Error> {
        for unfit in unfit {
            if let Unfit::Missing(digest) = unfit {
                self.tiers.changed(if manifest.blobs.contains_key(digest) {
                    Wanted::Link(name, digest)
                } else {
                    Wanted::Manifest(name, digest)
                });
            }
        }
        require_fit(name, unfit, may_pull)
    }
}

/// Fails if a manifest names content that keeps it from being stored. The size of stored content
/// is a secret to a caller that may not pull it.
fn require_fit(name: &Name, unfit: &[Unfit], may_pull: bool) -> Result<(), Error> {
    let missing: Vec<String> = unfit
        .iter()
        .filter_map(|unfit| match unfit {
            Unfit::Missing(digest) => Some(digest.to_string()),
            Unfit::Size { .. } => None,
        })
        .collect();
    if !missing.is_empty() {
        let found = format!("{} in repository {name}; push it first", missing.join(", "));
        return Err(Error::new(Code::ManifestBlobUnknown, found)
            .with_detail(detail!({ "name": name.as_str(), "digests": missing })));
    }
    match unfit.first() {
        Some(Unfit::Size {
            digest,
            described,
            stored,
        }) if may_pull => {
            let found = format!(
                "{digest} has {stored} bytes, and its descriptor says {described}: correct the descriptor"
            );
            Err(Error::new(Code::SizeInvalid, found)
                .with_detail(detail!({ "digest": digest.to_string(), "size": stored })))
        }
        Some(Unfit::Size {
            digest, described, ..
        }) => {
            let found = format!(
                "{digest} has another size than its descriptor says, {described}: correct the descriptor"
            );
            Err(Error::new(Code::SizeInvalid, found)
                .with_detail(detail!({ "digest": digest.to_string() })))
        }
        Some(Unfit::Missing(_)) | None => Ok(()),
    }
}
