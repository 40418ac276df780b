//! Tests of sweeps, scrubs, lists, mounts and rights, on stores that list short and empty pages.

use std::{cell::Cell, env, process::Command, rc::Rc};

use serde_json::Value;
use strata::{manifest::OCI_MANIFEST, memory::MemoryObjects};
use strata_support::{
    Ask, CONFIG, LAYER, ask, digest, image, push_manifest, registry_of,
    watched::{SHORT_PAGES, Verdict, Watched},
};

/// The modules whose tests run again.
const MODULES: [&str; 5] = ["api::", "attacks::", "rights::", "scrub::", "sweep::"];

/// Tests that count operations or the objects of a page, and those that take long.
const SKIPPED: [&str; 20] = [
    "attacks::catalogue::a_catalog_with_nothing_permitted_costs_few_operations",
    "attacks::catalogue::the_catalog_shows_full_pages_of_permitted_repositories",
    "attacks::mounting::a_mount_needs_the_right_to_pull_from_its_source",
    "attacks::overwriting::the_second_of_two_concurrent_tag_pushes_is_refused",
    "rights::holders::holders_of_a_blob_are_listed_with_their_reasons",
    "rights::pulls::bytes_of_an_upstream_are_fetched_once_for_its_repositories",
    "scrub::passes::a_scrub_killed_at_any_point_resumes",
    "scrub::passes::a_scrub_resumes_after_each_step_within_its_budget",
    "scrub::passes::a_slow_scrub_never_touches_objects_stored_since",
    "sweep::joining::blobs_that_are_never_joined_cost_nothing",
    "sweep::joining::only_blobs_in_several_extents_cost_anything",
    "sweep::leftovers::an_upload_too_large_for_one_step_does_not_block_the_sweep",
    "sweep::leftovers::extents_that_a_fill_stored_twice_are_deleted",
    "sweep::memory::",
    "sweep::retention::a_repository_too_large_for_one_step_is_skipped",
    "sweep::retention::untagged_manifests_go_in_batches_that_leave_no_claim",
    "sweep::steps::a_round_over_blobs_in_use_costs_few_operations",
    "sweep::steps::a_sweep_that_fails_at_any_operation_can_be_resumed",
    "sweep::steps::each_removed_blob_costs_fewer_than_18_operations",
    "sweep::steps::the_clock_sweeps_in_small_steps_and_a_few_rounds_a_day",
];

/// All listings end where the store says so, and nowhere else.
#[test]
fn tests_pass_on_stores_that_list_short_and_empty_pages() {
    let output = Command::new(env::current_exe().unwrap())
        .args(MODULES)
        .args(SKIPPED.iter().flat_map(|test| ["--skip", test]))
        .env(SHORT_PAGES, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(!text.contains(" 0 passed;"), "no test ran: {text}");
}

/// A list goes on after an empty page. If there are only empty pages, it is not an empty list.
#[test]
fn an_empty_page_is_not_the_end_of_a_list() {
    let listed = Rc::<Cell<u32>>::default();
    let counter = listed.clone();
    let store = Watched::new(MemoryObjects::default(), move |operation, _| {
        counter.set(counter.get() + u32::from(operation == "list"));
        Verdict::Done
    });
    let registry = registry_of(store.clone(), &[]);
    let get = |line: &str| ask(&registry, &Ask::new(line));
    for blob in [LAYER, CONFIG] {
        let line = format!("POST /v2/a/blobs/uploads/?digest={}", digest(blob));
        assert_eq!(ask(&registry, &Ask::new(&line).body(blob)).status, 201);
    }
    push_manifest(&registry, "a", "v1", OCI_MANIFEST, &image());
    let holders = format!("/v2/_strata/blobs/{}", digest(LAYER));
    let mount = format!("POST /v2/b/blobs/uploads/?mount={}", digest(LAYER));
    for (line, prefix, status) in [
        ("GET /v2/_catalog", "catalog/".to_owned(), 200),
        (
            "GET /v2/a/tags/list",
            "repositories/a/_tags/".to_owned(),
            200,
        ),
        (
            &format!("GET {holders}"),
            format!("refs/sha256/{}/", digest(LAYER).encoded()),
            200,
        ),
        (
            &mount,
            format!("refs/sha256/{}/", digest(LAYER).encoded()),
            201,
        ),
    ] {
        let whole = get(line);
        assert_eq!(whole.status, status, "{whole:?}");
        *store.empty_first.borrow_mut() = Some(prefix);
        let after_nothing = get(line);
        *store.empty_first.borrow_mut() = None;
        assert_eq!(
            (after_nothing.status, after_nothing.body),
            (whole.status, whole.body),
            "{line}"
        );
        // A page of no objects is empty, and never the last.
        store.page.set(0);
        listed.set(0);
        let nothing = get(line);
        store.page.set(1_000);
        assert_eq!(nothing.status, 503, "{line}: {nothing:?}");
        assert!((2..=50).contains(&listed.get()), "{line}: {}", listed.get());
    }
    // A sweep goes on in its next step, and finishes nothing.
    store.page.set(0);
    let swept = get("POST /v2/_strata/sweep");
    let report: Value = serde_json::from_slice(&swept.body).unwrap();
    assert_eq!(
        (swept.status, &report["finished"]),
        (202, &Value::Bool(false))
    );
    assert_eq!(report["removals"], Value::Array(Vec::new()));
}
