//! Background jobs on demand: the cursor at which a request resumes, and the report of a step.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Code, Error},
    store::{StoreError, document::to_json},
};

/// The position of a background job in a round. The default is between two rounds.
pub(super) trait Position: Default + DeserializeOwned + PartialEq + Serialize {
    /// The name of the phase.
    fn name(&self) -> &'static str;

    /// Whether no round is under way.
    fn is_rest(&self) -> bool {
        *self == Self::default()
    }
}

/// The outcome of a step.
#[derive(Debug)]
pub(super) struct StepOutcome<R, C> {
    pub(super) report: R,
    /// The place at which the next step begins.
    pub(super) place: C,
    pub(super) operations: u32,
}

/// The report of a step on demand, done or rehearsed.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct StepReport<R> {
    #[serde(rename = "dryRun")]
    is_dry: bool,
    /// Whether a whole round is done.
    #[serde(rename = "finished")]
    pub(in crate::registry) is_finished: bool,
    phase: &'static str,
    operations: u32,
    /// Where the next dry run resumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(flatten)]
    report: R,
}

impl<R, C: Position> StepOutcome<R, C> {
    /// The report for the client. The steps of a dry run store nothing, so it gets the cursor.
    pub(super) fn into_report(self, is_dry: bool) -> Result<StepReport<R>, Error> {
        let is_finished = self.place.is_rest();
        let is_resumable = is_dry && !is_finished;
        let cursor = is_resumable.then(|| encode_cursor(&self.place));
        let cursor = cursor.transpose()?;
        Ok(StepReport {
            is_dry,
            is_finished,
            phase: self.place.name(),
            operations: self.operations,
            cursor,
            report: self.report,
        })
    }
}

/// The place at which a dry run resumes; `None` if it begins a round.
pub(super) fn resumed<C: Position>(
    cursor: Option<&str>,
    is_dry: bool,
    job: &str,
) -> Result<Option<C>, Error> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    if !is_dry {
        return Err(invalid_query(format!(
            "query parameter cursor is for dry runs; a {job} keeps its own position"
        )));
    }
    let unknown = || invalid_query("query parameter cursor is not one that a dry run returned");
    parse_cursor(cursor).ok_or_else(unknown).map(Some)
}

/// Encodes a cursor for the client, which sends it back.
pub(super) fn encode_cursor(place: &impl Serialize) -> Result<String, StoreError> {
    Ok(URL_SAFE_NO_PAD.encode(to_json(place)?))
}

/// Parses a cursor; `None` if it is not of this kind.
pub(super) fn parse_cursor<C: DeserializeOwned>(text: &str) -> Option<C> {
    let json = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}

/// 400, for a query whose parameters can't be used.
pub(super) fn invalid_query(found: impl Into<String>) -> Error {
    Error::new(Code::Unsupported, found).with_status(StatusCode::BAD_REQUEST)
}
