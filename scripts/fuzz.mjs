// `npm run fuzz`: runs the targets in tests/fuzz/ under libFuzzer, one after the other.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { ROOT, run } from "./command.mjs";
import { ensureRust } from "./setup.mjs";
import { again, dim, Failure, main, MARKS, parse, say, SIGNALS, task } from "./terminal.mjs";

const HELP = `npm run fuzz [-- [TARGET…] [OPTIONS]]

  Fuzzes all targets, or the named ones, and stops at the first input that fails. Inputs that reach new code are kept in
  target/fuzz/corpus/.

  --seconds N    how long each target runs; 60 if not given
  --input FILE   runs a target on one input, to reproduce a failure
  --minimize     with --input: looks for a shorter input that fails
  --list         lists the targets, and what each checks`;

const TARGETS = path.join(ROOT, "tests/fuzz/targets");
const BUILD = path.join(ROOT, "target/fuzz");

/**
 * Flags for sanitizer coverage: rustc counts edges and reports comparisons to libFuzzer. No
 * sanitizer is linked.
 */
const COVERAGE = [
  "--cfg=libfuzzer",
  "-Cpasses=sancov-module",
  ...["level=4", "inline-8bit-counters", "pc-table", "trace-compares"].map(
    (option) => `-Cllvm-args=-sanitizer-coverage-${option}`,
  ),
];

/**
 * The memory limit of the process in MiB: 128 for an input, which the targets check themselves, and
 * the rest for libFuzzer.
 */
const MOST_MEMORY = 1024;

/** The timeout of one input in seconds, for a busy machine. */
const TIMEOUT = 25;

main(import.meta.url, async () => {
  const { values, positionals } = parse(
    HELP,
    {
      input: { type: "string" },
      list: { type: "boolean" },
      minimize: { type: "boolean" },
      seconds: { type: "string" },
    },
    true,
  );
  const targets = fs
    .readdirSync(TARGETS)
    .map((file) => path.basename(file, ".rs"))
    .sort();
  const unknown = positionals.find((name) => !targets.includes(name));
  if (unknown) throw new Failure(`no target is named ${unknown}: npm run fuzz -- --list lists the targets`);
  const chosen = positionals.length > 0 ? positionals : targets;
  if (values.list) {
    for (const name of chosen) say(`${name.padEnd(18)}${about(name)}`);
    return;
  }
  const seconds = Number(values.seconds ?? 60);
  if (!Number.isInteger(seconds) || seconds < 1)
    throw new Failure(`--seconds ${values.seconds} is not a whole number of seconds: use 1 or more`);
  if (values.input !== undefined && positionals.length !== 1) throw new Failure("--input needs the name of one target");
  if (values.input !== undefined && !fs.existsSync(values.input)) throw new Failure(`there is no file ${values.input}`);

  const program = await build();
  if (values.input !== undefined)
    return replay(program, chosen[0], path.resolve(values.input), values.minimize, seconds);
  for (const name of chosen) await fuzz(program, name, seconds);
});

/** Returns the first line of a target's file. */
function about(name) {
  const [line] = fs.readFileSync(path.join(TARGETS, `${name}.rs`), "utf8").split("\n");
  return line.replace(/^\/\/! /, "");
}

/**
 * Builds the targets with libFuzzer in a separate target folder. Resolves with the program's path.
 */
async function build() {
  await ensureRust();
  const { stdout: version } = await run("rustc", ["-vV"]);
  const host = /^host: (.+)$/m.exec(version)?.[1];
  if (!host) throw new Failure("rustc -vV prints no host", version);
  // With --target, build scripts and macros are compiled without these flags.
  const args = ["build", "--locked", "--package=strata-fuzz", "--bin=fuzz", "--profile=fuzz", `--target=${host}`];
  const env = { CARGO_ENCODED_RUSTFLAGS: COVERAGE.join("\x1f"), CARGO_TARGET_DIR: BUILD };
  await task("build", async (detail) => {
    const { code, output } = await run("cargo", args, { env, line: detail });
    if (code !== 0)
      throw new Failure(
        `the targets can't be built: install a C++ compiler, which libFuzzer and libzstd need, then ${again()}`,
        output,
      );
  });
  return path.join(BUILD, host, "fuzz/fuzz");
}

/** Fuzzes one target for some seconds, starting from its seeds and the corpus of earlier runs. */
async function fuzz(program, name, seconds) {
  const corpus = path.join(BUILD, "corpus", name);
  const seeds = path.join(BUILD, "seeds", name);
  const crashes = path.join(BUILD, "crashes", name);
  for (const folder of [corpus, crashes]) fs.mkdirSync(folder, { recursive: true });
  fs.rmSync(seeds, { force: true, recursive: true });
  const { code: wrote, output: problem } = await run(program, [], {
    env: { STRATA_FUZZ_SEEDS: seeds, STRATA_FUZZ_TARGET: name },
  });
  if (wrote !== 0) throw new Failure(`target ${name} can't write its seeds`, problem);
  const before = new Set(fs.readdirSync(crashes));
  const found = { executions: 0, edges: 0, features: 0, memory: 0 };
  const { code, output } = await task(
    name,
    (detail) =>
      follow(program, name, [corpus, seeds, `-max_total_time=${seconds}`, `-artifact_prefix=${crashes}/`], (line) => {
        const [, executions, edges, features] = /^#(\d+)\s.*cov: (\d+) ft: (\d+)/.exec(line) ?? [];
        const memory = /rss: (\d+)Mb/.exec(line)?.[1];
        if (executions)
          Object.assign(found, { executions: Number(executions), edges: Number(edges), features: Number(features) });
        if (memory) found.memory = Math.max(found.memory, Number(memory));
        detail(line);
      }),
    {
      outcome: ({ code }) => ({
        mark: code === 0 ? MARKS.passed : MARKS.failed,
        note: dim(
          `${found.executions} executions, ${found.edges} edges, ${found.features} features, ${found.memory} MiB`,
        ),
      }),
    },
  );
  if (code === 0) return;
  const crash = fs.readdirSync(crashes).find((file) => !before.has(file)) ?? fs.readdirSync(crashes)[0];
  const file = crash ? path.relative(ROOT, path.join(crashes, crash)) : "FILE";
  throw new Failure(
    [
      `target ${name} fails on ${file}`,
      `  again:   npm run fuzz -- ${name} --input ${file}`,
      `  shorter: npm run fuzz -- ${name} --input ${file} --minimize`,
      `  once it is fixed, keep it: cp ${file} tests/fuzz/seeds/${name}/WHAT-IT-SHOWS`,
    ].join("\n"),
    lastLines(output),
  );
}

/** Runs a target on one input. */
async function replay(program, name, input, minimizes, seconds) {
  const shorter = `${input}.shorter`;
  const args = minimizes
    ? ["-minimize_crash=1", `-max_total_time=${seconds}`, `-exact_artifact_path=${shorter}`, input]
    : [input];
  const { code, output } = await follow(program, name, args, () => {});
  if (minimizes && fs.existsSync(shorter))
    return say(`${fs.statSync(shorter).size} bytes: ${path.relative(ROOT, shorter)}`);
  if (code !== 0) throw new Failure(`target ${name} fails on ${path.relative(ROOT, input)}`, lastLines(output));
  say(`${MARKS.passed} target ${name} passes on ${path.relative(ROOT, input)}`);
}

/** Runs the program to its end, and calls `each` with every line as it comes. */
function follow(program, name, args, each) {
  const dictionary = path.join(BUILD, "seeds", `${name}.dict`);
  const limits = [
    `-rss_limit_mb=${MOST_MEMORY}`,
    `-timeout=${TIMEOUT}`,
    "-print_final_stats=1",
    "-use_value_profile=1",
  ];
  const words = fs.existsSync(dictionary) && fs.statSync(dictionary).size > 0 ? [`-dict=${dictionary}`] : [];
  return new Promise((resolve, reject) => {
    const env = { ...process.env, RUST_BACKTRACE: "1", STRATA_FUZZ_TARGET: name };
    const child = spawn(program, [...limits, ...words, ...args], {
      cwd: ROOT,
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const stop = () => child.kill("SIGTERM");
    for (const signal of Object.keys(SIGNALS)) process.once(signal, stop);
    let [output, rest] = ["", ""];
    child.stderr.setEncoding("utf8").on("data", (chunk) => {
      output = (output + chunk).slice(-100_000);
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      lines.forEach(each);
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/** Returns the output from the failure on, without libFuzzer's progress. */
function lastLines(output) {
  const at = output.search(/^thread '|^==\d+==/m);
  return output.slice(Math.max(at, 0)).split("\n").slice(0, 60).join("\n");
}
