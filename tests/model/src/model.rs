//! The model: states, and the actions that are possible in each.

use stateright::Property;

use crate::{
    process::{
        At, Client, World, manifest,
        sweep::{Sweeper, Task},
    },
    promise::Loss,
    rights::Known,
    rule::Rule,
    scenario::{Operation, Scenario},
    store::{Blob, Key, Manifest, Store},
};

/// The removal protocol in one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    /// The clients, the sweepers and the stored objects.
    pub scenario: &'static Scenario,
    /// The rule that is taken away.
    pub without: Option<Rule>,
}

/// A state.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct State {
    /// The store.
    pub store: Store,
    /// The clients.
    pub clients: Vec<Client>,
    /// The sweepers, in order: they are all alike, so states that differ only in their numbering
    /// are one.
    pub sweepers: Vec<Sweeper>,
    /// The manifests that a client has deleted and that were not pushed since, as bits.
    pub deleted: u8,
    /// The indexes that have not had all that they list since they were stored, as bits.
    pub partial: u8,
    /// Whether the blob that was damaged at the beginning has been right since.
    pub healed: bool,
    /// The settings, and the facts about rights that only the search knows.
    pub known: Known,
}

/// A possible action.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// A tick passes.
    Tick,
    /// A client does a step.
    Client(usize),
    /// An idle sweeper takes a task.
    Begin(usize, Task),
    /// A sweeper does a step.
    Sweeper(usize),
}

impl State {
    /// Lets a tick pass.
    pub fn tick(&mut self, scenario: &Scenario) {
        let grace = scenario.grace;
        self.store.tick(grace, scenario.tasks.aging());
        for client in &mut self.clients {
            client.tick(grace);
        }
        for sweeper in &mut self.sweepers {
            sweeper.tick(grace);
        }
    }
}

impl State {
    /// Notes the indexes that were stored without a manifest that they list.
    fn note_partial(&mut self, before: &Self, scenario: &Scenario) {
        for (key, _) in self.store.list() {
            let Key::Manifest(repository, index) = key else {
                continue;
            };
            let mut children = scenario.manifest(index).children.iter();
            let has = |child: &Manifest| self.store.has(Key::Manifest(repository, *child));
            let is_new = !before.store.has(key);
            if children.all(has) {
                self.partial &= !(1 << index.0);
            } else if is_new {
                self.partial |= 1 << index.0;
            }
        }
    }
}

impl stateright::Model for Removal {
    type Action = Action;
    type State = State;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store::default();
        (self.scenario.stored)(&mut store);
        let clients = (0..)
            .zip(self.scenario.clients)
            .map(|(number, _)| Client::new(number));
        vec![State {
            store,
            clients: clients.collect(),
            sweepers: vec![Sweeper::Idle; self.scenario.sweepers],
            deleted: 0,
            partial: 0,
            healed: false,
            known: Known::new(self.scenario),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, client) in state.clients.iter().enumerate() {
            if !client.is_ended() {
                actions.push(Action::Client(number));
            }
        }
        let mut is_first_idle = true;
        for (number, sweeper) in state.sweepers.iter().enumerate() {
            if *sweeper != Sweeper::Idle {
                actions.push(Action::Sweeper(number));
            } else if is_first_idle {
                is_first_idle = false;
                let tasks = self
                    .scenario
                    .tasks
                    .of(&state.store, self.scenario, self.without);
                actions.extend(tasks.into_iter().map(|task| Action::Begin(number, task)));
            }
        }
        actions.push(Action::Tick);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let mut world = World {
            model: self,
            before: state,
            store: &mut next.store,
            known: &mut next.known,
        };
        match action {
            Action::Tick => next.tick(self.scenario),
            Action::Client(number) => {
                let client = *state.clients.get(number)?;
                if let (
                    At::Manifest(manifest::At::Delete),
                    Some(Operation::DeleteManifest { manifest, .. }),
                ) = (client.at, client.operation(self))
                {
                    next.deleted |= 1 << manifest.0;
                }
                let client = client.step(&mut world);
                for (key, _) in next.store.list() {
                    if let Key::Manifest(_, manifest) = key {
                        next.deleted &= !(1 << manifest.0);
                    }
                }
                *next.clients.get_mut(number)? = client;
            }
            Action::Begin(number, task) => {
                *next.sweepers.get_mut(number)? = Sweeper::begin(task, &world);
                next.sweepers.sort_unstable();
            }
            Action::Sweeper(number) => {
                *next.sweepers.get_mut(number)? = state.sweepers.get(number)?.step(&mut world);
                next.sweepers.sort_unstable();
            }
        }
        next.note_partial(state, self.scenario);
        next.healed |= self.scenario.damaged && next.store.is_right(Blob(0));
        if self.scenario.rights {
            next.known.hold(self.scenario, &next.store);
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = Loss::properties(self.scenario);
        for sight in self.scenario.sights {
            properties.push(sight.property());
        }
        properties
    }
}
