//! The report of the scrub: what it read, found and repaired.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::registry::upkeep::step::What;

/// What a pass has come to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Totals {
    /// How many were looked at, by what they are.
    pub(super) checked: BTreeMap<String, u64>,
    /// The bytes that were read.
    pub(super) bytes: u64,
    /// What was found, by what it is and what is wrong with it.
    pub(super) found: BTreeMap<String, u64>,
    /// How much of it was repaired.
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

/// What is wrong with something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Found {
    /// Something refers to it, and it is not there.
    Missing,
    /// It is not what it should be.
    Corrupt,
    /// Nothing refers to it that should.
    Orphaned,
    /// It could not be read to its end: nothing is known of it.
    Unread,
}

impl Found {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Orphaned => "orphaned",
            Self::Unread => "unread",
        }
    }
}

/// What is done about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Repair {
    /// It is as if it were not there, until it is pushed or asked for again.
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

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) found: Found,
    pub(super) what: What,
    pub(super) key: String,
    pub(super) why: String,
    /// What is done about it; nothing where somebody has to push it, or to look.
    pub(super) repair: Option<Repair>,
}

/// What a step has come to.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The first of what was found.
    pub(super) findings: Vec<Finding>,
    pub(super) totals: Totals,
    /// The keys that were told of.
    pub(super) told: BTreeSet<String>,
}

/// What a step has come to, for clients.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct ScrubReport {
    checked: BTreeMap<String, u64>,
    bytes: u64,
    /// How much was found.
    count: u64,
    repaired: u64,
    /// The first of what was found.
    findings: Vec<Finding>,
    /// What the whole pass has come to.
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
