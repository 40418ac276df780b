//! Routes: which end-point of the specification a request is for.
//!
//! ```text
//! end-1          GET HEAD                   /v2/
//! end-2, -10     GET HEAD                   /v2/<name>/blobs/<digest>
//! end-3, -7      GET HEAD PUT               /v2/<name>/manifests/<reference>
//! end-4          POST                       /v2/<name>/blobs/uploads/        ?digest=
//! end-5, -6, -13 GET PATCH PUT DELETE       /v2/<name>/blobs/uploads/<id>    ?step= &digest=
//! end-8          GET HEAD                   /v2/<name>/tags/list             ?n= &last=
//! ```
//!
//! A name may itself have components such as `blobs` or `uploads`, so a path is read from its end.

use std::borrow::Cow;

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::{Name, Reference, Tag},
    upload::UploadId,
};

/// An end-point, with what its path and query name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// end-1: whether this is a registry.
    Version,
    /// end-2: a blob.
    Blob {
        /// The repository.
        name: Name,
        /// The blob.
        digest: Digest,
    },
    /// end-3, end-7: a manifest.
    Manifest {
        /// The repository.
        name: Name,
        /// The manifest.
        reference: Reference,
    },
    /// end-4: the start of an upload.
    StartUpload {
        /// The repository.
        name: Name,
        /// The digest of a blob that comes whole with this request (end-4b).
        digest: Option<Digest>,
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
}

impl Route {
    /// Reads a path, with its query where there is one.
    pub fn parse(target: &str) -> Result<Self, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode_str(path).decode_utf8().map_err(|_| unknown(path))?;
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

        // The last three segments decide; what is before them is the name.
        let (rest, last) = rest.rsplit_once('/').ok_or_else(|| unknown(&path))?;
        let (before, word) = rest.rsplit_once('/').unwrap_or(("", rest));
        match (word, last) {
            ("tags", "list") => {
                let limit = query.parse_as("n", |_| Error::new(Code::Unsupported, "query parameter n is not a number").with_status(StatusCode::BAD_REQUEST))?;
                let last = query.parse_as("last", tag_error)?;
                Ok(Self::Tags { name: parse_name(before)?, limit, last })
            }
            ("manifests", reference) => {
                let name = parse_name(before)?;
                let reference = reference.parse().map_err(|error: crate::name::ParseReferenceError| match error {
                    crate::name::ParseReferenceError::Digest(error) => digest_error(error),
                    crate::name::ParseReferenceError::Tag(error) => tag_error(error),
                })?;
                Ok(Self::Manifest { name, reference })
            }
            ("blobs", "uploads") => Ok(Self::StartUpload { name: parse_name(before)?, digest: query.digest()? }),
            ("uploads", "") if before.ends_with("/blobs") => Ok(Self::StartUpload {
                name: parse_name(before.trim_end_matches("/blobs"))?,
                digest: query.digest()?,
            }),
            ("uploads", id) if before.ends_with("/blobs") => {
                let name = parse_name(before.strip_suffix("/blobs").unwrap_or(before))?;
                let id = id.parse().map_err(|_| Error::new(Code::BlobUploadUnknown, format!("{id:?} is not an upload of this registry")))?;
                let step = query.get("step").and_then(|step| step.parse().ok()).unwrap_or_default();
                Ok(Self::Upload { name, id, step, digest: query.digest()? })
            }
            ("blobs", digest) => {
                let name = parse_name(before)?;
                Ok(Self::Blob { name, digest: digest.parse().map_err(digest_error)? })
            }
            _ => Err(unknown(&path)),
        }
    }

    /// The methods of the end-point, as the `Allow` header lists them.
    pub const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Version | Self::Blob { .. } | Self::Tags { .. } => &[Method::GET, Method::HEAD],
            Self::Manifest { .. } => &[Method::GET, Method::HEAD, Method::PUT],
            Self::StartUpload { .. } => &[Method::POST],
            Self::Upload { .. } => &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }
}

/// The pairs of a query string, percent-decoded.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    fn parse_as<T: std::str::FromStr>(&self, name: &str, error: impl FnOnce(T::Err) -> Error) -> Result<Option<T>, Error> {
        self.get(name).map(str::parse).transpose().map_err(error)
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        self.parse_as("digest", digest_error)
    }
}

fn parse_name(text: &str) -> Result<Name, Error> {
    text.parse().map_err(|error: crate::name::ParseNameError| Error::new(Code::NameInvalid, error.to_string()))
}

fn digest_error(error: crate::digest::ParseDigestError) -> Error {
    Error::new(Code::DigestInvalid, error.to_string())
}

/// The specification has no code for a malformed tag: what it names is the manifest.
fn tag_error(error: crate::name::ParseTagError) -> Error {
    Error::new(Code::ManifestInvalid, error.to_string())
}

fn unknown(path: &str) -> Error {
    Error::new(Code::Unsupported, format!("no end-point at {path:?}")).with_status(StatusCode::NOT_FOUND)
}
