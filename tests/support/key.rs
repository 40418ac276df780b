//! Keys of the bucket, spelled here by hand: buckets have these texts, whatever the code says.

use strata::{
    digest::Digest,
    name::{Name, Tag},
    upload::UploadId,
};

pub(crate) const BLOBS: &str = "blobs/";
pub(crate) const CLAIMS: &str = "sweep/claims/";
pub(crate) const EXTENTS: &str = "extents/";
pub(crate) const FILLS: &str = "fills/";
pub(crate) const SCRUB_CURSOR: &str = "sweep/scrub";
pub(crate) const SWEEP_CURSOR: &str = "sweep/cursor";
pub(crate) const UPLOADS: &str = "uploads/";

/// A digest as a path.
fn path(digest: &Digest) -> String {
    digest.to_string().replace(':', "/")
}

pub(crate) fn blob(digest: &Digest) -> String {
    let encoded = digest.encoded();
    format!("blobs/{}/{}/{encoded}", digest.algorithm(), &encoded[..2])
}

pub(crate) fn extent(name: &str) -> String {
    format!("extents/{name}")
}

/// The key of an extent after `extents/`.
pub(crate) fn extent_name(upload: UploadId, place: u64, nonce: &str) -> String {
    format!("{upload}/{place}-{nonce}")
}

/// The prefix of the grants of a repository on a blob.
pub(crate) fn grants(digest: &Digest, name: &Name) -> String {
    format!("refs/{}/{name}/_grants/", path(digest))
}

pub(crate) fn grant(digest: &Digest, name: &Name, id: &str) -> String {
    format!("{}{id}", grants(digest, name))
}

pub(crate) fn link(digest: &Digest, name: &Name) -> String {
    format!("refs/{}/{name}/_link", path(digest))
}

pub(crate) fn manifest(name: &Name, digest: &Digest) -> String {
    format!("repositories/{name}/_manifests/{}", path(digest))
}

pub(crate) fn tag(name: &Name, tag: &Tag) -> String {
    format!("repositories/{name}/_tags/{tag}")
}

/// The prefix of the referrers of a repository.
pub(crate) fn all_referrers(name: &Name) -> String {
    format!("repositories/{name}/_referrers/")
}

pub(crate) fn referrer(name: &Name, subject: &Digest, manifest: &Digest, id: &str) -> String {
    let manifest = manifest.to_string().replace(':', "-");
    format!("{}{}/{manifest}-{id}", all_referrers(name), path(subject))
}

pub(crate) fn catalog(name: &Name) -> String {
    format!("catalog/{name}")
}

pub(crate) fn step(name: &Name, upload: UploadId, number: u32) -> String {
    format!("uploads/{upload}/{name}/_{number:05}")
}

/// The upload of a step or an extent.
pub(crate) fn upload_of(key: &str) -> Option<UploadId> {
    let rest = key
        .strip_prefix(UPLOADS)
        .or_else(|| key.strip_prefix(EXTENTS))?;
    rest.split('/').next()?.parse().ok()
}

pub(crate) fn fill(digest: &Digest, name: &Name) -> String {
    format!("fills/{}/{name}", path(digest))
}

/// The prefix of all that is derived from a layer.
pub(crate) fn layer(digest: &Digest) -> String {
    format!("layers/{}/", path(digest))
}

pub(crate) fn index(digest: &Digest) -> String {
    format!("{}index", layer(digest))
}

pub(crate) fn pages(digest: &Digest) -> String {
    format!("{}pages", layer(digest))
}

pub(crate) fn stored(digest: &Digest, number: u32) -> String {
    format!("{}spans/{number:05}", layer(digest))
}

pub(crate) fn indexing(digest: &Digest) -> String {
    format!("indexing/{}", path(digest))
}

pub(crate) fn mark(digest: &Digest) -> String {
    format!("sweep/marks/{}", path(digest))
}

pub(crate) fn claim(name: &Name, digest: &Digest) -> String {
    format!("sweep/claims/{name}/_{}", path(digest))
}
