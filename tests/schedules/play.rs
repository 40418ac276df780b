//! Schedules: which actor continues and for how long, when the clock advances, which actor is
//! killed, and which operation of the store fails.
//!
//! No operation takes half of the grace period, as the protocol assumes.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof, sample,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use super::world::{Registry, Saved, World};

/// An actor of a scenario, which does one operation of the store after the other.
pub(crate) type Actor = fn(&World, Registry) -> Running;

pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;

/// The concurrent actors of a scenario, and the state in which they begin.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Prepares the state.
    pub(crate) begins: fn(&World),
    pub(crate) actors: &'static [Actor],
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// The settings of the second half of the isolates, if they differ.
    pub(crate) later: Option<&'static [(&'static str, &'static str)]>,
    pub(crate) grace: Duration,
    /// The steps of the clock: less than half of the grace period, which is the longest time of an
    /// operation.
    pub(crate) ticks: [Duration; 2],
    pub(crate) names: &'static [&'static str],
    pub(crate) layer: fn() -> Vec<u8>,
    /// Finds a broken promise in the stored objects.
    pub(crate) broken: fn(&World) -> Option<String>,
    /// Finds a broken promise in the replies at the end.
    pub(crate) ends: fn(&World) -> Option<String>,
    /// Whether isolates keep state that is not stored, so each play needs new ones.
    pub(crate) remembers: bool,
    /// How many schedules are played.
    pub(crate) cases: u32,
}

/// The faults that hit the actors.
#[derive(Default)]
pub(crate) struct Chance {
    operations: Cell<u64>,
    /// The operation that a fault hits.
    fault: Cell<Option<(u64, Fault)>>,
    /// Whether the fault has hit it.
    is_hit: Cell<bool>,
    /// The fault that hit the current actor.
    doom: Cell<Option<Fault>>,
    /// The operations that were requested in this turn.
    asked: RefCell<Vec<Kind>>,
}

/// A fault of one operation, or of its actor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It is not done, and fails.
    Lost,
    /// It is done, and fails nevertheless.
    Kept,
    /// The actor is killed before the operation is done.
    KilledBefore,
    /// The actor is killed after the operation is done and before it sees the result.
    KilledAfter,
}

/// An operation of the store, and the area of its key.
type Kind = (Operation, Area);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Read,
    List,
    Write,
    Delete,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Area {
    Any,
    Blobs,
    Refs,
    Marks,
    Uploads,
    Extents,
    Manifests,
    Tags,
}

impl Chance {
    /// Records an operation, and returns the fault that hits it.
    pub(crate) fn ask(&self, operation: &str, key: &str) -> Option<Fault> {
        let operation = match operation {
            "list" => Operation::List,
            "put" | "receive" => Operation::Write,
            "delete" => Operation::Delete,
            _ => Operation::Read,
        };
        let area = match key.split('/').next() {
            Some("blobs") => Area::Blobs,
            Some("refs") => Area::Refs,
            Some("uploads") => Area::Uploads,
            Some("extents") => Area::Extents,
            Some("sweep") if key.starts_with("sweep/marks") => Area::Marks,
            Some("repositories") if key.contains("_manifests/") => Area::Manifests,
            Some("repositories") if key.contains("_tags/") => Area::Tags,
            _ => Area::Any,
        };
        self.asked.borrow_mut().push((operation, area));
        self.operations.set(self.operations.get() + 1);
        let (_, fault) = self
            .fault
            .get()
            .filter(|(at, _)| *at == self.operations.get())?;
        self.is_hit.set(true);
        self.doom.set(Some(fault));
        Some(fault)
    }

    /// Begins another turn.
    pub(crate) fn forget(&self) {
        self.asked.borrow_mut().clear();
    }

    /// Whether the fault has hit an operation.
    pub(crate) fn has_hit(&self) -> bool {
        self.is_hit.get()
    }

    /// Whether such an operation was requested in this turn.
    pub(crate) fn was_asked(&self, (operation, area): Kind) -> bool {
        let is_such = |asked: &Kind| asked.0 == operation && (area == Area::Any || asked.1 == area);
        self.asked.borrow().iter().any(is_such)
    }
}

/// A step of a schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// An actor runs.
    Run { who: usize, turns: u32 },
    /// An actor runs until such an operation is about to be done, or is done.
    Until {
        who: usize,
        kind: Kind,
        is_done: bool,
    },
    /// An actor runs until so many writes and deletions are done, and the next one is about to be.
    Change { who: usize, after: u32 },
    /// The clock advances.
    Pass { times: u32, is_far: bool },
    /// An actor is killed.
    Kill { who: usize },
}

/// An actor runs until a kind of operation.
fn until(actors: usize) -> impl Strategy<Value = Step> {
    let until = (
        0..actors,
        sample::select(OPERATIONS),
        sample::select(AREAS),
        any::<bool>(),
    );
    until.prop_map(|(who, operation, area, is_done)| Step::Until {
        who,
        kind: (operation, area),
        is_done,
    })
}

/// An actor runs until a change.
fn change(actors: usize) -> impl Strategy<Value = Step> {
    (0..actors, 0..8_u32).prop_map(|(who, after)| Step::Change { who, after })
}

fn pass() -> impl Strategy<Value = Step> {
    (1..5_u32, any::<bool>()).prop_map(|(times, is_far)| Step::Pass { times, is_far })
}

/// An actor runs to its end.
fn end(actors: usize) -> impl Strategy<Value = Step> {
    (0..actors).prop_map(|who| Step::Run {
        who,
        turns: u32::MAX,
    })
}

fn run(actors: usize) -> impl Strategy<Value = Step> {
    (0..actors, 0..6_u32).prop_map(|(who, power)| Step::Run {
        who,
        turns: 1 << power,
    })
}

/// Schedules of three kinds: all actors in turns; the same with some of them killed; some that wait
/// at an operation while others run to their end.
fn schedules(actors: usize) -> impl Strategy<Value = Vec<Step>> {
    let kill = (0..actors).prop_map(|who| Step::Kill { who });
    let steps = prop_oneof![3 => run(actors), 3 => until(actors), 2 => pass()];
    let deadly = prop_oneof![8 => run(actors), 8 => until(actors), 5 => pass(), 1 => kill];
    let parked =
        prop_oneof![1 => until(actors), 3 => change(actors), 2 => pass(), 3 => end(actors)];
    prop_oneof![
        1 => vec(steps, 0..60),
        1 => vec(deadly, 0..60),
        4 => vec(parked, 2..12),
    ]
}

/// Operations that change something have more weight.
const OPERATIONS: &[Operation] = &[
    Operation::List,
    Operation::Read,
    Operation::Write,
    Operation::Write,
    Operation::Delete,
    Operation::Delete,
];

const AREAS: &[Area] = &[
    Area::Any,
    Area::Any,
    Area::Refs,
    Area::Blobs,
    Area::Marks,
    Area::Marks,
    Area::Uploads,
    Area::Extents,
    Area::Manifests,
    Area::Tags,
];

/// An actor that runs until it ends or is killed.
struct Player {
    running: Option<Running>,
    /// Whether the clock has advanced since its last turn.
    waited: bool,
}

impl Player {
    /// Runs it until the end of its turn, and returns whether it continues after that.
    fn turn(&mut self, chance: &Chance) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        chance.forget();
        self.waited = false;
        let Some(running) = &mut self.running else {
            return false;
        };
        let is_done = running.as_mut().poll(&mut context).is_ready();
        let is_killed = match chance.doom.take() {
            Some(Fault::KilledBefore) => true,
            Some(Fault::KilledAfter) => {
                if !is_done {
                    // One more turn does the requested operation; the one after that would deliver
                    // the result.
                    let _ = running.as_mut().poll(&mut context);
                }
                true
            }
            Some(Fault::Lost | Fault::Kept) | None => false,
        };
        if is_done || is_killed {
            self.running = None;
        }
        self.running.is_some()
    }
}

/// The result of a schedule.
pub(crate) struct Played {
    /// The broken promise.
    pub(crate) broken: Option<String>,
    /// How many operations the actors did.
    pub(crate) operations: u64,
    /// Whether the operation was done that the fault was to hit.
    pub(crate) is_hit: bool,
}

/// A scenario in its initial state.
pub(crate) struct Stage<'a> {
    scenario: &'a Scenario,
    world: World,
    saved: Saved,
    accepted: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let world = World::new(scenario);
        (scenario.begins)(&world);
        let saved = world.save();
        let accepted = world.promises.accepted.borrow().clone();
        Self {
            scenario,
            world,
            saved,
            accepted,
        }
    }

    /// Plays a schedule to its end, with a fault of the operation with this number.
    pub(crate) fn play(&self, schedule: &[Step], fault: Option<(u64, Fault)>) -> Played {
        let Self {
            scenario, world, ..
        } = self;
        world.restore(&self.saved);
        if scenario.remembers {
            world.start();
        }
        world.promises.begin(&self.accepted);
        let start = world.host.now.get();
        let chance = &*world.chance;
        chance.operations.set(0);
        chance.is_hit.set(false);
        chance.fault.set(fault);
        let actors = scenario.actors.iter().enumerate();
        let mut players: Vec<Player> = actors
            .map(|(number, actor)| Player {
                running: Some(actor(world, world.registry(number))),
                waited: false,
            })
            .collect();
        for step in schedule {
            match *step {
                Step::Run { who, turns } => {
                    for _ in 0..turns {
                        if !players[who].turn(chance) {
                            break;
                        }
                    }
                }
                Step::Until { who, kind, is_done } => {
                    while players[who].turn(chance) {
                        if chance.was_asked(kind) {
                            if is_done {
                                players[who].turn(chance);
                            }
                            break;
                        }
                    }
                }
                Step::Change { who, after } => {
                    let mut left = after;
                    while players[who].turn(chance) {
                        if chance.was_asked((Operation::Write, Area::Any))
                            || chance.was_asked((Operation::Delete, Area::Any))
                        {
                            if left == 0 {
                                break;
                            }
                            left -= 1;
                        }
                    }
                }
                Step::Pass { times, is_far } => {
                    for _ in 0..times {
                        // An operation that is under way began before the clock advanced, and is
                        // done before it advances again.
                        for player in &mut players {
                            if player.waited {
                                player.turn(chance);
                            }
                            player.waited = true;
                        }
                        world.host.pass(scenario.ticks[usize::from(is_far)]);
                    }
                }
                Step::Kill { who } => players[who].running = None,
            }
        }
        // The remaining actors take turns.
        while players
            .iter_mut()
            .fold(false, |more, player| player.turn(chance) | more)
        {}
        let operations = chance.operations.get();
        let is_hit = chance.is_hit.get();
        chance.fault.set(None);
        let wrong = world.promises.wrong.take();
        let mut broken = wrong.or_else(|| (scenario.broken)(world));
        // Sweeps delete everything that was wrongly left without protection.
        for _ in 0..2 {
            if broken.is_none() {
                world.sweep();
                broken = (scenario.broken)(world);
            }
        }
        let broken = broken.or_else(|| (scenario.ends)(world));
        world.host.now.set(start);
        Played {
            broken,
            operations,
            is_hit,
        }
    }
}

impl Scenario {
    /// Plays many schedules; fails with the shortest that breaks the promise.
    pub(crate) fn explore(&self) {
        let stage = Stage::new(self);
        let config = Config {
            cases: self.cases * times(),
            failure_persistence: None,
            ..Config::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::XorShift);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let faults = (
            0..200_u64,
            prop_oneof![Just(Fault::Lost), Just(Fault::Kept)],
        );
        let strategy = (schedules(self.actors.len()), option::weighted(0.3, faults));
        let played = Cell::new(0_u32);
        let is_broken = Cell::new(false);
        let outcome = runner.run(&strategy, |(schedule, fault)| {
            let fault = fault.map(|(at, fault)| (at + 1, fault));
            if !is_broken.get() {
                played.set(played.get() + 1);
            }
            let broken = stage.play(&schedule, fault).broken;
            is_broken.set(is_broken.get() || broken.is_some());
            broken.map_or(Ok(()), |broken| Err(TestCaseError::fail(broken)))
        });
        if let Err(error) = outcome {
            panic!("schedule {}: {error}", played.get());
        }
    }

    /// Plays all actors in turns, once for each operation and fault: the operation fails, fails
    /// although it was done, or kills its actor.
    pub(crate) fn fail_each(&self) {
        let stage = Stage::new(self);
        let plain = stage.play(&[], None);
        assert_eq!(plain.broken, None);
        assert!(plain.operations > 0);
        for fault in [
            Fault::Lost,
            Fault::Kept,
            Fault::KilledBefore,
            Fault::KilledAfter,
        ] {
            for at in 1..=plain.operations {
                let played = stage.play(&[], Some((at, fault)));
                assert!(played.is_hit, "{fault:?} {at} of {}", plain.operations);
                assert_eq!(played.broken, None, "{fault:?} {at}");
            }
        }
    }
}

/// The factor for the number of schedules.
fn times() -> u32 {
    let times = std::env::var("SCHEDULES").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}
