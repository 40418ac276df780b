//! The log and the metrics of requests.

use std::time::Duration;

use http::{Method, header};

use crate::{
    host::{Level, Log as _},
    platform::Platform,
    registry::{Registry, about::About, body::Body, headers::text, reply::ResponseOf},
    settings::LogScope,
    store::{Bytes as _, trace::Trace},
    tier::Tier,
};

impl<P: Platform> Registry<P> {
    /// Counts an answered request, and logs it.
    pub(super) fn count(
        &self,
        about: &About<'_>,
        method: &Method,
        response: &ResponseOf<P>,
        trace: &Trace<P::Bytes>,
        took: Duration,
    ) {
        let status = response.status();
        let sent = match response.body() {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Held(bytes) => bytes.len(),
            Body::Stream(_) => text(response.headers(), header::CONTENT_LENGTH)
                .and_then(|length| length.parse().ok())
                .unwrap_or_default(),
        };
        // Clients can invent methods, and counters must not grow with them.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        self.metrics.sent.inc_by(sent);
        self.metrics
            .answered(about.route, method, status.as_str(), took.as_secs_f64());
        if self.settings.log == LogScope::Requests {
            let fields = [
                ("request", about.id),
                ("user", &about.user.borrow()),
                ("method", method),
                ("route", about.route),
                (
                    "repository",
                    about.repository.as_deref().unwrap_or_default(),
                ),
                ("status", status.as_str()),
                ("tier", trace.tier().map_or("", Tier::name)),
                ("milliseconds", &took.as_millis().to_string()),
                ("bytes", &sent.to_string()),
            ];
            self.host.log(Level::Info, "request", &fields);
        }
    }
}
