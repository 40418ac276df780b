//! The sweep on demand.

use crate::{
    error::Error,
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        on_demand::{StepReport, invalid_query, resumed},
        step::{Allowance, RESERVE},
        sweep::{STEP, SweepReport},
    },
};

impl<P: Platform> Upkeep<P> {
    /// Does a step of the sweep, or reports what it would do. A client that repeats it until the
    /// answer is 200 has run a whole round.
    pub(in crate::registry) async fn sweep_on_demand(
        &self,
        is_dry: bool,
        max: Option<u64>,
        cursor: Option<&str>,
    ) -> Result<StepReport<SweepReport>, Error> {
        if max == Some(0) {
            return Err(invalid_query(
                "query parameter max is 0; expected 1 or more",
            ));
        }
        let place = resumed(cursor, is_dry, "sweep")?;
        let allowance = Allowance {
            operations: self.settings.subrequests.saturating_sub(RESERVE),
            time: STEP,
            removals: max.unwrap_or(u64::MAX),
        };
        if is_dry {
            return self.rehearse(allowance, place).await?.into_report(true);
        }
        let swept = self.sweep(allowance, false).await?;
        let (mut outcome, joins) =
            swept.ok_or_else(|| invalid_query("there is nothing to sweep"))?;
        outcome.report.joined = self.join_all(joins).await;
        outcome.into_report(false)
    }
}
