//! Searches scenarios, and prints how many states there were and how long it took.
//!
//! ```text
//! strata-model                      every small scenario, and every rule taken away
//! strata-model large                every large scenario
//! strata-model <scenario>           one of them
//! strata-model without <rule>       the steps to a loss without a rule
//! strata-model without <rule> <scenario>
//! ```

use std::{process::ExitCode, time::Instant};

use stateright::Model as _;
use strata_model::{
    Search,
    model::{Action, Removal},
    rule::Rule,
    scenario::{LARGE, SMALL, Scenario},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let named = |name: &str| {
        SMALL
            .iter()
            .chain(LARGE)
            .find(|scenario| scenario.name == name)
            .copied()
    };
    let is_right = match arguments.as_slice() {
        [] => {
            let holds = SMALL.iter().all(|scenario| holds(scenario));
            holds && Rule::ALL.iter().all(|rule| is_caught(*rule, None, false))
        }
        ["large"] => LARGE.iter().all(|scenario| holds(scenario)),
        ["without", rule, scenario @ ..] => {
            let rule = Rule::ALL.iter().find(|known| format!("{known:?}") == *rule);
            let scenario = scenario.first().and_then(|name| named(name));
            rule.is_some_and(|rule| is_caught(*rule, scenario, true))
        }
        [name, ..] => named(name).is_some_and(holds),
    };
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Searches a scenario and returns whether all its properties hold.
fn holds(scenario: &'static Scenario) -> bool {
    let search = timed(scenario.name, || {
        Search::all(Removal {
            scenario,
            without: None,
        })
    });
    for name in &search.lost {
        println!("  lost: {name}");
    }
    for name in &search.unseen {
        println!("  never seen: {name}");
    }
    search.lost.is_empty() && search.unseen.is_empty()
}

/// Takes a rule away and returns whether the search finds the expected loss.
fn is_caught(rule: Rule, scenario: Option<&'static Scenario>, prints_way: bool) -> bool {
    let (proof, loss) = rule.proof();
    let model = Removal {
        scenario: scenario.unwrap_or(proof),
        without: Some(rule),
    };
    let name = format!("without {rule:?}: {}", model.scenario.name);
    let search = timed(&name, || match scenario {
        None => Search::until(model, loss),
        Some(_) => Search::until_lost(model),
    });
    for name in &search.lost {
        println!("  lost: {name}");
    }
    if prints_way {
        print_way(model, &search);
    }
    search.lost.contains(&loss.property())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, that runs nowhere else"
)]
fn timed(name: &str, search: impl FnOnce() -> Search) -> Search {
    let start = Instant::now();
    let search = search();
    println!(
        "{name:40} {:>10} states {:>8.1} s",
        search.states,
        start.elapsed().as_secs_f32()
    );
    search
}

fn print_way(model: Removal, search: &Search) {
    let mut state = model.init_states().into_iter().next();
    for action in &search.way {
        let Some(before) = &state else { return };
        match action {
            Action::Tick => println!("    a tick"),
            Action::Client(number) => {
                let client = before.clients.get(*number);
                println!("    client {number}: {:?}", client.map(|client| client.at));
            }
            Action::Begin(number, task) => println!("    sweeper {number}: {task:?}"),
            Action::Sweeper(number) => {
                println!("    sweeper {number}: {:?}", before.sweepers.get(*number));
            }
        }
        state = model.next_state(before, action.clone());
    }
    if let Some(state) = state {
        for (key, object) in state.store.list() {
            println!("    store: {key:?} = {object:?}");
        }
    }
}
