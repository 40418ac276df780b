//! The scrub on demand.

use http::StatusCode;
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        on_demand::{StepOutcome, StepReport, invalid_query, resumed},
        scrub::{NextObject, STEP, Scrub, cursor::ScrubPosition, report::ScrubReport},
        step::{Allowance, Halt, RESERVE},
    },
};

impl<P: Platform> Upkeep<P> {
    /// Does a step of the scrub, or reports what it would do. A client that repeats it until the
    /// answer is 200 has run a whole pass.
    pub(in crate::registry) async fn scrub_on_demand(
        &self,
        is_dry: bool,
        digest: Option<&Digest>,
        cursor: Option<&str>,
    ) -> Result<StepReport<ScrubReport>, Error> {
        if cursor.is_some() && digest.is_some() {
            return Err(invalid_query(
                "query parameters cursor and digest are not for the same request",
            ));
        }
        let place = resumed(cursor, is_dry, "scrub")?;
        let allowance = Allowance {
            operations: self.settings.subrequests.saturating_sub(RESERVE),
            time: STEP,
            removals: u64::MAX,
        };
        let outcome = match digest {
            Some(digest) => Some(self.scrub_one(allowance, digest, is_dry).await?),
            None if is_dry => Some(self.rehearse_scrub(allowance, place).await?),
            None => self.scrub(allowance, None).await?,
        };
        let outcome = outcome.ok_or_else(|| invalid_query("there is nothing to scrub"))?;
        outcome.into_report(is_dry)
    }

    /// Checks one blob.
    async fn scrub_one(
        &self,
        allowance: Allowance,
        digest: &Digest,
        is_dry: bool,
    ) -> Result<StepOutcome<ScrubReport, ScrubPosition>, Error> {
        let scrub = Scrub::new(self, allowance, is_dry, 1.0, NextObject::default());
        match scrub.scrub_only(digest).await {
            Ok(true) => Ok(scrub.into_outcome(ScrubPosition::Rest, None)),
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
