//! The report of the scrub: objects that were read, findings, and repairs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{host::Level, registry::upkeep::step::What};

/// The totals of a step or a pass.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Totals {
    /// The number of objects that were checked, by kind.
    pub(super) checked: BTreeMap<String, u64>,
    /// The bytes that were read.
    pub(super) bytes: u64,
    /// The number of findings, by problem and kind.
    pub(super) found: BTreeMap<String, u64>,
    /// The number of findings that were repaired.
    pub(super) repaired: u64,
}

impl Totals {
    pub(super) fn add(&mut self, step: &Self) {
        for (what, number) in &step.checked {
            *self.checked.entry(what.clone()).or_default() += number;
        }
        for (what, number) in &step.found {
            *self.found.entry(what.clone()).or_default() += number;
        }
        self.bytes += step.bytes;
        self.repaired += step.repaired;
    }
}

/// The problem with an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Damage {
    /// Another object refers to it, and it is not stored.
    Missing,
    /// An index lists a manifest that is not stored. A client may have deleted that manifest.
    Incomplete,
    /// Its content is wrong.
    Corrupt,
    /// No object refers to it that should.
    Orphaned,
    /// It could not be read to its end, so its state is unknown.
    Unread,
}

impl Damage {
    /// Whether the operator should look at it.
    pub(super) const fn level(self) -> Level {
        match self {
            Self::Incomplete => Level::Info,
            Self::Missing | Self::Corrupt | Self::Orphaned | Self::Unread => Level::Error,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Incomplete => "incomplete",
            Self::Corrupt => "corrupt",
            Self::Orphaned => "orphaned",
            Self::Unread => "unread",
        }
    }
}

/// The repair of a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Repair {
    /// It counts as absent, until it is pushed or fetched again.
    Aside,
    /// It is deleted.
    Delete,
    /// It is written anew.
    Write,
}

impl Repair {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aside => "aside",
            Self::Delete => "delete",
            Self::Write => "write",
        }
    }
}

/// A problem that the scrub found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) found: Damage,
    pub(super) what: What,
    pub(super) key: String,
    pub(super) why: String,
    /// The repair; none if a client must push the object again, or a person must look at it.
    pub(super) repair: Option<Repair>,
}

/// The findings of a step.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The first findings, in full.
    pub(super) findings: Vec<Finding>,
    pub(super) totals: Totals,
    /// The keys that were reported.
    pub(super) told: BTreeSet<String>,
}

/// The findings of a step, for clients.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct ScrubReport {
    checked: BTreeMap<String, u64>,
    bytes: u64,
    /// The number of findings.
    count: u64,
    repaired: u64,
    /// The first findings, in full.
    findings: Vec<Finding>,
    /// The totals of the whole pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<Totals>,
}

impl Report {
    pub(super) fn into_report(self, pass: Option<Totals>) -> ScrubReport {
        let Totals {
            checked,
            bytes,
            found,
            repaired,
        } = self.totals;
        ScrubReport {
            checked,
            bytes,
            count: found.values().sum(),
            repaired,
            findings: self.findings,
            pass,
        }
    }
}
