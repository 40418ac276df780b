//! The scrub on demand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        scrub::{Next, Outcome, STEP, Scrub, cursor::Place, report::Totals},
        step::{Allowance, Halt, RESERVE, StepReport},
    },
    store::document::to_json,
};

impl<P: Platform> Upkeep<P> {
    /// Does a step of the scrub, or tells what it would do. Who repeats it until it is answered with 200 has had a whole pass done.
    pub(in crate::registry) async fn scrub_on_demand(
        &self,
        is_dry: bool,
        digest: Option<&Digest>,
        cursor: Option<&str>,
    ) -> Result<StepReport, Error> {
        let invalid = |found| {
            let error = Error::new(Code::Unsupported, found);
            Err(error.with_status(StatusCode::BAD_REQUEST))
        };
        let allowance = Allowance {
            operations: self.settings.subrequests.saturating_sub(RESERVE),
            time: STEP,
            removals: u64::MAX,
        };
        let outcome = match (cursor.map(parse_cursor), digest) {
            (Some(_), Some(_)) => {
                return invalid("query parameters cursor and digest are not for the same request");
            }
            (Some(_), None) if !is_dry => {
                return invalid(
                    "query parameter cursor is for dry runs, a scrub knows how far it is",
                );
            }
            (Some(None), None) => {
                return invalid("query parameter cursor is not what a dry run was answered with");
            }
            (None, Some(digest)) => self.scrub_one(allowance, digest, is_dry).await?,
            (place, None) if is_dry => self.rehearse_scrub(allowance, place.flatten()).await?,
            (_, None) => {
                let Some(outcome) = self.scrub(allowance, None).await? else {
                    return invalid("there is nothing to scrub");
                };
                outcome
            }
        };
        let is_finished = outcome.place == Place::Rest;
        let found: u64 = outcome.report.totals.found.values().sum();
        let totals = &outcome.report.totals;
        let mut body = json!({
            "dryRun": is_dry,
            "finished": is_finished,
            "phase": outcome.place.name(),
            "operations": outcome.operations,
            "checked": totals.checked,
            "bytes": totals.bytes,
            "count": found,
            "repaired": totals.repaired,
            "findings": outcome.report.findings,
        });
        if let Some(body) = body.as_object_mut() {
            if digest.is_none() {
                body.insert("pass".to_owned(), json!(outcome.pass));
            }
            if is_dry && !is_finished {
                let cursor = URL_SAFE_NO_PAD.encode(to_json(&outcome.place)?);
                body.insert("cursor".to_owned(), cursor.into());
            }
        }
        Ok(StepReport { is_finished, body })
    }

    /// Looks at one blob.
    async fn scrub_one(
        &self,
        allowance: Allowance,
        digest: &Digest,
        is_dry: bool,
    ) -> Result<Outcome, Error> {
        let scrub = Scrub::new(self, allowance, is_dry, 1.0, Next::default());
        match scrub.scrub_only(digest).await {
            Ok(true) => Ok(Outcome {
                operations: scrub.work.spent(),
                report: scrub.report.into_inner(),
                place: Place::Rest,
                pass: Totals::default(),
            }),
            Ok(false) => Err(Error::new(Code::BlobUnknown, digest.to_string())
                .with_detail(json!({ "digest": digest.to_string() }))),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Spent) => {
                let found = format!(
                    "reading {digest} takes more store operations than STRATA_SUBREQUESTS allows a request"
                );
                Err(Error::new(Code::Unsupported, found).with_status(StatusCode::PAYLOAD_TOO_LARGE))
            }
        }
    }
}

fn parse_cursor(text: &str) -> Option<Place> {
    let json = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}
