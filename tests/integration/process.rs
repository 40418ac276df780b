//! Tests that need a process of their own, because they measure its memory.

#![cfg(target_os = "linux")]

use std::{env, process::Command};

/// Set in the child process.
const CHILD: &str = "STRATA_ALONE";

/// Runs the body of a test in a child process that runs no other test.
///
/// `module` is the `module_path!()` of the test. Memory that was freed once hides later peaks, and
/// other tests of this program run at the same time.
#[track_caller]
pub(crate) fn alone(module: &str, name: &str, body: impl FnOnce()) {
    if env::var_os(CHILD).is_some() {
        body();
        return;
    }
    // Test names do not contain the name of the crate.
    let (_, module) = module.split_once("::").unwrap();
    let test = format!("{module}::{name}");
    let output = Command::new(env::current_exe().unwrap())
        .args([test.as_str(), "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    assert!(output.status.success(), "{test} failed: {text}{errors}");
    // A filter that matches no test succeeds as well.
    let ran = text.contains("test result: ok. 1 passed;");
    assert!(ran, "no test has the name {test}: {text}{errors}");
}

#[test]
#[should_panic(expected = "no test has the name process::misspelled")]
fn a_child_that_runs_no_test_fails() {
    alone(module_path!(), "misspelled", || ());
}
