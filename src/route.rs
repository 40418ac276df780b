//! Routes: the operation that a request asks for, by its method, path and query.
//! One file, because the table below is its only subject.
//!
//! | number | methods | path | query |
//! |---|---|---|---|
//! | end-1 | GET HEAD | `/v2/` | |
//! | end-2, -10 | GET HEAD DELETE | `/v2/<name>/blobs/<digest>` | |
//! | end-3, -7, -9 | GET HEAD PUT DELETE | `/v2/<name>/manifests/<reference>` | `?tag= &tag=` |
//! | end-4, -11 | POST | `/v2/<name>/blobs/uploads/` | `?digest= or ?mount= &from= or ?digest-algorithm=` |
//! | end-5, -6, -13, -14 | GET PATCH PUT DELETE | `/v2/<name>/blobs/uploads/<id>` | `?digest= &step=` |
//! | end-8 | GET HEAD | `/v2/<name>/tags/list` | `?n= &last=` |
//! | end-12 | GET HEAD | `/v2/<name>/referrers/<digest>` | `?artifactType= &n= &last=` |
//! | | GET HEAD | `/v2/_catalog` | `?n= &last=` |
//! | | GET HEAD | `/v2/_oci/ext/discover` | |
//! | | GET HEAD | `/v2/<name>/_strata/layers/<digest>` | `?prefix= &n= &last=` |
//! | | GET HEAD | `/v2/<name>/_strata/layers/<digest>/files/<path>` | `?n= &last=` |
//! | | GET HEAD | `/v2/<name>/_strata/images/<reference>/files/<path>` | `?platform= &n= &last=` |
//! | | POST | `/v2/<name>/_strata/invalidate` | `?tag=` |
//! | | POST | `/v2/_strata/sweep` | `?dry-run= &max= &cursor=` |
//! | | POST | `/v2/_strata/scrub` | `?dry-run= &digest= &cursor=` |
//! | | GET HEAD | `/v2/_strata/blobs/<digest>` | |
//! | | GET HEAD | `/v2/_strata/rights` | `?cursor=` |
//! | | GET HEAD POST | `/v2/_strata/token` | `?service= &scope= &scope=` |
//! | | GET HEAD | `/metrics` | |
//! | | GET HEAD | `/healthz` | |
//! | | GET HEAD | `/readyz` | |
//!
//! The numbers are those of distribution-spec v1.1.1 and, from end-13 on, of its main branch. The
//! catalogue is Docker's. No component of a name can begin with `_`: such a component begins an
//! extension (`extensions/README.md` of the specification). A path in a layer or an image is bytes,
//! percent-encoded. A path that is empty or ends with a slash is a directory to be listed.
//!
//! A name may itself have components such as `blobs` or `uploads`, so a path is read from its end.

use std::{borrow::Cow, str::FromStr};

use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use crate::{
    digest::{Algorithm, Digest},
    error::{Code, Error},
    name::{Name, ParseReferenceError, Reference, Tag},
    upload::{UploadHint, UploadId},
};

/// The path of the end-point that issues tokens: the realm of challenges, after the origin.
pub const TOKEN_PATH: &str = "/v2/_strata/token";

/// The operation that a request asks for, with the parameters of its path and query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Issues a token.
    IssueToken {
        /// The requested scopes in the query, such as `repository:app:pull`, unparsed.
        scopes: Vec<String>,
    },
    /// An operation in the registry itself.
    Registry(RegistryOperation),
    /// An operation in the repository of this name.
    In(Name, InRepository),
}

/// An operation in the registry as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegistryOperation {
    /// Reports that this is a registry (end-1).
    Version,
    /// Shows the metrics of this isolate.
    ShowMetrics,
    /// Reports that this isolate answers.
    CheckHealth,
    /// Reports whether the bucket answers.
    CheckReadiness,
    /// Lists the extensions.
    ListExtensions,
    /// Lists the repositories: Docker's catalogue.
    ListRepositories {
        /// The most names to list. `None` for the registry's own limit.
        limit: Option<u64>,
        /// The name after which the list begins.
        last: Option<Name>,
    },
    /// Does a step of the sweep: the garbage collection.
    Sweep {
        /// Whether it only reports the objects that it would remove.
        is_dry: bool,
        /// The number of removals after which no other one is begun.
        max: Option<u64>,
        /// The place at which a dry run resumes, as an earlier step returned it.
        cursor: Option<String>,
    },
    /// Does a step of the scrub: the verification of stored objects.
    Scrub {
        /// Whether it only reports the objects that it would repair.
        is_dry: bool,
        /// The only blob to verify.
        digest: Option<Digest>,
        /// The place at which a dry run resumes, as an earlier step returned it.
        cursor: Option<String>,
    },
    /// Lists the repositories that hold a blob.
    ListHolders(Digest),
    /// Lists rights that older versions gave by the word of an upstream.
    ListDoubtfulRights {
        /// The place at which the listing resumes, as an earlier response returned it.
        cursor: Option<String>,
    },
}

/// An operation in a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InRepository {
    /// Pulls a blob (end-2).
    PullBlob(Digest),
    /// Deletes a blob (end-10).
    DeleteBlob(Digest),
    /// Pulls a manifest (end-3).
    PullManifest(Reference),
    /// Pushes a manifest (end-7).
    PushManifest {
        /// The tag or digest of the manifest.
        reference: Reference,
        /// Tags that it gets beside its reference (end-7b).
        tags: Vec<Tag>,
    },
    /// Deletes a manifest or a tag (end-9).
    DeleteManifest(Reference),
    /// An operation on an upload.
    Upload(UploadOperation),
    /// An operation that lists the tags or referrers of a repository.
    List(ListOperation),
    /// An operation that looks into a layer or an image.
    Inspect(InspectOperation),
    /// Makes the next pull of a mirrored tag ask the upstream again.
    Invalidate {
        /// The tag; without one, all tags.
        tag: Option<Tag>,
    },
}

/// An operation on an upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UploadOperation {
    /// Starts an upload (end-4, end-11).
    Start(UploadStart),
    /// Reports how much of an upload was received (end-13).
    Show(UploadId),
    /// Receives a chunk of an upload (end-5).
    PushChunk {
        /// The upload that the chunk belongs to.
        id: UploadId,
        /// What the location says of the upload.
        hint: UploadHint,
    },
    /// Closes an upload (end-6).
    Close {
        /// The upload to close.
        id: UploadId,
        /// What the location says of the upload.
        hint: UploadHint,
        /// The digest of the blob. `None` if the client named none, which is an error later.
        digest: Option<Digest>,
    },
    /// Cancels an upload (end-14).
    Cancel(UploadId),
}

/// An operation that lists the tags or referrers of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListOperation {
    /// Lists the tags (end-8).
    Tags {
        /// The most tags to list. `None` for the registry's own limit.
        limit: Option<u64>,
        /// The tag after which the list begins.
        last: Option<Tag>,
    },
    /// Lists the manifests that name a manifest as their subject (end-12).
    Referrers {
        /// The digest of the subject, which need not exist.
        subject: Digest,
        /// The only artifact type to list. `None` for all.
        artifact_type: Option<String>,
        /// The most manifests to list. `None` for the registry's own limit.
        limit: Option<u64>,
        /// The digest of the manifest after which the list begins.
        last: Option<Digest>,
    },
}

/// An operation that looks into a layer or an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InspectOperation {
    /// Lists the table of contents of a layer.
    Layer {
        /// The digest of the layer.
        digest: Digest,
        /// The bytes with which listed paths begin. Empty for all.
        prefix: Vec<u8>,
        /// The requested part of the list.
        page: PathPage,
    },
    /// Reads a file of a layer, or lists a directory.
    LayerFile {
        /// The digest of the layer.
        digest: Digest,
        /// The path in the layer, percent-decoded. It need not be UTF-8.
        path: Vec<u8>,
        /// The requested part of the list of a directory.
        page: PathPage,
    },
    /// Reads a file of an image, or lists a directory.
    ImageFile {
        /// The tag or digest of an image, or of an index of images.
        reference: Reference,
        /// The image of an index, as `os/architecture` or `os/architecture/variant`.
        platform: Option<String>,
        /// The path in the image, percent-decoded. It need not be UTF-8.
        path: Vec<u8>,
        /// The requested part of the list of a directory.
        page: PathPage,
    },
}

/// The part of a list of paths that a client requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathPage {
    /// The most paths or names to list. `None` for the registry's own limit.
    pub limit: Option<u64>,
    /// The path or name after which the list begins, percent-decoded.
    pub last: Option<Vec<u8>>,
}

/// The way in which a client starts an upload, by the parameters of the query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UploadStart {
    /// The blob comes with later requests (end-4a).
    Session {
        /// The algorithm of its digest (end-4c). SHA-256 if the client names none.
        algorithm: Algorithm,
    },
    /// The blob comes whole with this request (end-4b).
    Whole(Digest),
    /// The blob is stored in another repository already (end-11).
    Mount {
        /// The digest of the blob.
        digest: Digest,
        /// The repository that has it. `None` if the client does not know.
        from: Option<Name>,
    },
}

impl Operation {
    /// Parses a method, and a path with its query as the client sent them.
    ///
    /// # Errors
    ///
    /// - [`Code::Unsupported`]: 404 for an unknown path, 405 with `Allow` for a method that the
    ///   path does not have, and 400 for a parameter that is no number or no flag.
    /// - [`Code::NameInvalid`], [`Code::DigestInvalid`] and [`Code::ManifestInvalid`]: 400 for an
    ///   invalid name, digest or tag.
    /// - [`Code::BlobUploadUnknown`]: 404 for a text that is not the id of an upload.
    pub fn parse(method: &Method, target: &str) -> Result<Self, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let asked = Asked { method, query };
        if path == TOKEN_PATH {
            let scopes = scopes(query.as_bytes());
            return asked.one_of("GET, HEAD, POST", Self::IssueToken { scopes });
        }
        if let Some(rest) = path.strip_prefix("/v2/_strata/") {
            return asked.of_registry(rest).ok_or_else(|| unknown(path))?;
        }
        if let Some((name, rest)) = path.split_once("/_strata/") {
            return asked
                .of_extension(name, rest)
                .ok_or_else(|| unknown(path))?;
        }
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| unknown(path))?;
        match &*path {
            "/metrics" => return asked.get_of_registry(RegistryOperation::ShowMetrics),
            "/healthz" => return asked.get_of_registry(RegistryOperation::CheckHealth),
            "/readyz" => return asked.get_of_registry(RegistryOperation::CheckReadiness),
            _ => {}
        }
        let rest = path.strip_prefix("/v2").ok_or_else(|| unknown(&path))?;
        if rest.is_empty() || rest == "/" {
            return asked.get_of_registry(RegistryOperation::Version);
        }
        match rest.strip_prefix('/').ok_or_else(|| unknown(&path))? {
            "_oci/ext/discover" => asked.get_of_registry(RegistryOperation::ListExtensions),
            "_catalog" => {
                let query = Query::parse(query);
                asked.get_of_registry(RegistryOperation::ListRepositories {
                    limit: query.number("n")?,
                    last: query.parsed("last")?,
                })
            }
            rest => asked.of_distribution(rest).ok_or_else(|| unknown(&path))?,
        }
    }

    /// The operation of a path by `GET` or `POST`, whichever the path allows. It names the
    /// end-point of a request that is refused for its method.
    pub fn at(target: &str) -> Option<Self> {
        let methods = [Method::GET, Method::POST];
        let mut operations = methods.iter().map(|method| Self::parse(method, target));
        operations.find_map(Result::ok)
    }

    /// The repository of the operation. `None` for one of the registry as a whole.
    pub const fn repository(&self) -> Option<&Name> {
        match self {
            Self::In(name, _) => Some(name),
            Self::IssueToken { .. } | Self::Registry(_) => None,
        }
    }

    /// The same operation in another repository. An operation of the registry as a whole is
    /// returned unchanged.
    #[must_use]
    pub fn in_repository(self, other: Name) -> Self {
        match self {
            Self::In(_, operation) => Self::In(other, operation),
            of_registry => of_registry,
        }
    }
}

/// The method and the query of a request whose path is being parsed.
struct Asked<'a> {
    method: &'a Method,
    query: &'a str,
}

impl Asked<'_> {
    /// The operation, if the method is one of those that the path allows.
    fn one_of(&self, allowed: &'static str, operation: Operation) -> Result<Operation, Error> {
        if allowed.split(", ").any(|method| self.method == method) {
            Ok(operation)
        } else {
            Err(self.not_allowed(allowed))
        }
    }

    fn get(&self, operation: Operation) -> Result<Operation, Error> {
        self.one_of("GET, HEAD", operation)
    }

    /// The operation of the registry, if the method reads.
    fn get_of_registry(&self, operation: RegistryOperation) -> Result<Operation, Error> {
        self.get(Operation::Registry(operation))
    }

    fn post(&self, operation: Operation) -> Result<Operation, Error> {
        self.one_of("POST", operation)
    }

    fn not_allowed(&self, allowed: &'static str) -> Error {
        let found = format!(
            "method {} is not allowed on this end-point; allowed: {allowed}",
            self.method
        );
        Error::new(Code::Unsupported, found)
            .with_header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// Parses the rest of a path of the specification, after `/v2/`. `None` if no end-point has it.
    fn of_distribution(&self, rest: &str) -> Option<Result<Operation, Error>> {
        // The last three segments decide; the name is before them.
        let (rest, last) = rest.rsplit_once('/')?;
        let (before, word) = rest.rsplit_once('/').unwrap_or(("", rest));
        Some(match (word, last) {
            ("tags", "list") => self.tags(before),
            ("manifests", reference) => self.manifest(before, reference),
            ("referrers", subject) => self.referrers(before, subject),
            ("blobs", "uploads") => self.uploads(before),
            ("blobs", digest) => self.blob(before, digest),
            ("uploads", "") => self.uploads(before.strip_suffix("/blobs")?),
            ("uploads", id) => self.upload(before.strip_suffix("/blobs")?, id),
            _ => return None,
        })
    }

    fn tags(&self, name: &str) -> Result<Operation, Error> {
        let query = Query::parse(self.query);
        let name = name.parse()?;
        let tags = ListOperation::Tags {
            limit: query.number("n")?,
            last: query.parsed("last")?,
        };
        self.get(Operation::In(name, InRepository::List(tags)))
    }

    fn referrers(&self, name: &str, subject: &str) -> Result<Operation, Error> {
        let query = Query::parse(self.query);
        let name = name.parse()?;
        let referrers = ListOperation::Referrers {
            subject: subject.parse()?,
            artifact_type: query.get("artifactType").map(str::to_owned),
            limit: query.number("n")?,
            last: query.parsed("last")?,
        };
        self.get(Operation::In(name, InRepository::List(referrers)))
    }

    fn manifest(&self, name: &str, reference: &str) -> Result<Operation, Error> {
        let name = name.parse()?;
        let tags = Query::parse(self.query).tags()?;
        let method = self.method.as_str();
        let reference = reference
            .parse::<Reference>()
            .map_err(|error| match (method, error) {
                // No manifest can have a name that is no tag.
                ("GET" | "HEAD", ParseReferenceError::Tag(error)) => {
                    Error::new(Code::ManifestUnknown, error.to_string())
                }
                (_, error) => error.into(),
            })?;
        let operation = match method {
            "GET" | "HEAD" => InRepository::PullManifest(reference),
            "PUT" => InRepository::PushManifest { reference, tags },
            "DELETE" => InRepository::DeleteManifest(reference),
            _ => return Err(self.not_allowed("GET, HEAD, PUT, DELETE")),
        };
        Ok(Operation::In(name, operation))
    }

    fn blob(&self, name: &str, digest: &str) -> Result<Operation, Error> {
        let name = name.parse()?;
        let digest = digest.parse()?;
        let operation = match self.method.as_str() {
            "GET" | "HEAD" => InRepository::PullBlob(digest),
            "DELETE" => InRepository::DeleteBlob(digest),
            _ => return Err(self.not_allowed("GET, HEAD, DELETE")),
        };
        Ok(Operation::In(name, operation))
    }

    fn uploads(&self, name: &str) -> Result<Operation, Error> {
        let name = name.parse()?;
        let start = Query::parse(self.query).start()?;
        let start = UploadOperation::Start(start);
        self.post(Operation::In(name, InRepository::Upload(start)))
    }

    fn upload(&self, name: &str, id: &str) -> Result<Operation, Error> {
        let query = Query::parse(self.query);
        let name = name.parse()?;
        let digest = query.parsed("digest")?;
        let id = id.parse().map_err(|_| {
            let found = format!("{id:?} is not an upload of this registry");
            Error::new(Code::BlobUploadUnknown, found)
        })?;
        let hint = query.get("step").map(UploadHint::from).unwrap_or_default();
        let operation = match self.method.as_str() {
            "GET" => UploadOperation::Show(id),
            "PATCH" => UploadOperation::PushChunk { id, hint },
            "PUT" => UploadOperation::Close { id, hint, digest },
            "DELETE" => UploadOperation::Cancel(id),
            _ => return Err(self.not_allowed("GET, PATCH, PUT, DELETE")),
        };
        Ok(Operation::In(name, InRepository::Upload(operation)))
    }

    /// Parses the rest of a path after `/v2/_strata/`. `None` if no end-point has it.
    fn of_registry(&self, rest: &str) -> Option<Result<Operation, Error>> {
        let query = Query::parse(self.query);
        let cursor = query.get("cursor").map(str::to_owned);
        Some(match rest {
            "sweep" => self.sweep(&query, cursor),
            "scrub" => self.scrub(&query, cursor),
            "rights" => self.get_of_registry(RegistryOperation::ListDoubtfulRights { cursor }),
            _ => {
                let digest = percent_decode_str(rest.strip_prefix("blobs/")?);
                let digest: Result<_, _> = digest.decode_utf8().ok()?.parse();
                let holders = digest.map(RegistryOperation::ListHolders);
                let holders = holders.map_err(Error::from);
                holders.and_then(|holders| self.get_of_registry(holders))
            }
        })
    }

    fn sweep(&self, query: &Query<'_>, cursor: Option<String>) -> Result<Operation, Error> {
        self.post(Operation::Registry(RegistryOperation::Sweep {
            is_dry: query.flag("dry-run")?,
            max: query.number("max")?,
            cursor,
        }))
    }

    fn scrub(&self, query: &Query<'_>, cursor: Option<String>) -> Result<Operation, Error> {
        self.post(Operation::Registry(RegistryOperation::Scrub {
            is_dry: query.flag("dry-run")?,
            digest: query.parsed("digest")?,
            cursor,
        }))
    }

    /// Parses the parts of a path before and after `/_strata/`. `None` if no end-point has them.
    fn of_extension(&self, name: &str, rest: &str) -> Option<Result<Operation, Error>> {
        let name = percent_decode_str(name.strip_prefix("/v2/")?)
            .decode_utf8()
            .ok()?;
        if rest == "invalidate" {
            return Some(self.invalidate(&name));
        }
        let (kind, rest) = rest.split_once('/')?;
        let (of, path) = match rest.split_once('/') {
            None => (rest, None),
            Some((of, "files")) => (of, Some("")),
            Some((of, path)) => (of, Some(path.strip_prefix("files/")?)),
        };
        let of = percent_decode_str(of).decode_utf8().ok()?;
        let path = path.map(|path| percent_decode_str(path).collect());
        match (kind, path) {
            ("layers", None) => Some(self.layer(&name, &of)),
            ("layers", Some(path)) => Some(self.layer_file(&name, &of, path)),
            ("images", Some(path)) => Some(self.image_file(&name, &of, path)),
            _ => None,
        }
    }

    fn invalidate(&self, name: &str) -> Result<Operation, Error> {
        let name = name.parse()?;
        let tag = Query::parse(self.query).parsed("tag")?;
        self.post(Operation::In(name, InRepository::Invalidate { tag }))
    }

    fn layer(&self, name: &str, digest: &str) -> Result<Operation, Error> {
        let name = name.parse()?;
        let page = self.path_page()?;
        let layer = InspectOperation::Layer {
            digest: digest.parse()?,
            prefix: query_bytes(self.query, "prefix").unwrap_or_default(),
            page,
        };
        self.get(Operation::In(name, InRepository::Inspect(layer)))
    }

    fn layer_file(&self, name: &str, digest: &str, path: Vec<u8>) -> Result<Operation, Error> {
        let name = name.parse()?;
        let page = self.path_page()?;
        let digest = digest.parse()?;
        let file = InspectOperation::LayerFile { digest, path, page };
        self.get(Operation::In(name, InRepository::Inspect(file)))
    }

    fn image_file(&self, name: &str, reference: &str, path: Vec<u8>) -> Result<Operation, Error> {
        let name = name.parse()?;
        let page = self.path_page()?;
        let platform = Query::parse(self.query).get("platform").map(str::to_owned);
        let file = InspectOperation::ImageFile {
            reference: reference.parse()?,
            platform,
            path,
            page,
        };
        self.get(Operation::In(name, InRepository::Inspect(file)))
    }

    fn path_page(&self) -> Result<PathPage, Error> {
        Ok(PathPage {
            limit: Query::parse(self.query).number("n")?,
            last: query_bytes(self.query, "last"),
        })
    }
}

/// The registry that a client of a mirror of several means: the parameter `ns` of the query.
pub(crate) fn namespace(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    Query::parse(query).get("ns").map(str::to_owned)
}

/// The scopes of a query or a form. A parameter may hold several, separated by spaces, and may be
/// repeated.
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

    /// Whether a flag is set: by its name alone, or by `true` or `1`.
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

    use super::{
        InRepository as In, InspectOperation as Inspect, ListOperation as List,
        RegistryOperation as Registry, UploadOperation as Upload, *,
    };

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ID: &str = "00112233445566778899aabbccddeeff";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A method by which a client requests an operation.
    fn method(operation: &Operation) -> Method {
        match operation {
            Operation::Registry(Registry::Sweep { .. } | Registry::Scrub { .. })
            | Operation::In(_, In::Upload(Upload::Start(_)) | In::Invalidate { .. }) => {
                Method::POST
            }
            Operation::In(_, In::Upload(Upload::Close { .. }) | In::PushManifest { .. }) => {
                Method::PUT
            }
            _ => Method::GET,
        }
    }

    #[track_caller]
    fn parses(target: &str, operation: Operation) {
        assert_eq!(
            Operation::parse(&method(&operation), target).map_err(|error| error.message()),
            Ok(operation),
            "{target}"
        );
    }

    #[track_caller]
    fn refuses(target: &str, code: Code, status: u16, message: &str) {
        let error = Operation::parse(&Method::GET, target).unwrap_err();
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
    fn distribution_paths_are_parsed_for_names_of_any_depth() {
        let digest: Digest = DIGEST.parse().unwrap();
        let id: UploadId = ID.parse().unwrap();
        parses("/v2", Operation::Registry(Registry::Version));
        parses("/v2/", Operation::Registry(Registry::Version));
        parses("/v2/?x=y", Operation::Registry(Registry::Version));
        for text in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/e/f"] {
            let name = name(text);
            parses(
                &format!("/v2/{text}/blobs/{DIGEST}"),
                Operation::In(name.clone(), In::PullBlob(digest.clone())),
            );
            parses(
                &format!("/v2/{text}/manifests/{DIGEST}"),
                Operation::In(
                    name.clone(),
                    In::PullManifest(Reference::Digest(digest.clone())),
                ),
            );
            parses(
                &format!("/v2/{text}/manifests/v1"),
                Operation::In(name.clone(), In::PullManifest("v1".parse().unwrap())),
            );
            parses(
                &format!("/v2/{text}/tags/list"),
                Operation::In(
                    name.clone(),
                    In::List(List::Tags {
                        limit: None,
                        last: None,
                    }),
                ),
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/"),
                Operation::In(
                    name.clone(),
                    In::Upload(Upload::Start(UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    })),
                ),
            );
            parses(
                &format!("/v2/{text}/blobs/uploads"),
                Operation::In(
                    name.clone(),
                    In::Upload(Upload::Start(UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    })),
                ),
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/{ID}"),
                Operation::In(
                    name,
                    In::Upload(Upload::Close {
                        id,
                        hint: UploadHint::default(),
                        digest: None,
                    }),
                ),
            );
        }
    }

    #[test]
    fn queries_of_uploads_and_tag_lists_are_parsed() {
        let digest: Digest = DIGEST.parse().unwrap();
        let id: UploadId = ID.parse().unwrap();
        let encoded = DIGEST.replace(':', "%3A");
        parses(
            &format!("/v2/a/blobs/uploads/?digest={encoded}"),
            Operation::In(
                name("a"),
                In::Upload(Upload::Start(UploadStart::Whole(digest.clone()))),
            ),
        );
        parses(
            &format!("/v2/a/blobs/uploads/{ID}?step=3&digest={encoded}"),
            Operation::In(
                name("a"),
                In::Upload(Upload::Close {
                    id,
                    hint: UploadHint::from("3"),
                    digest: Some(digest),
                }),
            ),
        );
        parses(
            &format!("/v2/a/blobs/uploads/{ID}?step=x&digest="),
            Operation::In(
                name("a"),
                In::Upload(Upload::Close {
                    id,
                    hint: UploadHint::default(),
                    digest: None,
                }),
            ),
        );
        parses(
            "/v2/a/tags/list?n=10&last=v1",
            Operation::In(
                name("a"),
                In::List(List::Tags {
                    limit: Some(10),
                    last: Some("v1".parse().unwrap()),
                }),
            ),
        );
    }

    #[test]
    fn paths_are_parsed_from_their_end() {
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
                Operation::In(name(text), In::PullBlob(digest.clone())),
            );
            parses(
                &format!("/v2/{text}/blobs/uploads/"),
                Operation::In(
                    name(text),
                    In::Upload(Upload::Start(UploadStart::Session {
                        algorithm: Algorithm::Sha256,
                    })),
                ),
            );
            parses(
                &format!("/v2/{text}/tags/list"),
                Operation::In(
                    name(text),
                    In::List(List::Tags {
                        limit: None,
                        last: None,
                    }),
                ),
            );
            parses(
                &format!("/v2/{text}/manifests/list"),
                Operation::In(name(text), In::PullManifest("list".parse().unwrap())),
            );
        }
    }

    #[test]
    fn percent_encoded_paths_are_decoded() {
        parses(
            &format!("/v2/a%2Fb/blobs/{}", DIGEST.replace(':', "%3a")),
            Operation::In(name("a/b"), In::PullBlob(DIGEST.parse().unwrap())),
        );
        refuses(
            "/v2/%ff/tags/list",
            Code::Unsupported,
            404,
            "the operation is unsupported: no end-point at \"/v2/%ff/tags/list\"",
        );
    }

    #[test]
    fn paths_into_layers_and_images_are_parsed() {
        let digest: Digest = DIGEST.parse().unwrap();
        parses(
            "/v2/_oci/ext/discover",
            Operation::Registry(Registry::ListExtensions),
        );
        for text in ["a", "a/b/c", "files", "layers/images"] {
            let name = name(text);
            let layer = format!("/v2/{text}/_strata/layers/{DIGEST}");
            parses(
                &format!("{layer}?n=5&last=b&prefix=etc/"),
                Operation::In(
                    name.clone(),
                    In::Inspect(Inspect::Layer {
                        digest: digest.clone(),
                        prefix: b"etc/".to_vec(),
                        page: PathPage {
                            limit: Some(5),
                            last: Some(b"b".to_vec()),
                        },
                    }),
                ),
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
                    Operation::In(
                        name.clone(),
                        In::Inspect(Inspect::LayerFile {
                            digest: digest.clone(),
                            path: bytes.to_vec(),
                            page: PathPage::default(),
                        }),
                    ),
                );
            }
            for reference in ["v1", DIGEST, &DIGEST.replace(':', "%3A")] {
                parses(
                    &format!(
                        "/v2/{text}/_strata/images/{reference}/files/a?platform=linux%2Farm64&last=%ff+x"
                    ),
                    Operation::In(
                        name.clone(),
                        In::Inspect(Inspect::ImageFile {
                            reference: reference.replace("%3A", ":").parse().unwrap(),
                            platform: Some("linux/arm64".to_owned()),
                            path: b"a".to_vec(),
                            page: PathPage {
                                limit: None,
                                last: Some(b"\xff x".to_vec()),
                            },
                        }),
                    ),
                );
            }
        }
    }

    #[test]
    fn invalidation_paths_are_parsed() {
        for (query, tag) in [("", None), ("?tag=", None), ("?tag=v1&ns=x", Some("v1"))] {
            parses(
                &format!("/v2/a/b/_strata/invalidate{query}"),
                Operation::In(
                    name("a/b"),
                    In::Invalidate {
                        tag: tag.map(|tag| tag.parse().unwrap()),
                    },
                ),
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
    fn administration_paths_are_parsed() {
        let sweep = |is_dry, max| {
            Operation::Registry(Registry::Sweep {
                is_dry,
                max,
                cursor: None,
            })
        };
        for (query, operation) in [
            ("", sweep(false, None)),
            ("?dry-run", sweep(true, None)),
            ("?dry-run=", sweep(true, None)),
            ("?dry-run=true&max=5", sweep(true, Some(5))),
            ("?dry-run=1", sweep(true, None)),
            ("?dry-run=false&cursor=", sweep(false, None)),
        ] {
            parses(&format!("/v2/_strata/sweep{query}"), operation);
        }
        let digest: Digest = DIGEST.parse().unwrap();
        let scrub = |is_dry, digest: Option<&Digest>| {
            Operation::Registry(Registry::Scrub {
                is_dry,
                digest: digest.cloned(),
                cursor: None,
            })
        };
        parses("/v2/_strata/scrub", scrub(false, None));
        parses("/v2/_strata/scrub?dry-run=true", scrub(true, None));
        let one = format!("/v2/_strata/scrub?digest={DIGEST}&dry-run=false");
        parses(&one, scrub(false, Some(&digest)));
        parses(
            &format!("/v2/_strata/blobs/{DIGEST}"),
            Operation::Registry(Registry::ListHolders(digest)),
        );
        let rights = |cursor: Option<&str>| {
            Operation::Registry(Registry::ListDoubtfulRights {
                cursor: cursor.map(str::to_owned),
            })
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
    fn other_extension_paths_are_refused() {
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
            let error = Operation::parse(&Method::GET, &target).unwrap_err();
            assert_eq!(
                (error.code(), error.status().as_u16()),
                (Code::Unsupported, 404),
                "{target}"
            );
        }
        let of = |target: &str| Operation::parse(&Method::GET, target).unwrap_err().code();
        assert_eq!(of("/v2/a/_strata/layers/latest"), Code::DigestInvalid);
        assert_eq!(of("/v2/a/_strata/images/.x/files/"), Code::ManifestInvalid);
        for name in ["A", "a/_b", "a/_strata/layers/b"] {
            let other = format!("/v2/{name}/_strata/layers/{DIGEST}");
            assert!(Operation::parse(&Method::GET, &other).is_err(), "{other}");
        }
        // No name of a repository has such a component, so nothing else is shadowed.
        for target in [
            format!("/v2/_strata/manifests/{DIGEST}"),
            "/v2/a/_strata/manifests/v1".to_owned(),
            "/v2/a/_strata/tags/list".to_owned(),
        ] {
            assert!(Operation::parse(&Method::GET, &target).is_err(), "{target}");
        }
    }

    #[test]
    fn invalid_paths_are_refused_with_the_reason() {
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
            Code::ManifestUnknown,
            404,
            "manifest unknown to registry: unexpected character '.' in tag",
        );
        refuses(
            "/v2/a/manifests/",
            Code::ManifestUnknown,
            404,
            "manifest unknown to registry: empty tag",
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
    fn unknown_paths_are_refused_as_unsupported() {
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
            "/healthz/",
            "/v2/readyz",
            "/v2/metrics",
            "/v2/_catalog/x",
            "/v2/a/referrers",
            "//v2/",
        ] {
            let error = Operation::parse(&Method::GET, target).unwrap_err();
            assert_eq!(
                (error.code(), error.status().as_u16()),
                (Code::Unsupported, 404),
                "{target}"
            );
        }
    }
}
