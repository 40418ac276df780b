//! The cache of a location, by the Cache API.
//!
//! <https://developers.cloudflare.com/workers/runtime-apis/cache/>

use std::time::Duration;

use strata::{host::Cache, range::ByteRange, store::StoreError};
use web_sys::ReadableStream;
use worker::{Headers, Request, RequestInit, Response, ResponseBody};

use crate::{failure::failed, host::Edge, platform::respond, stream::discard};

/// The name of the cache. It keeps the entries apart from what the zone caches by address.
const NAME: &str = "strata";

impl Cache for Edge {
    async fn cached(
        &self,
        address: &str,
        size: u64,
        range: Option<ByteRange>,
    ) -> Result<Option<ReadableStream>, StoreError> {
        let headers = Headers::new();
        if let Some(range) = range {
            let range = format!("bytes={range}");
            headers.set("range", &range).map_err(failed)?;
        }
        let mut init = RequestInit::new();
        init.with_headers(headers);
        let request = Request::new_with_init(address, &init).map_err(failed)?;
        let cache = worker::Cache::open(NAME.to_owned()).await;
        let Some(response) = cache.get(&request, false).await.map_err(failed)? else {
            return Ok(None);
        };
        let is_whole = response.status_code() == 200;
        let length = response.headers().get("content-length").map_err(failed)?;
        let length = length.and_then(|length| length.parse().ok());
        let ResponseBody::Stream(body) = response.into_parts().1 else {
            return Err(StoreError::Length);
        };
        let expected = range.map_or(size, ByteRange::length);
        if is_whole == range.is_none() && length == Some(expected) {
            return Ok(Some(body));
        }
        discard(&body).await;
        Err(StoreError::Length)
    }

    async fn cache(
        &self,
        address: &str,
        body: ReadableStream,
        size: u64,
        time_to_live: Duration,
    ) -> Result<(), StoreError> {
        let head = format!(
            "cache-control\npublic, max-age={}\ncontent-length\n{size}\ncontent-type\napplication/octet-stream\n",
            time_to_live.as_secs()
        );
        let response = respond(200, &head, &body.into()).map_err(failed)?;
        let cache = worker::Cache::open(NAME.to_owned()).await;
        let put = cache.put(address, Response::from(response)).await;
        put.map_err(failed)
    }
}
