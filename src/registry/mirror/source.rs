//! Opening a blob of an upstream.

use std::rc::Rc;

use futures_util::future::{LocalBoxFuture, join};
use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    digest::Digest,
    error::{Code, Error},
    host::{Clock as _, Level, Log as _, Reply},
    platform::{Platform, ReaderOf},
    registry::{
        grant::Look,
        headers::{text, value},
        mirror::{
            Mirror, client::Question, download::UpstreamBlob, error::UpstreamError, fill::Fill,
            resume::BegunFill,
        },
        upload::delivery::Delivery,
    },
    store::{Reader as _, Streams as _},
    upstream::Mirrored,
};

/// The size of the whole blob, by the `Content-Range` (RFC 9110) of the rest from an offset on.
fn whole_size(range: &str, offset: u64) -> Option<u64> {
    let (_, size) = range.rsplit_once('/')?;
    let size: u64 = size.parse().ok()?;
    let expected = format!("bytes {offset}-{}/{size}", size.checked_sub(1)?);
    (range == expected).then_some(size)
}

pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok()
}

/// The largest blob that is stored before it is served: in one operation, and without a session.
const SMALL: u64 = 1024 * 1024;

/// The reply of an upstream to a request for the rest of a blob.
enum Rest<P: Platform> {
    /// The rest.
    UpstreamBlob(UpstreamBlob<P>),
    /// The whole blob.
    All(Reply<P::Body>),
    /// Nothing that can be used.
    Refused,
}

impl<P: Platform> Mirror<P> {
    /// Requests a blob from the upstream, and returns the work that fills it; `None` if it is
    /// stored already.
    pub(super) async fn begin_fill(
        self: &Rc<Self>,
        mirrored: &Mirrored,
        digest: &Digest,
        key: &str,
        fill: &Rc<Fill<P::Bytes>>,
    ) -> Result<Option<LocalBoxFuture<'static, ()>>, UpstreamError> {
        let fills = &self.fills;
        let source = match self.open_source(mirrored, digest, fill).await {
            Ok(Some(source)) => source,
            Ok(None) => {
                fills.end(key, fill, Ok(()));
                return Ok(None);
            }
            Err(error) => {
                fills.end(key, fill, Err(error.clone()));
                return Err(error);
            }
        };
        fill.begin(source.size, &source.begun.extents, self.host.now());
        let (mirror, mirrored, digest) = (self.clone(), mirrored.clone(), digest.clone());
        let (key, fill) = (key.to_owned(), fill.clone());
        Ok(Some(Box::pin(async move {
            let outcome = mirror.fill(source, &mirrored, &digest, &fill).await;
            if let Err(error) = &outcome {
                let (name, error) = (mirrored.name.to_string(), error.to_string());
                let fields = [("repository", &*name), ("error", &*error)];
                mirror.host.log(Level::Error, "blob not mirrored", &fields);
            }
            mirror.fills.end(&key, &fill, outcome);
        })))
    }

    /// Opens a blob of an upstream; `None` if it was stored already, or has been stored here.
    async fn open_source(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        fill: &Fill<P::Bytes>,
    ) -> Result<Option<UpstreamBlob<P>>, UpstreamError> {
        let name = &mirrored.name;
        let failed = |error: Error| UpstreamError::Store(error.message());
        let (seen, begun) = join(self.grants.look(digest), self.begun(name, digest)).await;
        let (seen, begun) = (seen.map_err(failed)?, begun.map_err(failed)?);
        if let Look::Present(record) = &seen {
            let given = self.may_reuse_bytes(mirrored, digest, record.size()).await;
            if given.map_err(failed)? {
                let kept = self
                    .uploads
                    .keep_present(name, digest, Delivery::Fill)
                    .await;
                if kept.map_err(failed)? {
                    return Ok(None);
                }
            }
        }
        let begun = begun.filter(|begun| begun.offset() > 0);
        let reply = match begun {
            Some(begun) => match self.continue_source(mirrored, digest, begun).await? {
                Rest::UpstreamBlob(source) => return Ok(Some(source)),
                Rest::All(reply) => Some(reply),
                Rest::Refused => None,
            },
            None => None,
        };
        let reply = match reply {
            Some(reply) => reply,
            None => self.ask_for_blob(mirrored, digest, None).await?,
        };
        self.begin_source(mirrored, digest, reply, &seen, fill)
            .await
    }

    /// Asks an upstream for the rest of a blob that is stored in part.
    async fn continue_source(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        begun: BegunFill,
    ) -> Result<Rest<P>, UpstreamError> {
        let offset = begun.offset();
        match self.ask_for_blob(mirrored, digest, Some(offset)).await {
            Ok(reply) if reply.status == StatusCode::OK => Ok(Rest::All(reply)),
            Ok(reply) => match self.read_rest(reply, offset).await? {
                Some((reader, size)) if size <= mirrored.upstream.most_bytes => {
                    Ok(Rest::UpstreamBlob(UpstreamBlob {
                        reader,
                        size,
                        begun,
                    }))
                }
                Some((reader, _)) => {
                    reader.give_up().await;
                    Ok(Rest::Refused)
                }
                None => Ok(Rest::Refused),
            },
            // The upstream may reject the range.
            Err(UpstreamError::Failed(_)) => Ok(Rest::Refused),
            Err(error) => Err(error),
        }
    }

    /// Begins to read all of a blob; `None` if it is stored by now.
    async fn begin_source(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        reply: Reply<P::Body>,
        seen: &Look,
        fill: &Fill<P::Bytes>,
    ) -> Result<Option<UpstreamBlob<P>>, UpstreamError> {
        let (name, most) = (&mirrored.name, mirrored.upstream.most_bytes);
        let wrong = |found: String| UpstreamError::Wrong(format!("blob {digest}: {found}"));
        let length = length(&reply.headers);
        let Reply {
            status: StatusCode::OK,
            body: Some(body),
            ..
        } = reply
        else {
            return Err(wrong(format!("status {}", reply.status.as_u16())));
        };
        match length {
            Some(length) if length > most => {
                self.host.discard(body).await;
                Err(wrong(format!(
                    "{length} bytes, more than the {most} that `most_bytes` allows"
                )))
            }
            Some(size) if size > SMALL => {
                let reader = self.host.read(body);
                let reader = reader.map_err(|error| UpstreamError::Failed(error.to_string()))?;
                let begun = self.begin_anew();
                Ok(Some(UpstreamBlob {
                    reader,
                    size,
                    begun,
                }))
            }
            // A blob that is small, or of unknown length, is stored before it is served.
            length => {
                let taken = match length {
                    Some(length) => {
                        self.uploads
                            .fill_whole(Some(body), length, name, digest, seen)
                            .await
                    }
                    None => self.fill_unsized(body, most, name, digest, fill).await,
                };
                taken.map(|()| None).map_err(|error| match error.code() {
                    Code::DigestInvalid | Code::SizeInvalid => wrong(error.message()),
                    _ => UpstreamError::Store(error.message()),
                })
            }
        }
    }

    /// Whether a stored blob of this size may be linked to a mirrored repository without fetching
    /// it again. Two things must hold: its bytes were hashed for another repository of the same
    /// upstream, and the upstream's `HEAD` in this repository is 200 with the stored length. The
    /// first alone says nothing about this repository. The second alone is an unverified claim.
    async fn may_reuse_bytes(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, Error> {
        if !self.grants.is_filled_from(mirrored, digest).await? {
            return Ok(false);
        }
        // A failed `HEAD` is no error: the `GET` that follows decides.
        let said = self.size_of_blob(mirrored, digest).await;
        Ok(said.is_ok_and(|said| said == Some(size)))
    }

    /// Opens the rest of a blob after the upstream broke off, with the size of the whole blob;
    /// `None` if the upstream sends no such range.
    pub(super) async fn open_rest(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<(ReaderOf<P>, u64)>, UpstreamError> {
        let reply = self.ask_for_blob(mirrored, digest, Some(offset)).await?;
        self.read_rest(reply, offset).await
    }

    /// Requests a blob, from this byte on.
    async fn ask_for_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
        offset: Option<u64>,
    ) -> Result<Reply<P::Body>, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some(offset) = offset {
            headers.insert(header::RANGE, value(&format!("bytes={offset}-")));
        }
        let question = Question {
            method: Method::GET,
            path: &format!("/blobs/{digest}"),
            headers,
        };
        self.client.ask(mirrored, &question).await
    }

    /// Begins to read the rest of a blob from this byte on; `None` if the reply has another range.
    async fn read_rest(
        &self,
        reply: Reply<P::Body>,
        offset: u64,
    ) -> Result<Option<(ReaderOf<P>, u64)>, UpstreamError> {
        let Some(body) = reply.body else {
            return Ok(None);
        };
        let size = text(&reply.headers, header::CONTENT_RANGE)
            .filter(|_| reply.status == StatusCode::PARTIAL_CONTENT)
            .and_then(|range| whole_size(range, offset));
        let Some(size) = size else {
            self.host.discard(body).await;
            return Ok(None);
        };
        let reader = self.host.read(body);
        let reader = reader.map_err(|error| UpstreamError::Failed(error.to_string()))?;
        Ok(Some((reader, size)))
    }

    /// The size of an upstream's blob, if the upstream sends it.
    pub(super) async fn size_of_blob(
        &self,
        mirrored: &Mirrored,
        digest: &Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        let question = Question {
            method: Method::HEAD,
            path: &format!("/blobs/{digest}"),
            headers: HeaderMap::new(),
        };
        let reply = self.client.ask(mirrored, &question).await?;
        Ok(length(&reply.headers).filter(|_| reply.status == StatusCode::OK))
    }
}
