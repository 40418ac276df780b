//! Prints how the policies fared, as a table in Markdown.

use strata_policy::{
    policy::{CANDIDATES, OTHERS, OURS},
    simulate,
    traffic::{SCENARIOS, Traffic},
    writes,
};

fn main() {
    println!(
        "| traffic | policy | hits, requests | hits, bytes | before the scan | during | after | most bytes | KV writes in 1,000 reads |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for scenario in SCENARIOS {
        let traffic = Traffic::new(*scenario);
        for (name, make) in [&OURS].into_iter().chain(OTHERS).chain(CANDIDATES) {
            let figures = simulate(&traffic, *make);
            let writes = match *name {
                name if name == OURS.0 => format!("{:.1}", writes(&traffic).per_mille()),
                _ => String::new(),
            };
            println!(
                "| {} | {name} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {} | {writes} |",
                scenario.name,
                figures.all().requests(),
                figures.all().bytes(),
                figures.before.requests(),
                figures.during.requests(),
                figures.after.requests(),
                figures.peak,
            );
        }
    }
}
