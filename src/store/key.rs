//! Keys of the cold tier, drawn once and made here only.
//!
//! ```text
//! blobs/<algorithm>/<xx>/<encoded>                         a blob: its bytes, a record of its extents, or a note that it was set aside
//! extents/<upload id>/<step>-<nonce>                       bytes of one body; written once, never moved
//! refs/<algorithm>/<encoded>/<name>/_grants/<unique id>    why a repository holds a blob
//! refs/<algorithm>/<encoded>/<name>/_link                  some grant exists and is no mere claim, and the blob's record
//! repositories/<name>/_manifests/<algorithm>/<encoded>     a manifest's bytes
//! repositories/<name>/_tags/<tag>                          the digest that a tag names, or a tombstone, which has no bytes
//! repositories/<name>/_referrers/<algorithm>/<encoded>/<manifest>-<unique id>
//!                                                          the descriptor of a manifest with this subject
//! catalog/<name>                                           a repository exists
//! uploads/<upload id>/<name>/_<step>                       one step of an upload
//! fills/<algorithm>/<encoded>/<name>                       a hint: the upload by which a blob of an upstream is being stored
//! layers/<algorithm>/<encoded>/index                       what is known of the inside of a layer: its index, or why it has none
//! layers/<algorithm>/<encoded>/pages                       what comes after the head of an index that is large
//! layers/<algorithm>/<encoded>/spans/<number>              spans of a layer that can't be read from the middle
//! indexing/<algorithm>/<encoded>                           a pass over a layer that is to go on
//! sweep/marks/<algorithm>/<encoded>                        the mark of a blob
//! sweep/claims/<name>/_<algorithm>/<encoded>               a manifest that goes by itself is being removed
//! sweep/cursor                                             how far the sweep has come
//! sweep/inventory                                          what there was, when it last came to its end
//! sweep/scrub                                              how far the scrub has come
//! sweep/passes                                             passes that the clock's trigger began and did not end
//! ```
//!
//! What the sweep lists side by side is in the same order: `blobs/`, `refs/`, `layers/` and the marks by digest, `uploads/` and
//! `extents/` by upload. `<xx>` is the first two characters of `<encoded>`, so that people can list the bucket by parts. Components of a name
//! can't begin with `_`: what begins with it ends the name, and no repository's keys are a prefix of another's.

use crate::{
    digest::Digest,
    name::{Name, Tag},
    upload::UploadId,
};

/// The prefix of every mark.
pub const MARKS: &str = "sweep/marks/";

/// The key of how far the sweep has come.
pub const SWEEP_CURSOR: &str = "sweep/cursor";

/// The key of what there was when the sweep last came to its end.
pub const SWEEP_INVENTORY: &str = "sweep/inventory";

/// The key of how far the scrub has come.
pub const SCRUB_CURSOR: &str = "sweep/scrub";

/// The key of the passes that the clock's trigger began and did not end.
pub const SWEEP_PASSES: &str = "sweep/passes";

/// The prefix of every blob.
pub const BLOBS: &str = "blobs/";

/// The prefix of every extent.
pub const EXTENTS: &str = "extents/";

/// The prefix of every grant and link.
pub const REFS: &str = "refs/";

/// The prefix of what repositories have beside blobs.
pub const REPOSITORIES: &str = "repositories/";

/// The prefix of the steps of all uploads.
pub const UPLOADS: &str = "uploads/";

/// The prefix of what is derived from layers.
pub const LAYERS: &str = "layers/";

/// The digest that a key names after its prefix: of a blob, a mark, what repositories have on a blob, or what is derived from it.
pub fn digest_of(key: &str) -> Option<Digest> {
    let rest = [MARKS, REFS, LAYERS]
        .iter()
        .find_map(|prefix| key.strip_prefix(prefix));
    let (algorithm, encoded) = match rest {
        Some(rest) => rest.split_once('/')?,
        None => {
            let (algorithm, rest) = key.strip_prefix(BLOBS)?.split_once('/')?;
            (algorithm, rest.split_once('/')?.1)
        }
    };
    let encoded = encoded.split('/').next()?;
    format!("{algorithm}:{encoded}").parse().ok()
}

/// The upload of a step or an extent.
pub fn upload_of(key: &str) -> Option<UploadId> {
    let rest = key
        .strip_prefix(UPLOADS)
        .or_else(|| key.strip_prefix(EXTENTS))?;
    rest.split('/').next()?.parse().ok()
}

/// The repository and the number of a step.
pub fn step_of(key: &str) -> Option<(Name, u32)> {
    let (_, rest) = key.strip_prefix(UPLOADS)?.split_once('/')?;
    let (name, number) = rest.split_once("/_")?;
    Some((name.parse().ok()?, number.parse().ok()?))
}

/// The prefix of the steps of an upload, whatever repository it is of.
pub fn chain(id: UploadId) -> String {
    format!("{UPLOADS}{id}/")
}

/// The prefix of the extents of an upload.
pub fn extents(id: UploadId) -> String {
    format!("{EXTENTS}{id}/")
}

/// The key of a blob.
pub fn blob(digest: &Digest) -> String {
    let encoded = digest.encoded();
    format!(
        "blobs/{}/{}/{encoded}",
        digest.algorithm(),
        encoded.get(..2).unwrap_or_default()
    )
}

/// The key of an extent, below `extents/`: as records name it. Its place is the number of the step that it came with, or, in what a
/// mirror fills, where in the blob it begins.
pub fn extent_name(upload: UploadId, place: u64, nonce: &str) -> String {
    format!("{upload}/{place}-{nonce}")
}

/// The key of an extent that a record names.
pub fn extent(name: &str) -> String {
    format!("extents/{name}")
}

/// The place of an extent, by its name.
pub fn extent_place(name: &str) -> Option<u64> {
    name.split_once('/')?.1.split_once('-')?.0.parse().ok()
}

/// The prefix of what all repositories have on a blob.
pub fn holders(digest: &Digest) -> String {
    format!("refs/{}/{}/", digest.algorithm(), digest.encoded())
}

/// The repository of a grant or a link, by what its key has after [`holders`].
pub fn holder(entry: &str) -> Option<Name> {
    entry
        .split_once("/_")
        .and_then(|(name, _)| name.parse().ok())
}

/// The prefix of the grants that a repository has on a blob.
pub fn grants(digest: &Digest, name: &Name) -> String {
    format!(
        "refs/{}/{}/{name}/_grants/",
        digest.algorithm(),
        digest.encoded()
    )
}

/// The key of one grant.
pub fn grant(digest: &Digest, name: &Name, id: &str) -> String {
    format!("{}{id}", grants(digest, name))
}

/// The key of the link from a repository to a blob.
pub fn link(digest: &Digest, name: &Name) -> String {
    format!(
        "refs/{}/{}/{name}/_link",
        digest.algorithm(),
        digest.encoded()
    )
}

/// The key of a manifest.
pub fn manifest(name: &Name, digest: &Digest) -> String {
    format!(
        "{}{}/{}",
        manifests(name),
        digest.algorithm(),
        digest.encoded()
    )
}

/// The prefix of the tags of a repository.
pub fn tags(name: &Name) -> String {
    format!("repositories/{name}/_tags/")
}

/// The key of a tag.
pub fn tag(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}", tags(name))
}

/// The tag of a key of a repository.
pub fn tag_of(name: &Name, key: &str) -> Option<Tag> {
    key.strip_prefix(&tags(name))?.parse().ok()
}

/// The prefix of the manifests of a repository.
pub fn manifests(name: &Name) -> String {
    format!("repositories/{name}/_manifests/")
}

/// The manifest of a key of a repository.
pub fn manifest_of(name: &Name, key: &str) -> Option<Digest> {
    let rest = key.strip_prefix(&manifests(name))?;
    rest.replacen('/', ":", 1).parse().ok()
}

/// The prefix of all entries of referrers in a repository.
pub fn all_referrers(name: &Name) -> String {
    format!("repositories/{name}/_referrers/")
}

/// The subject and the manifest of an entry among the referrers of a repository.
pub fn referrer_of(name: &Name, key: &str) -> Option<(Digest, Digest)> {
    let (subject, entry) = key.strip_prefix(&all_referrers(name))?.rsplit_once('/')?;
    let subject = subject.replacen('/', ":", 1).parse().ok()?;
    Some((subject, referrer_digest(entry)?))
}

/// The prefix of the claims of manifests that go by themselves.
pub const CLAIMS: &str = "sweep/claims/";

/// The key of the claim of one who removes a manifest.
pub fn claim(name: &Name, digest: &Digest) -> String {
    format!(
        "{CLAIMS}{name}/_{}/{}",
        digest.algorithm(),
        digest.encoded()
    )
}

/// The repository and the manifest of a claim.
pub fn claimed(key: &str) -> Option<(Name, Digest)> {
    let (name, digest) = key.strip_prefix(CLAIMS)?.rsplit_once("/_")?;
    let digest = digest.replacen('/', ":", 1).parse().ok()?;
    Some((name.parse().ok()?, digest))
}

/// The prefix of the entries of the referrers of a manifest.
pub fn referrers(name: &Name, subject: &Digest) -> String {
    format!(
        "{}{}/{}/",
        all_referrers(name),
        subject.algorithm(),
        subject.encoded()
    )
}

/// The key of the entry of one manifest among the referrers of its subject. Entries of one manifest stand side by side.
pub fn referrer(name: &Name, subject: &Digest, manifest: &Digest, id: &str) -> String {
    format!(
        "{}{}-{}-{id}",
        referrers(name, subject),
        manifest.algorithm(),
        manifest.encoded()
    )
}

/// The manifest of an entry among referrers, by what its key has after [`referrers`].
pub fn referrer_digest(entry: &str) -> Option<Digest> {
    let (manifest, _) = entry.rsplit_once('-')?;
    manifest.replacen('-', ":", 1).parse().ok()
}

/// A key after every entry of one manifest among referrers, and before those of the next.
pub fn after_referrer(name: &Name, subject: &Digest, manifest: &Digest) -> String {
    referrer(name, subject, manifest, "~")
}

/// The prefix of the catalogue.
pub const CATALOG: &str = "catalog/";

/// The key that says that a repository exists.
pub fn catalog(name: &Name) -> String {
    format!("{CATALOG}{name}")
}

/// The prefix of the steps of an upload.
pub fn upload(name: &Name, id: UploadId) -> String {
    format!("{}{name}/_", chain(id))
}

/// The key of one step of an upload; in the order of their keys, steps are in the order of their numbers.
pub fn step(name: &Name, id: UploadId, number: u32) -> String {
    format!("{}{number:05}", upload(name, id))
}

/// The prefix of hints at fills.
pub const FILLS: &str = "fills/";

/// The key of the hint at a fill that may have been interrupted.
pub fn fill(digest: &Digest, name: &Name) -> String {
    format!("{FILLS}{}/{}/{name}", digest.algorithm(), digest.encoded())
}

/// The key of the mark of a blob.
pub fn mark(digest: &Digest) -> String {
    format!("{MARKS}{}/{}", digest.algorithm(), digest.encoded())
}

/// The prefix of all that is derived from a layer.
pub fn layer(digest: &Digest) -> String {
    format!("layers/{}/{}/", digest.algorithm(), digest.encoded())
}

/// The key of what is known of the inside of a layer.
pub fn index(digest: &Digest) -> String {
    format!("{}index", layer(digest))
}

/// The key of the rest of an index whose head stands alone.
pub fn pages(digest: &Digest) -> String {
    format!("{}pages", layer(digest))
}

/// The key of an object of stored spans.
pub fn stored(digest: &Digest, number: u32) -> String {
    format!("{}spans/{number:05}", layer(digest))
}

/// The name of a span in the other tiers: the cold one has no such key.
pub fn span(digest: &Digest, first: u64, end: u64) -> String {
    format!("{}archive/{first}-{end}", layer(digest))
}

/// The prefix of the passes that are to go on.
pub const INDEXING: &str = "indexing/";

/// The key of a pass over a layer that is to go on.
pub fn indexing(digest: &Digest) -> String {
    format!("{INDEXING}{}/{}", digest.algorithm(), digest.encoded())
}

/// The layer of a pass, by what its key has after [`INDEXING`].
pub fn indexing_digest(rest: &str) -> Option<Digest> {
    rest.replacen('/', ":", 1).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn are_as_drawn() {
        let digest: Digest = format!("sha256:{HASH}").parse().unwrap();
        let name: Name = "library/alpine".parse().unwrap();
        let id = UploadId::new([7; 16]);
        let id_text = "07".repeat(16);
        assert_eq!(blob(&digest), format!("blobs/sha256/e3/{HASH}"));
        assert_eq!(
            extent(&extent_name(id, 1, "ff")),
            format!("extents/{id_text}/1-ff")
        );
        assert_eq!(
            grant(&digest, &name, "g"),
            format!("refs/sha256/{HASH}/library/alpine/_grants/g")
        );
        assert_eq!(
            link(&digest, &name),
            format!("refs/sha256/{HASH}/library/alpine/_link")
        );
        assert_eq!(
            manifest(&name, &digest),
            format!("repositories/library/alpine/_manifests/sha256/{HASH}")
        );
        assert_eq!(
            tag(&name, &"latest".parse().unwrap()),
            "repositories/library/alpine/_tags/latest"
        );
        assert_eq!(
            referrer(&name, &digest, &digest, "r"),
            format!("repositories/library/alpine/_referrers/sha256/{HASH}/sha256-{HASH}-r")
        );
        assert_eq!(catalog(&name), "catalog/library/alpine");
        assert_eq!(
            step(&name, id, 3),
            format!("uploads/{id_text}/library/alpine/_00003")
        );
        assert_eq!(mark(&digest), format!("sweep/marks/sha256/{HASH}"));
    }

    #[test]
    fn are_read_as_made() {
        let digest: Digest = format!("sha256:{HASH}").parse().unwrap();
        let name: Name = "library/alpine".parse().unwrap();
        let id = UploadId::new([7; 16]);
        for key in [
            blob(&digest),
            mark(&digest),
            grant(&digest, &name, "g"),
            link(&digest, &name),
            index(&digest),
            stored(&digest, 1),
        ] {
            assert_eq!(digest_of(&key).as_ref(), Some(&digest), "{key}");
        }
        for key in [step(&name, id, 3), extent(&extent_name(id, 3, "ff"))] {
            assert_eq!(upload_of(&key), Some(id), "{key}");
        }
        assert_eq!(step_of(&step(&name, id, 3)), Some((name.clone(), 3)));
        let entry = referrer(&name, &digest, &digest, "r");
        assert_eq!(
            referrer_of(&name, &entry),
            Some((digest.clone(), digest.clone()))
        );
        assert_eq!(
            manifest_of(&name, &manifest(&name, &digest)),
            Some(digest.clone())
        );
        assert_eq!(
            claimed(&claim(&name, &digest)),
            Some((name.clone(), digest.clone()))
        );
        assert_eq!(
            tag_of(&name, &tag(&name, &"v1".parse().unwrap())),
            "v1".parse().ok()
        );
        for key in ["", "blobs/", "blobs/sha256/e3", "refs/md5/x/", "catalog/a"] {
            assert_eq!(digest_of(key), None, "{key}");
            assert_eq!(upload_of(key), None, "{key}");
            assert_eq!(step_of(key), None, "{key}");
        }
    }

    #[test]
    fn of_what_is_derived_from_a_layer_are_below_it() {
        let digest: Digest = format!("sha256:{HASH}").parse().unwrap();
        let below = format!("layers/sha256/{HASH}");
        assert_eq!(layer(&digest), format!("{below}/"));
        assert_eq!(index(&digest), format!("{below}/index"));
        assert_eq!(pages(&digest), format!("{below}/pages"));
        assert_eq!(stored(&digest, 12), format!("{below}/spans/00012"));
        assert_eq!(span(&digest, 3, 9), format!("{below}/archive/3-9"));
        let indexing = indexing(&digest);
        assert_eq!(indexing, format!("indexing/sha256/{HASH}"));
        let rest = indexing.strip_prefix(INDEXING).unwrap();
        assert_eq!(indexing_digest(rest), Some(digest));
        for rest in [
            "",
            "sha256",
            "sha256/",
            "md5/x",
            &format!("sha256/{HASH}/x"),
        ] {
            assert_eq!(indexing_digest(rest), None, "{rest}");
        }
    }

    #[test]
    fn of_the_warm_tier_are_no_longer_than_it_takes() {
        let digest: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        assert!(span(&digest, u64::MAX - 1, u64::MAX).len() <= 512);
        assert!(index(&digest).len() <= 512);
    }

    #[test]
    fn fit_into_a_kibibyte() {
        let digest: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        let name: Name = "a".repeat(Name::MAX_LENGTH).parse().unwrap();
        let tag_name: Tag = "t".repeat(Tag::MAX_LENGTH).parse().unwrap();
        let id = "0".repeat(32);
        for key in [
            grant(&digest, &name, &id),
            referrer(&name, &digest, &digest, &id),
            tag(&name, &tag_name),
            step(&name, UploadId::new([0; 16]), 99_999),
        ] {
            assert!(key.len() <= 1_024, "{key}");
        }
    }

    #[test]
    fn of_one_repository_are_no_prefix_of_anothers() {
        let digest: Digest = format!("sha256:{HASH}").parse().unwrap();
        let (short, long): (Name, Name) = ("a".parse().unwrap(), "a/b".parse().unwrap());
        assert!(!grants(&digest, &long).starts_with(&grants(&digest, &short)));
        assert!(!tags(&long).starts_with(&tags(&short)));
        assert!(
            !upload(&long, UploadId::new([0; 16]))
                .starts_with(&upload(&short, UploadId::new([0; 16])))
        );
    }
}
