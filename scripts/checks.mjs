// The checks of `npm test`: two concurrent lanes, each with its cheap checks first.

import fs from "node:fs";
import path from "node:path";
import util from "node:util";

import { ROOT } from "./command.mjs";
import { TOOLS } from "./setup.mjs";

const WASM32 = ["--target", "wasm32-unknown-unknown"];
const DENIED = ["--", "-D", "warnings"];

/** The timeout of each file of Node's tests, and of each test in it, in milliseconds. */
const HANGS_AFTER = 10 * 60_000;

/** Returns cargo's options that select these packages. */
const crates = (...names) => names.flatMap((name) => ["-p", name]);

/**
 * Each check is one or more commands, which must all succeed, and the programs that they need
 * beside the build tools, as program → Debian package. `programs` run where they are unpacked;
 * `packages` must be installed. `count` reads the number of tests from the output; a check without
 * it counts as one. The lanes share no folder that cargo locks: the first checks and tests, the
 * second builds the deployed Worker and drives it.
 */
const RUST = [
  { name: "lock file", commands: [["cargo", "metadata", "--locked", "--format-version=1"]] },
  { name: "rustfmt", commands: [["cargo", "fmt", "--all", "--check"]] },
  {
    name: "clippy",
    commands: [
      [
        "cargo",
        "clippy",
        "--locked",
        ...crates("strata", "strata-fuzz", "strata-model", "strata-policy", "strata-schedules", "strata-support"),
        "--all-targets",
        ...DENIED,
      ],
    ],
  },
  {
    name: "clippy wasm32",
    commands: [
      [
        "cargo",
        "clippy",
        "--locked",
        ...crates("strata", "strata-inspect", "strata-layers", "strata-suite", "strata-worker"),
        "--lib",
        ...WASM32,
        ...DENIED,
      ],
      // These tests run on wasm32 only. Those of the core are linted natively.
      ["cargo", "clippy", "--locked", "-p", "strata-inspect", "--lib", "--profile=test", ...WASM32, ...DENIED],
    ],
  },
  {
    name: "docs",
    commands: [
      ["cargo", "doc", "--locked", ...crates("strata", "strata-model", "strata-policy", "strata-support"), "--no-deps"],
    ],
    env: { RUSTDOCFLAGS: "-D warnings" },
  },
  {
    name: "docs wasm32",
    commands: [
      [
        "cargo",
        "doc",
        "--locked",
        ...crates("strata-inspect", "strata-worker", "strata-suite"),
        "--no-deps",
        "--document-private-items",
        ...WASM32,
      ],
    ],
    env: { RUSTDOCFLAGS: "-D warnings" },
  },
  // Other programs write the layers of these tests.
  {
    name: "core",
    commands: [["cargo", "test", "--locked", "-p", "strata"]],
    count: countCargo,
    programs: { gzip: "gzip", tar: "tar", zstd: "zstd" },
  },
  {
    name: "fuzz seeds",
    commands: [["cargo", "test", "--locked", "-p", "strata-fuzz"]],
    count: countCargo,
    programs: { gzip: "gzip", tar: "tar", zstd: "zstd" },
  },
  { name: "schedules", commands: [["cargo", "test", "--locked", "-p", "strata-schedules"]], count: countCargo },
  { name: "policy", commands: [["cargo", "test", "--locked", "-p", "strata-policy"]], count: countCargo },
  {
    name: "core wasm32",
    commands: [["cargo", "test", "--locked", ...crates("strata", "strata-inspect"), "--lib", ...WASM32]],
    env: { CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: path.join(TOOLS, "bin/wasm-bindgen-test-runner") },
    count: countCargo,
  },
  { name: "purity", commands: [["node", "scripts/purity.mjs"]] },
];

const WORKER = [
  { name: "structure", commands: [["node", "scripts/structure.mjs"]] },
  { name: "prose", commands: [["node", "scripts/prose.mjs"]] },
  { name: "figures", commands: [["node", "scripts/figures.mjs"]] },
  // Biome's parser accepts some errors, such as an invalid regular expression or a duplicate
  // export.
  { name: "javascript syntax", commands: [["node", "scripts/syntax.mjs"]] },
  { name: "biome", commands: [["node_modules/.bin/biome", "check", "--error-on-warnings"]] },
  { name: "build", commands: [["node", "scripts/build.mjs"]] },
  // The model depends on nothing of the workspace, so a target folder of its own costs little.
  {
    name: "model",
    commands: [["cargo", "test", "--locked", "-p", "strata-model"]],
    env: { CARGO_TARGET_DIR: path.join(ROOT, "target/model") },
    count: countCargo,
  },
  { name: "build suite", commands: [["node", "scripts/build.mjs", "tests/suite"]] },
  { name: "deploy dry run", commands: [["node", "scripts/deploy.mjs", "--dry-run"]] },
  { name: "scripts", ...nodeTests("scripts") },
  { name: "inspector", ...nodeTests("tests/inspect"), programs: { zstd: "zstd" } },
  // Python needs its library beside its program, so it is installed, not unpacked.
  {
    name: "edge",
    ...nodeTests("tests/edge", 3),
    packages: { python3: "python3" },
    programs: { gzip: "gzip", tar: "tar", zstd: "zstd" },
  },
  { name: "relay", ...nodeTests("tests/relay", 2) },
  { name: "clients", ...nodeTests("tests/clients", 3) },
  { name: "page types", commands: [["node_modules/.bin/tsc", "--project", "www"]] },
  // A browser needs many libraries, so it is installed, not unpacked.
  { name: "page", ...nodeTests("tests/page", 2), packages: { chromium: "chromium" }, programs: { tar: "tar" } },
];

export const LANES = [RUST, WORKER];

/**
 * Returns a check of the tests in a folder's *.test.mjs, run by Node with `atOnce` files in
 * parallel. Each file has its own servers on its own ports, and waits more than it works.
 */
function nodeTests(folder, atOnce = 1) {
  const files = fs.readdirSync(path.join(ROOT, folder)).filter((file) => file.endsWith(".test.mjs"));
  // Without a file there is no command, because Node would look for tests everywhere.
  // A file that hangs fails by its name, before the check itself is ended without one.
  const options = ["--test", "--test-reporter=spec", `--test-concurrency=${atOnce}`, `--test-timeout=${HANGS_AFTER}`];
  const command = ["node", ...options, ...files.map((file) => path.join(folder, file))];
  return { commands: files.length === 0 ? [] : [command], count: countNode };
}

/** Adds up the summaries of cargo's test programs, one for each. */
function countCargo(output) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [, passed, failed, ignored] of output.matchAll(
    /^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored;/gm,
  )) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
    counts.skipped += Number(ignored);
  }
  return counts;
}

/** Reads the summary of Node's test runner, and the reasons for skipped tests. */
function countNode(output) {
  const count = (name) => Number(output.match(new RegExp(`^ℹ ${name} (\\d+)$`, "m"))?.[1] ?? 0);
  return {
    passed: count("pass"),
    failed: count("fail") + count("cancelled"),
    skipped: count("skipped") + count("todo"),
    reasons: [...new Set([...output.matchAll(/^\s*﹣ .* # (.+)$/gm)].map(([, reason]) => reason))],
  };
}

/**
 * Counts the results of a check from its output and its exit code. `problem` says why it failed.
 */
export function judge({ count }, { code, output, timedOut }) {
  const counts = count?.(util.stripVTControlCharacters(output)) ?? {
    passed: code === 0 ? 1 : 0,
    failed: 0,
    skipped: 0,
  };
  const { passed, failed, skipped, reasons = [] } = counts;
  const judged = { passed, failed, skipped, reasons, problem: undefined };
  if (timedOut) judged.problem = "timed out";
  else if (code !== 0) judged.problem = `ended with ${code}`;
  else if (failed === 0 && passed === 0 && skipped === 0) judged.problem = "ran no tests";
  else if (skipped > 0 && process.env.CI === "true") judged.problem = "skipped tests, which CI does not allow";
  // A failure outside of the tests counts as one of the check.
  if (judged.problem && failed === 0) judged.failed = 1;
  return judged;
}
