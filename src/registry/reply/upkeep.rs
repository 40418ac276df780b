//! Responses about upkeep: the sweep, the scrub, holders, rights, metrics.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::{
    metrics,
    name::Name,
    registry::{
        body::Body,
        reply::{respond, respond_with_json},
        upkeep::on_demand::StepReport,
    },
};

/// The report of a step of the sweep or the scrub: 200 once a whole round is done, else 202.
pub(in crate::registry) fn step<S, Y>(report: &StepReport<impl Serialize>) -> Response<Body<S, Y>> {
    let status = if report.is_finished {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    respond_with_json(status, json!(report).to_string())
}

/// The result of a report.
pub(in crate::registry) fn found<S, Y>(found: &impl Serialize) -> Response<Body<S, Y>> {
    respond_with_json(StatusCode::OK, json!(found).to_string())
}

/// 202: the number of invalidated tags of a mirrored repository.
pub(in crate::registry) fn invalidated<S, Y>(name: &Name, tags: usize) -> Response<Body<S, Y>> {
    let body = json!({ "name": name.as_str(), "invalidated": tags });
    respond_with_json(StatusCode::ACCEPTED, body.to_string())
}

/// The metrics, in the text format of Prometheus.
pub(in crate::registry) fn metrics<S, Y>(text: Vec<u8>) -> Response<Body<S, Y>> {
    let mut response = respond(StatusCode::OK);
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static(metrics::MEDIA_TYPE);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::Bytes(text);
    response
}
