//! Errors as clients see them: one table of codes, one form.
//!
//! Source: distribution-spec v1.1.1, "Error Codes". The body is `{"errors": [{"code": …, "message":
//! …, "detail": …}]}`. The message is the table's, followed by the problem and the action to take.
//!
//! The registry turns errors into responses itself, so a platform sees none of them.

use std::{fmt, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    digest::{Digest, ParseDigestError},
    name::{Name, ParseNameError, ParseReferenceError, ParseTagError},
};

/// The `Retry-After` of a request that met a transient condition.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The `Retry-After` of a request that found no memory.
pub(crate) const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Declares the table: variant, code on the wire, default status, message.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident, $wire:literal, $status:ident, $message:literal;)*) => {
        /// A code that identifies the error for a client (distribution-spec v1.1.1, "Error Codes").
        /// The last three are this registry's own.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code: the specification's, in its order, then this registry's own.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code on the wire, such as `BLOB_UNKNOWN`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)*
                }
            }

            /// The status that goes with the code unless the end-point says otherwise.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)*
                }
            }

            /// The message of the specification's table, or of this registry's own codes.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

codes! {
    /// The repository has no such blob, or no right to it (code-1).
    BlobUnknown, "BLOB_UNKNOWN", NOT_FOUND, "blob unknown to registry";
    /// The request for an upload is not valid (code-2).
    BlobUploadInvalid, "BLOB_UPLOAD_INVALID", BAD_REQUEST, "blob upload invalid";
    /// There is no such upload (code-3).
    BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN", NOT_FOUND, "blob upload unknown to registry";
    /// A digest is malformed, or the bytes have another one (code-4).
    DigestInvalid, "DIGEST_INVALID", BAD_REQUEST, "provided digest did not match uploaded content";
    /// A manifest names a blob or manifest that the repository does not have (code-5).
    ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", NOT_FOUND, "manifest references a manifest or blob unknown to registry";
    /// A manifest or a tag is not valid (code-6).
    ManifestInvalid, "MANIFEST_INVALID", BAD_REQUEST, "manifest invalid";
    /// The repository has no such manifest or tag (code-7).
    ManifestUnknown, "MANIFEST_UNKNOWN", NOT_FOUND, "manifest unknown to registry";
    /// The name of a repository is malformed (code-8).
    NameInvalid, "NAME_INVALID", BAD_REQUEST, "invalid repository name";
    /// No repository has this name (code-9).
    NameUnknown, "NAME_UNKNOWN", NOT_FOUND, "repository name not known to registry";
    /// A length is malformed, or the bytes have another one (code-10).
    SizeInvalid, "SIZE_INVALID", BAD_REQUEST, "provided length did not match content length";
    /// The caller must sign in, or get a token with more scopes (code-11).
    Unauthorized, "UNAUTHORIZED", UNAUTHORIZED, "authentication required";
    /// The caller lacks the permission, and signing in can't help (code-12).
    Denied, "DENIED", FORBIDDEN, "requested access to the resource is denied";
    /// A path, method, parameter or header is not supported (code-13).
    Unsupported, "UNSUPPORTED", METHOD_NOT_ALLOWED, "the operation is unsupported";
    /// The caller must wait; sent with `Retry-After` (code-14).
    TooManyRequests, "TOOMANYREQUESTS", TOO_MANY_REQUESTS, "too many requests";
    /// Not in the table: a layer or an image has no such path.
    FileUnknown, "FILE_UNKNOWN", NOT_FOUND, "file unknown to image";
    /// Not in the table: the content of a layer can't be read. The layer can still be pulled.
    LayerInvalid, "LAYER_INVALID", UNPROCESSABLE_ENTITY, "layer content can't be read";
    /// Not in the table: the registry, or its store, can't answer now. Always sent with
    /// `Retry-After`.
    Unavailable, "UNAVAILABLE", SERVICE_UNAVAILABLE, "registry unavailable";
}

/// An error response: a code, a status, a message, and a cause for the log.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    status: StatusCode,
    found: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

impl Error {
    /// Makes an error with the status of its code. `found` describes the problem, in lower case and
    /// without a full stop, and is shown to the client.
    pub fn new(code: Code, found: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            found: found.into(),
            detail: None,
            headers: Vec::new(),
            cause: None,
        }
    }

    /// Makes the error for a blob that the repository does not have or has no right to: 404, with
    /// both names as the detail.
    pub fn blob_unknown(name: &Name, digest: &Digest) -> Self {
        Self::new(Code::BlobUnknown, format!("{digest} in repository {name}"))
            .with_detail(json!({ "name": name.as_str(), "digest": digest.to_string() }))
    }

    /// Makes the error for a tag or digest without a manifest in the repository: 404, with both
    /// names as the detail.
    pub fn manifest_unknown(name: &Name, reference: &impl fmt::Display) -> Self {
        let found = format!("{reference} in repository {name}");
        Self::new(Code::ManifestUnknown, found)
            .with_detail(json!({ "name": name.as_str(), "reference": reference.to_string() }))
    }

    /// Makes the error for a registry that can't answer now: 503, with `Retry-After` in whole
    /// seconds.
    pub fn unavailable(found: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(Code::Unavailable, found).with_header(
            header::RETRY_AFTER,
            HeaderValue::from(retry_after.as_secs()),
        )
    }

    /// Puts the purpose of the failed attempt before the rest of the message.
    pub fn because(mut self, why: &str) -> Self {
        self.found = format!("{why}: {}", self.found);
        self
    }

    /// Replaces the status of the code.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Sets the detail: the facts that a program needs to act on the error.
    pub fn with_detail(self, detail: Value) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    /// Adds a header to the response, beside earlier ones of the same name.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the cause for the log. The client does not see it.
    pub fn with_cause(self, cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }

    /// The code, which decides the default status and the start of the message.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The status of the response: that of the code, unless it was replaced.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of this error alone, such as `Retry-After` and `WWW-Authenticate`.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The cause for the log, which may name the store or an upstream.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The message for the client: the one of the code, a colon, and the description of the
    /// problem.
    pub fn message(&self) -> String {
        format!("{}: {}", self.code.message(), self.found)
    }

    /// The body of the response: JSON with one error.
    pub fn body(&self) -> Vec<u8> {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message() });
        if let (Some(detail), Some(error)) = (&self.detail, error.as_object_mut()) {
            error.insert("detail".into(), detail.clone());
        }
        json!({ "errors": [error] }).to_string().into_bytes()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl From<ParseDigestError> for Error {
    fn from(error: ParseDigestError) -> Self {
        Self::new(Code::DigestInvalid, error.to_string())
    }
}

impl From<ParseNameError> for Error {
    fn from(error: ParseNameError) -> Self {
        Self::new(Code::NameInvalid, error.to_string())
    }
}

impl From<ParseReferenceError> for Error {
    fn from(error: ParseReferenceError) -> Self {
        match error {
            ParseReferenceError::Digest(error) => error.into(),
            ParseReferenceError::Tag(error) => error.into(),
        }
    }
}

/// The specification has no code for a malformed tag, so the code is that of the manifest that it
/// names.
impl From<ParseTagError> for Error {
    fn from(error: ParseTagError) -> Self {
        Self::new(Code::ManifestInvalid, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const OURS: &[Code] = &[Code::FileUnknown, Code::LayerInvalid, Code::Unavailable];

    /// distribution-spec v1.1.1, "Error Codes".
    const TABLE: &str = "\
code-1 BLOB_UNKNOWN blob unknown to registry
code-2 BLOB_UPLOAD_INVALID blob upload invalid
code-3 BLOB_UPLOAD_UNKNOWN blob upload unknown to registry
code-4 DIGEST_INVALID provided digest did not match uploaded content
code-5 MANIFEST_BLOB_UNKNOWN manifest references a manifest or blob unknown to registry
code-6 MANIFEST_INVALID manifest invalid
code-7 MANIFEST_UNKNOWN manifest unknown to registry
code-8 NAME_INVALID invalid repository name
code-9 NAME_UNKNOWN repository name not known to registry
code-10 SIZE_INVALID provided length did not match content length
code-11 UNAUTHORIZED authentication required
code-12 DENIED requested access to the resource is denied
code-13 UNSUPPORTED the operation is unsupported
code-14 TOOMANYREQUESTS too many requests";

    #[test]
    fn error_codes_are_the_table_of_the_specification_in_order() {
        let table: Vec<String> = (1..)
            .zip(Code::ALL)
            .filter(|(_, code)| !OURS.contains(code))
            .map(|(number, code)| format!("code-{number} {} {}", code.as_str(), code.message()))
            .collect();
        assert_eq!(table.join("\n"), TABLE);
        assert!(Code::ALL.ends_with(OURS));
    }

    #[test]
    fn an_error_body_has_the_code_and_the_problem_found() {
        let error = Error::new(
            Code::NameInvalid,
            "unexpected character 'A' in repository name",
        );
        assert_eq!(
            String::from_utf8(error.body()).unwrap(),
            r#"{"errors":[{"code":"NAME_INVALID","message":"invalid repository name: unexpected character 'A' in repository name"}]}"#
        );
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_error_body_has_the_detail_but_not_the_cause() {
        let error = Error::unavailable("the store did not answer", Duration::from_secs(2))
            .with_detail(json!({ "tier": "cold" }))
            .with_cause("secret of the house");
        let body = String::from_utf8(error.body()).unwrap();
        assert_eq!(
            body,
            r#"{"errors":[{"code":"UNAVAILABLE","detail":{"tier":"cold"},"message":"registry unavailable: the store did not answer"}]}"#
        );
        assert_eq!(
            error.headers(),
            [(header::RETRY_AFTER, HeaderValue::from_static("2"))]
        );
    }
}
