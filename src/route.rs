//! Routes: which end-point of the specification a request is for.
//!
//! ```text
//! end-1                 GET HEAD             /v2/
//! end-2, -10            GET HEAD DELETE      /v2/<name>/blobs/<digest>
//! end-3, -7, -9         GET HEAD PUT DELETE  /v2/<name>/manifests/<reference>  ?tag= &tag=
//! end-4, -11            POST                 /v2/<name>/blobs/uploads/         ?digest= | ?mount= &from= | ?digest-algorithm=
//! end-5, -6, -13, -14   GET PATCH PUT DELETE /v2/<name>/blobs/uploads/<id>     ?digest= &step=
//! end-8                 GET HEAD             /v2/<name>/tags/list              ?n= &last=
//! end-12                GET HEAD             /v2/<name>/referrers/<digest>     ?artifactType= &n= &last=
//! -                     GET HEAD             /v2/_catalog                      ?n= &last=
//! -                     GET HEAD             /v2/_oci/ext/discover
//! -                     GET HEAD             /v2/<name>/_strata/layers/<digest>                  ?prefix= &n= &last=
//! -                     GET HEAD             /v2/<name>/_strata/layers/<digest>/files/<path>     ?n= &last=
//! -                     GET HEAD             /v2/<name>/_strata/images/<reference>/files/<path>  ?platform= &n= &last=
//! -                     POST                 /v2/<name>/_strata/invalidate    ?tag=
//! -                     POST                 /v2/_strata/sweep                ?dry-run= &max= &cursor=
//! -                     POST                 /v2/_strata/scrub                ?dry-run= &digest= &cursor=
//! -                     GET HEAD             /v2/_strata/blobs/<digest>
//! -                     GET HEAD             /v2/_strata/rights               ?cursor=
//! -                     GET HEAD POST        /v2/_strata/token                ?service= &scope= &scope=
//! -                     GET HEAD             /metrics
//! ```
//!
//! The numbers are those of distribution-spec v1.1.1 and, from end-13 on, of its main branch; the catalogue is Docker's.
//! A component of a name can't begin with `_`: what does is an extension (`extensions/README.md` of the specification). A path
//! in a layer or an image is bytes, percent-encoded; one that is empty or ends with a slash is a directory to be listed.
//!
//! A name may itself have components such as `blobs` or `uploads`, so a path is read from its end.

use std::{borrow::Cow, str::FromStr};

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error},
    name::{Name, Reference, Tag},
    upload::UploadId,
};

/// Where tokens are given.
pub const TOKEN_PATH: &str = "/v2/_strata/token";

/// An end-point, with what its path and query name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// end-1: whether this is a registry.
    Version,
    /// A token, for who signs in.
    Token {
        /// What it is to be for.
        scopes: Vec<String>,
    },
    /// What this isolate has seen and done.
    Metrics,
    /// The extensions that there are.
    Extensions,
    /// The table of contents of a layer.
    Layer {
        /// The repository.
        name: Name,
        /// The layer.
        digest: Digest,
        /// List paths that begin with these bytes only.
        prefix: Vec<u8>,
        /// Which of them.
        page: PathPage,
    },
    /// A file of a layer, or what is in one of its directories.
    LayerFile {
        /// The repository.
        name: Name,
        /// The layer.
        digest: Digest,
        /// The path in the layer.
        path: Vec<u8>,
        /// What is listed of a directory.
        page: PathPage,
    },
    /// A file of an image, or what is in one of its directories.
    ImageFile {
        /// The repository.
        name: Name,
        /// The image, or an index of images.
        reference: Reference,
        /// Which of the images of an index, as `os/architecture` or `os/architecture/variant`.
        platform: Option<String>,
        /// The path in the image.
        path: Vec<u8>,
        /// What is listed of a directory.
        page: PathPage,
    },
    /// What is mirrored is asked for again.
    Invalidate {
        /// The repository.
        name: Name,
        /// The tag; without one, all of the repository.
        tag: Option<Tag>,
    },
    /// A step of the sweep.
    Sweep {
        /// Whether nothing is to be removed, and only told.
        is_dry: bool,
        /// After how many removals nothing else is begun.
        max: Option<u64>,
        /// Where a dry run goes on.
        cursor: Option<String>,
    },
    /// A step of the scrub.
    Scrub {
        /// Whether nothing is to be repaired, and only told.
        is_dry: bool,
        /// The only blob that is looked at.
        digest: Option<Digest>,
        /// Where a dry run goes on.
        cursor: Option<String>,
    },
    /// Who holds a blob.
    Holders {
        /// The blob.
        digest: Digest,
    },
    /// Which repositories may have rights that older versions gave by the word of an upstream.
    Rights {
        /// Where the request before ended.
        cursor: Option<String>,
    },
    /// The catalogue: the names of all repositories.
    Catalog {
        /// The most names to list.
        limit: Option<u64>,
        /// List names after this one only.
        last: Option<Name>,
    },
    /// end-2, end-10: a blob.
    Blob {
        /// The repository.
        name: Name,
        /// The blob.
        digest: Digest,
    },
    /// end-3, end-7, end-9: a manifest.
    Manifest {
        /// The repository.
        name: Name,
        /// The manifest.
        reference: Reference,
        /// Tags that a pushed manifest gets beside its reference (end-7b).
        tags: Vec<Tag>,
    },
    /// end-4, end-11: the start of an upload.
    StartUpload {
        /// The repository.
        name: Name,
        /// What the upload begins with.
        start: UploadStart,
    },
    /// end-5, end-6, end-13, end-14: an upload under way.
    Upload {
        /// The repository.
        name: Name,
        /// The upload.
        id: UploadId,
        /// The last step the client knows of: a hint that saves a listing.
        step: u32,
        /// The digest of the blob that ends here.
        digest: Option<Digest>,
    },
    /// end-8: the tags of a repository.
    Tags {
        /// The repository.
        name: Name,
        /// The most tags to list.
        limit: Option<u64>,
        /// List tags after this one only.
        last: Option<Tag>,
    },
    /// end-12: the manifests that name a manifest as their subject.
    Referrers {
        /// The repository.
        name: Name,
        /// The manifest that they name.
        subject: Digest,
        /// List manifests of this artifact type only.
        artifact_type: Option<String>,
        /// The most manifests to list.
        limit: Option<u64>,
        /// List manifests after this one only.
        last: Option<Digest>,
    },
}

/// Which part of a list of paths is wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathPage {
    /// The most paths or names to list.
    pub limit: Option<u64>,
    /// List what comes after this one only.
    pub last: Option<Vec<u8>>,
}

/// What a client says when it starts an upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UploadStart {
    /// The blob comes later.
    Session {
        /// The algorithm that it will be named with (end-4c).
        algorithm: Algorithm,
    },
    /// The blob comes whole with this request (end-4b).
    Whole(Digest),
    /// The blob is there already, in another repository (end-11).
    Mount {
        /// The blob.
        digest: Digest,
        /// The repository that has it; where the client does not know, any.
        from: Option<Name>,
    },
}

impl Route {
    /// Reads a path, with its query where there is one.
    pub fn parse(target: &str) -> Result<Self, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == TOKEN_PATH {
            let scopes = scopes(query.as_bytes());
            return Ok(Self::Token { scopes });
        }
        if let Some(rest) = path.strip_prefix("/v2/_strata/") {
            return Self::parse_registry(rest, query).ok_or_else(|| unknown(path))?;
        }
        if let Some((name, rest)) = path.split_once("/_strata/") {
            return Self::parse_strata(name, rest, query).ok_or_else(|| unknown(path))?;
        }
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| unknown(path))?;
        if path == "/metrics" {
            return Ok(Self::Metrics);
        }
        let Some(rest) = path.strip_prefix("/v2") else {
            return Err(unknown(&path));
        };
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Version);
        }
        let Some(rest) = rest.strip_prefix('/') else {
            return Err(unknown(&path));
        };
        let query = Query::parse(query);
        if rest == "_oci/ext/discover" {
            return Ok(Self::Extensions);
        }
        if rest == "_catalog" {
            return Ok(Self::Catalog {
                limit: query.number("n")?,
                last: query.parsed("last")?,
            });
        }

        // The last three segments decide; what is before them is the name.
        let (rest, last) = rest.rsplit_once('/').ok_or_else(|| unknown(&path))?;
        let (before, word) = rest.rsplit_once('/').unwrap_or(("", rest));
        match (word, last) {
            ("tags", "list") => Ok(Self::Tags {
                name: before.parse()?,
                limit: query.number("n")?,
                last: query.parsed("last")?,
            }),
            ("manifests", reference) => Ok(Self::Manifest {
                name: before.parse()?,
                reference: reference.parse()?,
                tags: query.tags()?,
            }),
            ("referrers", subject) => Ok(Self::Referrers {
                name: before.parse()?,
                subject: subject.parse()?,
                artifact_type: query.get("artifactType").map(str::to_owned),
                limit: query.number("n")?,
                last: query.parsed("last")?,
            }),
            ("blobs", "uploads") => Ok(Self::StartUpload {
                name: before.parse()?,
                start: query.start()?,
            }),
            ("blobs", digest) => Ok(Self::Blob {
                name: before.parse()?,
                digest: digest.parse()?,
            }),
            ("uploads", last) => {
                let name = before
                    .strip_suffix("/blobs")
                    .ok_or_else(|| unknown(&path))?
                    .parse()?;
                if last.is_empty() {
                    return Ok(Self::StartUpload {
                        name,
                        start: query.start()?,
                    });
                }
                let digest = query.parsed("digest")?;
                let id = last.parse().map_err(|_| {
                    let found = format!("{last:?} is not an upload of this registry");
                    Error::new(Code::BlobUploadUnknown, found)
                })?;
                let step = query
                    .get("step")
                    .and_then(|step| step.parse().ok())
                    .unwrap_or_default();
                Ok(Self::Upload {
                    name,
                    id,
                    step,
                    digest,
                })
            }
            _ => Err(unknown(&path)),
        }
    }

    /// Reads what comes after `/v2/_strata/`.
    fn parse_registry(rest: &str, query: &str) -> Option<Result<Self, Error>> {
        let query = Query::parse(query);
        if rest == "sweep" {
            let made = || {
                Ok(Self::Sweep {
                    is_dry: query.flag("dry-run")?,
                    max: query.number("max")?,
                    cursor: query.get("cursor").map(str::to_owned),
                })
            };
            return Some(made());
        }
        if rest == "scrub" {
            let made = || {
                Ok(Self::Scrub {
                    is_dry: query.flag("dry-run")?,
                    digest: query.parsed("digest")?,
                    cursor: query.get("cursor").map(str::to_owned),
                })
            };
            return Some(made());
        }
        if rest == "rights" {
            let cursor = query.get("cursor").map(str::to_owned);
            return Some(Ok(Self::Rights { cursor }));
        }
        let digest = percent_decode_str(rest.strip_prefix("blobs/")?)
            .decode_utf8()
            .ok()?;
        let digest = digest.parse().map_err(Error::from);
        Some(digest.map(|digest| Self::Holders { digest }))
    }

    /// Reads what comes before and after `/_strata/`.
    fn parse_strata(name: &str, rest: &str, query: &str) -> Option<Result<Self, Error>> {
        let name = percent_decode_str(name.strip_prefix("/v2/")?)
            .decode_utf8()
            .ok()?;
        if rest == "invalidate" {
            let made = || {
                Ok(Self::Invalidate {
                    name: name.parse()?,
                    tag: Query::parse(query).parsed("tag")?,
                })
            };
            return Some(made());
        }
        let (kind, rest) = rest.split_once('/')?;
        let (of, path) = match rest.split_once('/') {
            None => (rest, None),
            Some((of, "files")) => (of, Some("")),
            Some((of, path)) => (of, Some(path.strip_prefix("files/")?)),
        };
        let of = percent_decode_str(of).decode_utf8().ok()?;
        let path = path.map(|path| percent_decode_str(path).collect());
        let words = Query::parse(query);
        let made = || {
            let name = name.parse()?;
            let page = PathPage {
                limit: words.number("n")?,
                last: query_bytes(query, "last"),
            };
            Ok(match (kind, path) {
                ("layers", None) => Some(Self::Layer {
                    name,
                    digest: of.parse()?,
                    prefix: query_bytes(query, "prefix").unwrap_or_default(),
                    page,
                }),
                ("layers", Some(path)) => Some(Self::LayerFile {
                    name,
                    digest: of.parse()?,
                    path,
                    page,
                }),
                ("images", Some(path)) => Some(Self::ImageFile {
                    name,
                    reference: of.parse()?,
                    platform: words.get("platform").map(str::to_owned),
                    path,
                    page,
                }),
                _ => None,
            })
        };
        made().transpose()
    }

    /// The methods of the end-point, as the `Allow` header lists them.
    pub const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Version
            | Self::Metrics
            | Self::Extensions
            | Self::Holders { .. }
            | Self::Rights { .. }
            | Self::Catalog { .. }
            | Self::Layer { .. }
            | Self::LayerFile { .. }
            | Self::ImageFile { .. }
            | Self::Tags { .. }
            | Self::Referrers { .. } => &[Method::GET, Method::HEAD],
            Self::Blob { .. } => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Manifest { .. } => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::StartUpload { .. }
            | Self::Invalidate { .. }
            | Self::Sweep { .. }
            | Self::Scrub { .. } => &[Method::POST],
            Self::Token { .. } => &[Method::GET, Method::HEAD, Method::POST],
            Self::Upload { .. } => &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }

    /// The name by which metrics and the log call the end-point.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Token { .. } => "token",
            Self::Metrics => "metrics",
            Self::Extensions => "extensions",
            Self::Invalidate { .. } => "invalidate",
            Self::Sweep { .. } => "sweep",
            Self::Scrub { .. } => "scrub",
            Self::Holders { .. } => "holders",
            Self::Rights { .. } => "rights",
            Self::Catalog { .. } => "catalog",
            Self::Layer { .. } => "layer",
            Self::LayerFile { .. } => "layer_file",
            Self::ImageFile { .. } => "image_file",
            Self::Blob { .. } => "blob",
            Self::Manifest { .. } => "manifest",
            Self::StartUpload { .. } => "start_upload",
            Self::Upload { .. } => "upload",
            Self::Tags { .. } => "tags",
            Self::Referrers { .. } => "referrers",
        }
    }

    /// The same end-point of another repository.
    pub fn in_repository(mut self, other: Name) -> Self {
        match &mut self {
            Self::Version
            | Self::Token { .. }
            | Self::Metrics
            | Self::Extensions
            | Self::Sweep { .. }
            | Self::Scrub { .. }
            | Self::Holders { .. }
            | Self::Rights { .. }
            | Self::Catalog { .. } => {}
            Self::Blob { name, .. }
            | Self::Layer { name, .. }
            | Self::LayerFile { name, .. }
            | Self::ImageFile { name, .. }
            | Self::Invalidate { name, .. }
            | Self::Manifest { name, .. }
            | Self::StartUpload { name, .. }
            | Self::Upload { name, .. }
            | Self::Tags { name, .. }
            | Self::Referrers { name, .. } => *name = other,
        }
        self
    }

    /// The repository that it is about.
    pub const fn repository(&self) -> Option<&Name> {
        match self {
            Self::Version
            | Self::Token { .. }
            | Self::Metrics
            | Self::Extensions
            | Self::Sweep { .. }
            | Self::Scrub { .. }
            | Self::Holders { .. }
            | Self::Rights { .. }
            | Self::Catalog { .. } => None,
            Self::Blob { name, .. }
            | Self::Layer { name, .. }
            | Self::LayerFile { name, .. }
            | Self::ImageFile { name, .. }
            | Self::Invalidate { name, .. }
            | Self::Manifest { name, .. }
            | Self::StartUpload { name, .. }
            | Self::Upload { name, .. }
            | Self::Tags { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }
}

/// The registry that a client means, where it asks a mirror of several: the parameter `ns` of the query.
pub(crate) fn namespace(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    Query::parse(query).get("ns").map(str::to_owned)
}

/// The scopes of a query or a form: several by name, or several in one, with spaces between.
pub(crate) fn scopes(form: &[u8]) -> Vec<String> {
    form_urlencoded::parse(form)
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, scopes)| {
            scopes
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The pairs of a query string, percent-decoded.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_ref())
            .filter(|value| !value.is_empty())
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Error>
    where
        Error: From<T::Err>,
    {
        Ok(self.get(name).map(str::parse).transpose()?)
    }

    fn start(&self) -> Result<UploadStart, Error> {
        if let Some(digest) = self.parsed("digest")? {
            return Ok(UploadStart::Whole(digest));
        }
        if let Some(digest) = self.parsed("mount")? {
            return Ok(UploadStart::Mount {
                digest,
                from: self.parsed("from")?,
            });
        }
        Ok(UploadStart::Session {
            algorithm: self.parsed("digest-algorithm")?.unwrap_or_default(),
        })
    }

    fn tags(&self) -> Result<Vec<Tag>, Error> {
        let tags = self
            .0
            .iter()
            .filter(|(key, _)| key == "tag")
            .map(|(_, value)| value.parse());
        Ok(tags.collect::<Result<_, _>>()?)
    }

    /// Whether something is asked for: by its name alone, or with a word that says so.
    fn flag(&self, name: &str) -> Result<bool, Error> {
        let value = self.0.iter().find(|(key, _)| key == name);
        match value.map(|(_, value)| value.as_ref()) {
            Some("" | "true" | "1") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(_) => Err(Error::new(
                Code::Unsupported,
                format!("query parameter {name} is neither true nor false"),
            )
            .with_status(StatusCode::BAD_REQUEST)),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        self.get(name).map(str::parse).transpose().map_err(|_| {
            Error::new(
                Code::Unsupported,
                format!("query parameter {name} is not a number"),
            )
            .with_status(StatusCode::BAD_REQUEST)
        })
    }
}

/// A parameter of the query that need not be text.
fn query_bytes(query: &str, name: &str) -> Option<Vec<u8>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let spaced = value.replace('+', " ");
    Some(percent_decode_str(&spaced).collect()).filter(|bytes: &Vec<u8>| !bytes.is_empty())
}

fn unknown(path: &str) -> Error {
    Error::new(Code::Unsupported, format!("no end-point at {path:?}"))
        .with_status(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ID: &str = "00112233445566778899aabbccddeeff";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[track_caller]
    fn parses(target: &str, route: Route) {
        assert_eq!(
            Route::parse(target).map_err(|error| error.message()),
            Ok(route),
            "{target}"
        );
    }

    #[track_caller]
    fn refuses(target: &str, code: Code, status: u16, message: &str) {
        let error = Route::parse(target).unwrap_err();
        assert_eq!(
            (
                error.code(),
                error.status().as_u16(),
                error.message().as_str()
            ),
            (code, status, message),
            "{target}"
        );
    }

    #[test]
    fn parses_every_end_point() {
        let digest: Digest = DIGEST.parse().unwrap();
        let id: UploadId = ID.parse().unwrap();
        parses("/v2", Route::Version);
        parses("/v2/", Route::Version);
        parses("/v2/?x=y", Route::Version);
        for text in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/e/f"] {
            let name = name(text);
            parses(
                &format!("/v2/{text}/blobs/{DIGEST}"),
                Route::Blob {
                    name: name.clone(),
                    digest: digest.clone(),
                },
            );
            parses(
                &format!("/v2/{text}/manifests/{DIGEST}"),
                Route::Manifest {
                    name: name.clone(),
                    reference: Reference::Digest(digest.clone()),
                    tags: Vec::new(),
                },
            );
            parses(
                &format!("/v2/{text}/manifests/v1"),
                Route::Manifest {
                    name: name.clone(),
                    reference: "v1".parse().unwrap(),
                    tags: Vec::new(),
                },
            );
            parses(
                &format!("/v2/{text}/tags/list"),
                Route::Tags {
                    name: name.clone(),
                    limit: None,
                    last: None,
                },
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/"),
                Route::StartUpload {
                    name: name.clone(),
                    start: UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    },
                },
            );
            parses(
                &format!("/v2/{text}/blobs/uploads"),
                Route::StartUpload {
                    name: name.clone(),
                    start: UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    },
                },
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/{ID}"),
                Route::Upload {
                    name,
                    id,
                    step: 0,
                    digest: None,
                },
            );
        }
    }

    #[test]
    fn parses_queries() {
        let digest: Digest = DIGEST.parse().unwrap();
        let id: UploadId = ID.parse().unwrap();
        let encoded = DIGEST.replace(':', "%3A");
        parses(
            &format!("/v2/a/blobs/uploads/?digest={encoded}"),
            Route::StartUpload {
                name: name("a"),
                start: UploadStart::Whole(digest.clone()),
            },
        );
        parses(
            &format!("/v2/a/blobs/uploads/{ID}?step=3&digest={encoded}"),
            Route::Upload {
                name: name("a"),
                id,
                step: 3,
                digest: Some(digest),
            },
        );
        parses(
            &format!("/v2/a/blobs/uploads/{ID}?step=x&digest="),
            Route::Upload {
                name: name("a"),
                id,
                step: 0,
                digest: None,
            },
        );
        parses(
            "/v2/a/tags/list?n=10&last=v1",
            Route::Tags {
                name: name("a"),
                limit: Some(10),
                last: Some("v1".parse().unwrap()),
            },
        );
    }

    #[test]
    fn reads_a_path_from_its_end() {
        let digest: Digest = DIGEST.parse().unwrap();
        for text in [
            "blobs",
            "uploads",
            "manifests",
            "tags",
            "blobs/uploads",
            "tags/list",
            "v2",
            "a/blobs/uploads/b",
        ] {
            parses(
                &format!("/v2/{text}/blobs/{DIGEST}"),
                Route::Blob {
                    name: name(text),
                    digest: digest.clone(),
                },
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/"),
                Route::StartUpload {
                    name: name(text),
                    start: UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    },
                },
            );
            parses(
                &format!("/v2/{text}/tags/list"),
                Route::Tags {
                    name: name(text),
                    limit: None,
                    last: None,
                },
            );
            parses(
                &format!("/v2/{text}/manifests/list"),
                Route::Manifest {
                    name: name(text),
                    reference: "list".parse().unwrap(),
                    tags: Vec::new(),
                },
            );
        }
    }

    #[test]
    fn decodes_percents() {
        parses(
            &format!("/v2/a%2Fb/blobs/{}", DIGEST.replace(':', "%3a")),
            Route::Blob {
                name: name("a/b"),
                digest: DIGEST.parse().unwrap(),
            },
        );
        refuses(
            "/v2/%ff/tags/list",
            Code::Unsupported,
            404,
            "the operation is unsupported: no end-point at \"/v2/%ff/tags/list\"",
        );
    }

    #[test]
    fn parses_what_looks_into_layers_and_images() {
        let digest: Digest = DIGEST.parse().unwrap();
        parses("/v2/_oci/ext/discover", Route::Extensions);
        for text in ["a", "a/b/c", "files", "layers/images"] {
            let name = name(text);
            let layer = format!("/v2/{text}/_strata/layers/{DIGEST}");
            parses(
                &format!("{layer}?n=5&last=b&prefix=etc/"),
                Route::Layer {
                    name: name.clone(),
                    digest: digest.clone(),
                    prefix: b"etc/".to_vec(),
                    page: PathPage {
                        limit: Some(5),
                        last: Some(b"b".to_vec()),
                    },
                },
            );
            for (path, bytes) in [
                ("/files", b"".as_slice()),
                ("/files/", b""),
                ("/files/etc/passwd", b"etc/passwd"),
                ("/files/etc%2Fpasswd", b"etc/passwd"),
                ("/files/%ff%00%0A+", b"\xff\0\n+"),
                ("/files//a//", b"/a//"),
                ("/files/../a", b"../a"),
                ("/files/x/_strata/layers/y", b"x/_strata/layers/y"),
                ("/files/files/a", b"files/a"),
                ("/files/%", b"%"),
            ] {
                parses(
                    &format!("{layer}{path}"),
                    Route::LayerFile {
                        name: name.clone(),
                        digest: digest.clone(),
                        path: bytes.to_vec(),
                        page: PathPage::default(),
                    },
                );
            }
            for reference in ["v1", DIGEST, &DIGEST.replace(':', "%3A")] {
                parses(
                    &format!(
                        "/v2/{text}/_strata/images/{reference}/files/a?platform=linux%2Farm64&last=%ff+x"
                    ),
                    Route::ImageFile {
                        name: name.clone(),
                        reference: reference.replace("%3A", ":").parse().unwrap(),
                        platform: Some("linux/arm64".to_owned()),
                        path: b"a".to_vec(),
                        page: PathPage {
                            limit: None,
                            last: Some(b"\xff x".to_vec()),
                        },
                    },
                );
            }
        }
    }

    #[test]
    fn parses_what_invalidates() {
        for (query, tag) in [("", None), ("?tag=", None), ("?tag=v1&ns=x", Some("v1"))] {
            parses(
                &format!("/v2/a/b/_strata/invalidate{query}"),
                Route::Invalidate {
                    name: name("a/b"),
                    tag: tag.map(|tag| tag.parse().unwrap()),
                },
            );
        }
        refuses(
            "/v2/a/_strata/invalidate?tag=.x",
            Code::ManifestInvalid,
            400,
            "manifest invalid: unexpected character '.' in tag",
        );
    }

    #[test]
    fn parses_what_concerns_the_registry() {
        let sweep = |is_dry, max| Route::Sweep {
            is_dry,
            max,
            cursor: None,
        };
        for (query, route) in [
            ("", sweep(false, None)),
            ("?dry-run", sweep(true, None)),
            ("?dry-run=", sweep(true, None)),
            ("?dry-run=true&max=5", sweep(true, Some(5))),
            ("?dry-run=1", sweep(true, None)),
            ("?dry-run=false&cursor=", sweep(false, None)),
        ] {
            parses(&format!("/v2/_strata/sweep{query}"), route);
        }
        let digest: Digest = DIGEST.parse().unwrap();
        let scrub = |is_dry, digest: Option<&Digest>| Route::Scrub {
            is_dry,
            digest: digest.cloned(),
            cursor: None,
        };
        parses("/v2/_strata/scrub", scrub(false, None));
        parses("/v2/_strata/scrub?dry-run=true", scrub(true, None));
        let one = format!("/v2/_strata/scrub?digest={DIGEST}&dry-run=false");
        parses(&one, scrub(false, Some(&digest)));
        parses(
            &format!("/v2/_strata/blobs/{DIGEST}"),
            Route::Holders { digest },
        );
        let rights = |cursor: Option<&str>| Route::Rights {
            cursor: cursor.map(str::to_owned),
        };
        parses("/v2/_strata/rights", rights(None));
        parses("/v2/_strata/rights?cursor=abc", rights(Some("abc")));
        for (target, message) in [
            (
                "sweep?dry-run=yes",
                "query parameter dry-run is neither true nor false",
            ),
            ("sweep?max=-1", "query parameter max is not a number"),
        ] {
            let message = format!("the operation is unsupported: {message}");
            refuses(
                &format!("/v2/_strata/{target}"),
                Code::Unsupported,
                400,
                &message,
            );
        }
        for target in ["/v2/_strata/", "/v2/_strata/sweep/", "/v2/_strata/blobs"] {
            let message = format!("the operation is unsupported: no end-point at {target:?}");
            refuses(target, Code::Unsupported, 404, &message);
        }
    }

    #[test]
    fn looks_into_nothing_else() {
        for target in [
            "/v2/a/_strata/".to_owned(),
            "/v2/a/_strata/invalidate/".to_owned(),
            "/v2/a/_strata/layers".to_owned(),
            format!("/v2/a/_strata/layers/{DIGEST}/"),
            format!("/v2/a/_strata/layers/{DIGEST}/file/x"),
            format!("/v2/a/_strata/layers/{DIGEST}/filesx"),
            format!("/v2/a/_strata/blobs/{DIGEST}"),
            "/v2/a/_strata/images/v1".to_owned(),
            "/v2/a/_strata/images/v1/".to_owned(),
            format!("/v2/a/%5Fstrata/layers/{DIGEST}"),
            format!("/v1/a/_strata/layers/{DIGEST}"),
            format!("/v2/%ff/_strata/layers/{DIGEST}"),
            "/v2/_oci/ext/discover/".to_owned(),
        ] {
            let error = Route::parse(&target).unwrap_err();
            assert_eq!(
                (error.code(), error.status().as_u16()),
                (Code::Unsupported, 404),
                "{target}"
            );
        }
        let of = |target: &str| Route::parse(target).unwrap_err().code();
        assert_eq!(of("/v2/a/_strata/layers/latest"), Code::DigestInvalid);
        assert_eq!(of("/v2/a/_strata/images/.x/files/"), Code::ManifestInvalid);
        for name in ["A", "a/_b", "a/_strata/layers/b"] {
            let other = format!("/v2/{name}/_strata/layers/{DIGEST}");
            assert!(Route::parse(&other).is_err(), "{other}");
        }
        // No name of a repository has such a component, so nothing else is shadowed.
        for target in [
            format!("/v2/_strata/manifests/{DIGEST}"),
            "/v2/a/_strata/manifests/v1".to_owned(),
            "/v2/a/_strata/tags/list".to_owned(),
        ] {
            assert!(Route::parse(&target).is_err(), "{target}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        refuses(
            "/v2/A/tags/list",
            Code::NameInvalid,
            400,
            "invalid repository name: unexpected character 'A' in repository name",
        );
        refuses(
            "/v2//tags/list",
            Code::NameInvalid,
            400,
            "invalid repository name: empty component in repository name",
        );
        refuses(
            "/v2/tags/list",
            Code::NameInvalid,
            400,
            "invalid repository name: empty component in repository name",
        );
        refuses(
            "/v2/a/blobs/sha256:x",
            Code::DigestInvalid,
            400,
            "provided digest did not match uploaded content: unexpected character 'x' in digest",
        );
        refuses(
            "/v2/a/manifests/.x",
            Code::ManifestInvalid,
            400,
            "manifest invalid: unexpected character '.' in tag",
        );
        refuses(
            "/v2/a/manifests/",
            Code::ManifestInvalid,
            400,
            "manifest invalid: empty tag",
        );
        refuses(
            "/v2/a/blobs/uploads/x",
            Code::BlobUploadUnknown,
            404,
            "blob upload unknown to registry: \"x\" is not an upload of this registry",
        );
        refuses(
            "/v2/a/blobs/uploads/?digest=x",
            Code::DigestInvalid,
            400,
            "provided digest did not match uploaded content: no ':' between algorithm and hash in digest",
        );
        refuses(
            "/v2/a/tags/list?n=x",
            Code::Unsupported,
            400,
            "the operation is unsupported: query parameter n is not a number",
        );
        refuses(
            "/v2/a/tags/list?last=:",
            Code::ManifestInvalid,
            400,
            "manifest invalid: unexpected character ':' in tag",
        );
    }

    #[test]
    fn knows_no_other_paths() {
        for target in [
            "/",
            "",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/tags",
            "/v2/a/tags/list/",
            "/v2/a/blobs",
            "/metrics/",
            "/v2/metrics",
            "/v2/_catalog/x",
            "/v2/a/referrers",
            "//v2/",
        ] {
            let error = Route::parse(target).unwrap_err();
            assert_eq!(
                (error.code(), error.status().as_u16()),
                (Code::Unsupported, 404),
                "{target}"
            );
        }
    }
}
