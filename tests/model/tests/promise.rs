//! The promise holds in every small scenario, and what should be seen in it is seen.

use strata_model::{
    Search,
    model::Removal,
    scenario::{self, Scenario},
};

#[track_caller]
fn holds(scenario: &'static Scenario) {
    let search = Search::all(Removal {
        scenario,
        without: None,
    });
    assert!(
        search.lost.is_empty(),
        "{}: lost: {:?}: {:#?}",
        scenario.name,
        search.lost,
        search.way
    );
    assert!(
        search.unseen.is_empty(),
        "{}: never seen: {:?}",
        scenario.name,
        search.unseen
    );
}

macro_rules! hold {
    ($($name:ident $scenario:ident,)+) => {
        $(#[test]
        fn $name() {
            holds(&scenario::$scenario);
        })+

        #[test]
        fn every_scenario_is_searched() {
            let names = [$(scenario::$scenario.name,)+];
            assert!(scenario::SMALL.iter().all(|scenario| names.contains(&scenario.name)));
        }
    };
}

// The longest first, so that two threads end at about the same time.
hold! {
    closing_and_delete CLOSING_AND_DELETE,
    two_uploads TWO_UPLOADS,
    owner_sweeps_session OWNER_SWEEPS_SESSION,
    again AGAIN,
    link LINK,
    whole WHOLE,
    closing CLOSING,
    sessions SESSIONS,
    takeover TAKEOVER,
    takeover_of_extents TAKEOVER_OF_EXTENTS,
    closing_of_two CLOSING_OF_TWO,
    stale_hint STALE_HINT,
    chunks CHUNKS,
    second_chunk SECOND_CHUNK,
    cancel CANCEL,
    through_session THROUGH_SESSION,
    mount MOUNT,
    tag TAG,
    tag_and_delete TAG_AND_DELETE,
    index_and_delete INDEX_AND_DELETE,
    referrer REFERRER,
    two_blobs TWO_BLOBS,
    index INDEX,
    scrub SCRUB,
    scrub_of_extents SCRUB_OF_EXTENTS,
    fill FILLED,
    pushed_again PUSHED_AGAIN,
    untagged UNTAGGED,
    untagged_index UNTAGGED_INDEX,
    untagged_indexes UNTAGGED_INDEXES,
    untagged_referrer UNTAGGED_REFERRER,
    old_tag OLD_TAG,
    pulled PULLED,
    removed REMOVED,
    filled_by_extents FILLED_BY_EXTENTS,
    reuse REUSE,
    old_forms OLD_FORMS,
    guess GUESS,
    attack ATTACK,
    pushed_before PUSHED_BEFORE,
    mirrored MIRRORED,
    repaired REPAIRED,
    join_and_pulls JOIN_AND_PULLS,
    join_and_closing JOIN_AND_CLOSING,
    join_and_uploads JOIN_AND_UPLOADS,
    join_and_delete JOIN_AND_DELETE,
    join_and_takeover JOIN_AND_TAKEOVER,
    join_and_fill JOIN_AND_FILL,
    join_and_scrub JOIN_AND_SCRUB,
}
