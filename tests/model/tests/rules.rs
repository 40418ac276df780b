//! Every rule is needed: if it is taken away, the search finds the expected loss.

use strata_model::{Search, model::Removal, rule::Rule};

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        let (scenario, loss) = rule.proof();
        let search = Search::until(
            Removal {
                scenario,
                without: Some(*rule),
            },
            loss,
        );
        assert!(
            search.lost.contains(&loss.property()),
            "without {rule:?}, of {} states of {:?} none loses it: {:?}",
            search.states,
            scenario.name,
            loss.property()
        );
    }
}
