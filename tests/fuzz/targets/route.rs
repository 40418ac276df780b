//! Routes: no request panics, and a parsed operation, formatted again, parses to itself.

use std::fmt::Write as _;

use http::Method;
use strata::{
    end_point::EndPoint,
    name::Reference,
    route::{
        InRepository as In, InspectOperation as Inspect, ListOperation as List, Operation, PathPage,
        RegistryOperation as Registry, TOKEN_PATH, UploadOperation as Upload, UploadStart,
    },
};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] = &[
    b"/v2/",
    b"/blobs/",
    b"/blobs/uploads/",
    b"/manifests/",
    b"/tags/list",
    b"/referrers/",
    b"/_strata/layers/",
    b"/_strata/images/",
    b"/files/",
    b"/v2/_strata/",
    b"sweep",
    b"scrub",
    b"/v2/_catalog",
    b"?n=",
    b"&last=",
    b"mount=",
    b"&from=",
    b"digest=",
    b"%2F",
    b"%FF",
    b"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"00112233445566778899aabbccddeeff",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    [
        "/v2/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/v2/_oci/ext/discover",
        "/v2/_catalog?n=3&last=a/b",
        "/v2/a/b/tags/list?n=10&last=v1",
        "/v2/a/manifests/v1.2?tag=a&tag=b",
        "/v2/a/manifests/DIGEST",
        "/v2/a/blobs/DIGEST",
        "/v2/a/blobs/uploads/?mount=DIGEST&from=b/c",
        "/v2/a/blobs/uploads/?digest=DIGEST",
        "/v2/a/blobs/uploads/?digest-algorithm=sha512",
        "/v2/a/blobs/uploads/00112233445566778899aabbccddeeff?step=3&digest=DIGEST",
        "/v2/a/referrers/DIGEST?artifactType=a%2Fb&n=1&last=DIGEST",
        "/v2/_strata/token?scope=repository:a:pull&service=strata",
        "/v2/_strata/sweep?dry-run&max=3&cursor=abc",
        "/v2/_strata/scrub?dry-run=1&digest=DIGEST",
        "/v2/_strata/blobs/DIGEST",
        "/v2/_strata/rights?cursor=a",
        "/v2/a/b/_strata/layers/DIGEST?n=5&last=%FFx&prefix=usr%2F",
        "/v2/a/b/_strata/layers/DIGEST/files/usr/lib%2Fx",
        "/v2/a/b/_strata/images/v1/files/etc?platform=linux%2Famd64",
        "/v2/a/_strata/invalidate?tag=v1",
    ]
    .iter()
    .map(|target| target.replace("DIGEST", DIGEST).into_bytes())
    .collect()
}

pub(crate) fn run(bytes: &[u8]) {
    let target = Input(bytes).text();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
        if let Ok(operation) = Operation::parse(&method, &target) {
            parsed(&method, &target, &operation);
        }
    }
}

fn parsed(method: &Method, target: &str, operation: &Operation) {
    let written = write(operation);
    match Operation::parse(method, &written) {
        Ok(again) => assert_eq!(again, *operation, "{target} written as {written}"),
        Err(error) => panic!("{target} written as {written}: {}", error.message()),
    }
    if let Operation::In(
        _,
        In::Inspect(
            Inspect::Layer { page, .. }
            | Inspect::LayerFile { page, .. }
            | Inspect::ImageFile { page, .. },
        ),
    ) = operation
    {
        assert_eq!(page.last, value(target, "last"), "the last path of {target}");
    }
    assert!(!EndPoint::of(operation).name.is_empty());
    if let Some(name) = operation.repository() {
        let moved = operation.clone().in_repository("other/name".parse().unwrap());
        assert_eq!(moved.repository().unwrap().as_str(), "other/name");
        assert_eq!(moved.in_repository(name.clone()), *operation);
    }
}

/// The value of a name in the query, decoded byte by byte: paths need not be UTF-8.
fn value(target: &str, name: &str) -> Option<Vec<u8>> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| *key == name)?.1.as_bytes();
    let digit = |at: usize| char::from(*value.get(at)?).to_digit(16);
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = value.get(at) {
        let (byte, length) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (b'+', ..) => (b' ', 1),
            (byte, ..) => (*byte, 1),
        };
        decoded.push(byte);
        at += length;
    }
    Some(decoded).filter(|decoded| !decoded.is_empty())
}

/// A query whose values are percent-encoded.
#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        let _ = write!(self.0, "{name}={}", encode(value.as_ref()));
    }

    fn add_some<T: ToString>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    fn page(&mut self, page: &PathPage) {
        self.add_some("n", page.limit.as_ref());
        if let Some(last) = &page.last {
            self.add("last", last);
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

/// A request target that parses to this operation.
fn write(operation: &Operation) -> String {
    let mut query = Query::default();
    let path = match operation {
        Operation::Registry(Registry::Version) => "/v2/".to_owned(),
        Operation::IssueToken { scopes } => {
            scopes.iter().for_each(|scope| query.add("scope", scope));
            TOKEN_PATH.to_owned()
        }
        Operation::Registry(Registry::ShowMetrics) => "/metrics".to_owned(),
        Operation::Registry(Registry::CheckHealth) => "/healthz".to_owned(),
        Operation::Registry(Registry::CheckReadiness) => "/readyz".to_owned(),
        Operation::Registry(Registry::ListExtensions) => "/v2/_oci/ext/discover".to_owned(),
        Operation::Registry(Registry::Sweep { is_dry, max, cursor }) => {
            query.add("dry-run", is_dry.to_string());
            query.add_some("max", max.as_ref());
            query.add_some("cursor", cursor.as_ref());
            "/v2/_strata/sweep".to_owned()
        }
        Operation::Registry(Registry::Scrub { is_dry, digest, cursor }) => {
            query.add("dry-run", is_dry.to_string());
            query.add_some("digest", digest.as_ref());
            query.add_some("cursor", cursor.as_ref());
            "/v2/_strata/scrub".to_owned()
        }
        Operation::Registry(Registry::ListHolders(digest)) => format!("/v2/_strata/blobs/{digest}"),
        Operation::Registry(Registry::ListDoubtfulRights { cursor }) => {
            query.add_some("cursor", cursor.as_ref());
            "/v2/_strata/rights".to_owned()
        }
        Operation::Registry(Registry::ListRepositories { limit, last }) => {
            query.add_some("n", limit.as_ref());
            query.add_some("last", last.as_ref());
            "/v2/_catalog".to_owned()
        }
        Operation::In(name, operation) => format!("/v2/{name}/{}", rest(operation, &mut query)),
    };
    path + &query.0
}

/// The rest of the path, after the repository.
fn rest(operation: &In, query: &mut Query) -> String {
    match operation {
        In::PullBlob(digest) | In::DeleteBlob(digest) => format!("blobs/{digest}"),
        In::PullManifest(reference) | In::DeleteManifest(reference) => format!("manifests/{}", shown(reference)),
        In::PushManifest { reference, tags } => {
            tags.iter().for_each(|tag| query.add("tag", tag.as_str()));
            format!("manifests/{}", shown(reference))
        }
        In::Upload(Upload::Start(start)) => {
            match start {
                UploadStart::Session { algorithm } => query.add("digest-algorithm", algorithm.as_str()),
                UploadStart::Whole(digest) => query.add("digest", digest.to_string()),
                UploadStart::Mount { digest, from } => {
                    query.add("mount", digest.to_string());
                    query.add_some("from", from.as_ref());
                }
            }
            "blobs/uploads/".to_owned()
        }
        In::Upload(Upload::Show(id) | Upload::Cancel(id)) => format!("blobs/uploads/{id}"),
        In::Upload(Upload::PushChunk { id, hint }) => {
            query.add("step", hint.to_string());
            format!("blobs/uploads/{id}")
        }
        In::Upload(Upload::Close { id, hint, digest }) => {
            query.add("step", hint.to_string());
            query.add_some("digest", digest.as_ref());
            format!("blobs/uploads/{id}")
        }
        In::List(List::Tags { limit, last }) => {
            query.add_some("n", limit.as_ref());
            query.add_some("last", last.as_ref());
            "tags/list".to_owned()
        }
        In::List(List::Referrers { subject, artifact_type, limit, last }) => {
            query.add_some("artifactType", artifact_type.as_ref());
            query.add_some("n", limit.as_ref());
            query.add_some("last", last.as_ref());
            format!("referrers/{subject}")
        }
        In::Inspect(Inspect::Layer { digest, prefix, page }) => {
            query.page(page);
            query.add("prefix", prefix);
            format!("_strata/layers/{digest}")
        }
        In::Inspect(Inspect::LayerFile { digest, path, page }) => {
            query.page(page);
            format!("_strata/layers/{digest}/files/{}", encode(path))
        }
        In::Inspect(Inspect::ImageFile { reference, platform, path, page }) => {
            query.page(page);
            query.add_some("platform", platform.as_ref());
            format!("_strata/images/{}/files/{}", shown(reference), encode(path))
        }
        In::Invalidate { tag } => {
            query.add_some("tag", tag.as_ref());
            "_strata/invalidate".to_owned()
        }
    }
}

fn shown(reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => tag.to_string(),
        Reference::Digest(digest) => digest.to_string(),
    }
}
