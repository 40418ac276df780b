//! A breadth-first search of all states, so the path to each finding is a shortest one.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model as _};

use crate::{
    model::{Action, Removal},
    promise::Loss,
};

/// The result of a search.
#[derive(Debug)]
pub struct Search {
    /// How many states were seen.
    pub states: usize,
    /// The properties that do not hold.
    pub lost: Vec<&'static str>,
    /// The states that should have been seen and were not.
    pub unseen: Vec<&'static str>,
    /// The way to the first loss.
    pub way: Vec<Action>,
}

impl Search {
    /// Searches all states.
    pub fn all(model: Removal) -> Self {
        Self::run(model, HasDiscoveries::All)
    }

    /// Searches until this is lost.
    pub fn until(model: Removal, loss: Loss) -> Self {
        Self::run(
            model,
            HasDiscoveries::AnyOf(BTreeSet::from([loss.property()])),
        )
    }

    /// Searches until anything is lost.
    pub fn until_lost(model: Removal) -> Self {
        Self::run(model, HasDiscoveries::AnyFailures)
    }

    fn run(model: Removal, end: HasDiscoveries) -> Self {
        let checker = model.checker().finish_when(end).spawn_bfs().join();
        let mut search = Self {
            states: checker.unique_state_count(),
            lost: Vec::new(),
            unseen: Vec::new(),
            way: Vec::new(),
        };
        for property in model.properties() {
            match (property.expectation, checker.discovery(property.name)) {
                (Expectation::Always, Some(way)) => {
                    search.lost.push(property.name);
                    search.way = way.into_actions();
                }
                (Expectation::Sometimes, None) => search.unseen.push(property.name),
                (Expectation::Always | Expectation::Sometimes | Expectation::Eventually, _) => {}
            }
        }
        search
    }
}
