//! The requirements on the policy. It is about as good as the best of the others in every phase of
//! every scenario, never exceeds its bound, and writes little to the warm tier.

use strata_policy::{
    BOUND, Figures,
    policy::{OTHERS, OURS},
    simulate,
    traffic::{DIGESTS, SCENARIOS, Scenario, Traffic},
    writes,
};

/// How many percentage points the best one may be ahead.
const MARGIN: f64 = 3.0;

#[test]
fn the_hot_tier_is_about_as_good_as_the_best_policy() {
    // In parallel: each scenario takes a second or two.
    std::thread::scope(|scope| {
        for scenario in SCENARIOS {
            scope.spawn(|| compare(*scenario));
        }
    });
}

fn compare(scenario: Scenario) {
    let traffic = Traffic::new(scenario);
    let ours = simulate(&traffic, OURS.1);
    assert!(ours.peak <= BOUND, "{}: {} bytes", scenario.name, ours.peak);
    let others: Vec<Figures> = OTHERS
        .iter()
        .map(|(_, make)| simulate(&traffic, *make))
        .collect();
    for (phase, ratio) in PHASES {
        let best = others.iter().map(ratio).fold(0.0, f64::max);
        let ours = ratio(&ours);
        assert!(
            ours >= best - MARGIN,
            "{}, {phase}: {ours:.1} % where the best has {best:.1} %",
            scenario.name
        );
    }
}

/// The share of reads that were hits, by phase.
const PHASES: [(&str, Part); 3] = [
    ("before the scan", |figures| figures.before.requests()),
    ("during the scan", |figures| figures.during.requests()),
    ("after the scan", |figures| figures.after.requests()),
];

type Part = fn(&Figures) -> f64;

/// A write to KV costs ten times a read (<https://developers.cloudflare.com/kv/platform/pricing/>).
/// If every read goes there, five writes in 1,000 reads are a twentieth of the bill.
#[test]
fn the_policy_writes_little_to_the_warm_tier() {
    // The spread of the popularity decides, and not the order of the other reads.
    for scenario in &SCENARIOS[..2] {
        let writes = writes(&Traffic::new(*scenario));
        assert!(writes.all > 0);
        assert!(
            writes.per_mille() < 5.0,
            "{}: {:.1} in 1,000 reads",
            scenario.name,
            writes.per_mille()
        );
        // Values of the scan are not popular, but two in 1,000 may be taken for popular.
        assert!(
            writes.wasted < DIGESTS as u64 / 500,
            "{}: {} for the scan",
            scenario.name,
            writes.wasted
        );
    }
}
