//! Keys of the bucket, written by hand: they must stay as they are in existing buckets, even if the
//! code changes.

use strata::{
    digest::Digest,
    name::{Name, Tag},
    upload::UploadId,
};

/// The prefix of blobs.
pub const BLOBS: &str = "blobs/";
/// The prefix of the claims of retention.
pub const CLAIMS: &str = "sweep/claims/";
/// The prefix of extents.
pub const EXTENTS: &str = "extents/";
/// The prefix of fills of mirrored blobs.
pub const FILLS: &str = "fills/";
/// The cursor of the scrub.
pub const SCRUB_CURSOR: &str = "sweep/scrub";
/// The cursor of the sweep.
pub const SWEEP_CURSOR: &str = "sweep/cursor";
/// The prefix of upload sessions.
pub const UPLOADS: &str = "uploads/";

/// The path of a digest, as in `sha256/…`.
fn path(digest: &Digest) -> String {
    digest.to_string().replace(':', "/")
}

/// The key of a blob.
pub fn blob(digest: &Digest) -> String {
    let encoded = digest.encoded();
    format!("blobs/{}/{}/{encoded}", digest.algorithm(), &encoded[..2])
}

/// The key of an extent, by its name.
pub fn extent(name: &str) -> String {
    format!("extents/{name}")
}

/// The name of an extent: its key after `extents/`.
pub fn extent_name(upload: UploadId, place: u64, nonce: &str) -> String {
    format!("{upload}/{place}-{nonce}")
}

/// The prefix of the grants of a repository on a blob.
pub fn grants(digest: &Digest, name: &Name) -> String {
    format!("refs/{}/{name}/_grants/", path(digest))
}

/// The key of a grant of a repository on a blob.
pub fn grant(digest: &Digest, name: &Name, id: &str) -> String {
    format!("{}{id}", grants(digest, name))
}

/// The key of the link of a repository to a blob.
pub fn link(digest: &Digest, name: &Name) -> String {
    format!("refs/{}/{name}/_link", path(digest))
}

/// The key of a manifest.
pub fn manifest(name: &Name, digest: &Digest) -> String {
    format!("repositories/{name}/_manifests/{}", path(digest))
}

/// The key of a tag.
pub fn tag(name: &Name, tag: &Tag) -> String {
    format!("repositories/{name}/_tags/{tag}")
}

/// The prefix of all referrers of a repository.
pub fn all_referrers(name: &Name) -> String {
    format!("repositories/{name}/_referrers/")
}

/// The key of a referrer.
pub fn referrer(name: &Name, subject: &Digest, manifest: &Digest, id: &str) -> String {
    let manifest = manifest.to_string().replace(':', "-");
    format!("{}{}/{manifest}-{id}", all_referrers(name), path(subject))
}

/// The key of a repository in the catalog.
pub fn catalog(name: &Name) -> String {
    format!("catalog/{name}")
}

/// The key of a step of an upload session.
pub fn step(name: &Name, upload: UploadId, number: u32) -> String {
    format!("uploads/{upload}/{name}/_{number:05}")
}

/// The upload session that a step or an extent belongs to.
pub fn upload_of(key: &str) -> Option<UploadId> {
    let rest = key
        .strip_prefix(UPLOADS)
        .or_else(|| key.strip_prefix(EXTENTS))?;
    rest.split('/').next()?.parse().ok()
}

/// The key of a fill of a mirrored blob.
pub fn fill(digest: &Digest, name: &Name) -> String {
    format!("fills/{}/{name}", path(digest))
}

/// The prefix of the objects that are derived from a layer.
pub fn layer(digest: &Digest) -> String {
    format!("layers/{}/", path(digest))
}

/// The key of the index of a layer.
pub fn index(digest: &Digest) -> String {
    format!("{}index", layer(digest))
}

/// The key of the pages of an index.
pub fn pages(digest: &Digest) -> String {
    format!("{}pages", layer(digest))
}

/// The key of an object with stored spans of a layer.
pub fn stored(digest: &Digest, number: u32) -> String {
    format!("{}spans/{number:05}", layer(digest))
}

/// The key of the saved state of a pass over a layer.
pub fn indexing(digest: &Digest) -> String {
    format!("indexing/{}", path(digest))
}

/// The key of a mark of the sweep.
pub fn mark(digest: &Digest) -> String {
    format!("sweep/marks/{}", path(digest))
}

/// The key of the claim of retention on a manifest.
pub fn claim(name: &Name, digest: &Digest) -> String {
    format!("sweep/claims/{name}/_{}", path(digest))
}
