//! The sweep on demand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::json;

use crate::{
    error::{Code, Error},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        step::{Allowance, RESERVE, StepReport},
        sweep::{STEP, cursor::Place},
    },
    store::document::to_json,
};

impl<P: Platform> Upkeep<P> {
    /// Does a step of the sweep, or tells what it would do. Who repeats it until it is answered with 200 has had a whole round done.
    pub(in crate::registry) async fn sweep_on_demand(
        &self,
        is_dry: bool,
        max: Option<u64>,
        cursor: Option<&str>,
    ) -> Result<StepReport, Error> {
        let invalid = |found| {
            let error = Error::new(Code::Unsupported, found);
            Err(error.with_status(StatusCode::BAD_REQUEST))
        };
        if max == Some(0) {
            return invalid("query parameter max is 0, let it be 1 at least");
        }
        let allowance = Allowance {
            operations: self.settings.subrequests.saturating_sub(RESERVE),
            time: STEP,
            removals: max.unwrap_or(u64::MAX),
        };
        let outcome = match cursor.map(parse_cursor) {
            Some(_) if !is_dry => {
                return invalid(
                    "query parameter cursor is for dry runs, a sweep knows how far it is",
                );
            }
            Some(None) => {
                return invalid("query parameter cursor is not what a dry run was answered with");
            }
            place if is_dry => Some(self.rehearse(allowance, place.flatten()).await?),
            _ => self.sweep(allowance, false).await?,
        };
        let Some(outcome) = outcome else {
            return invalid("there is nothing to sweep");
        };
        let mut body = json!({
            "dryRun": is_dry,
            "finished": outcome.is_finished,
            "phase": outcome.place.name(),
            "operations": outcome.operations,
            "count": outcome.report.count,
            "bytes": outcome.report.bytes,
            "removals": outcome.report.removals,
        });
        if is_dry && !outcome.is_finished {
            let cursor = URL_SAFE_NO_PAD.encode(to_json(&outcome.place)?);
            if let Some(body) = body.as_object_mut() {
                body.insert("cursor".to_owned(), cursor.into());
            }
        }
        Ok(StepReport {
            is_finished: outcome.is_finished,
            body,
        })
    }
}

fn parse_cursor(text: &str) -> Option<Place> {
    let json = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}
