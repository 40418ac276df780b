// Every build uses the versions of the lock file, not later ones.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";

import { LANES } from "./checks.mjs";
import { ROOT } from "./command.mjs";

/** The commands of cargo that resolve versions. */
const RESOLVES = ["bench", "build", "check", "clippy", "doc", "install", "metadata", "run", "rustc", "test", "tree"];

/** Returns the files of a folder that may contain a command. */
function files(folder) {
  return fs.readdirSync(path.join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return ["build", "dist", "node_modules", "target"].includes(entry.name) ? [] : files(file);
    return /\.(mjs|md|toml|json|sh)$/.test(entry.name) || entry.name === "run" ? [file] : [];
  });
}

/** Returns the commands of cargo in a text that resolve versions, each with its arguments. */
export function commandsIn(text) {
  const verbs = RESOLVES.join("|");
  // As arguments in a script, "cargo", ["build", …] or cargo("build", …), on one line or several,
  // and as typed in a shell.
  const called = new RegExp(`\\bcargo"?(?:,\\s*\\[|,|\\()\\s*"(?:${verbs})"[^\\])]*`, "g");
  const typed = new RegExp(`\\bcargo (?:\\+\\S+ )?(?:${verbs})\\b[^\`\\n]*`, "g");
  return [...text.matchAll(called), ...text.matchAll(typed)].map(([command]) => command);
}

describe("cargo", () => {
  it("is found however it is called", () => {
    const calls = [
      'run("cargo", ["build", "--lib"])',
      '["cargo", "test", "-p", "strata"]',
      'await cargo("tree", "--package", "strata")',
      "`cargo run --release -p strata-policy` prints",
      "$ cargo build\n",
    ];
    calls.push(
      '[\n  "cargo",\n  "test",\n  "-p",\n]',
      'run("cargo", [\n  "build",\n])',
      'run(\n  "cargo",\n  ["doc"],\n)',
      'cargo(\n  "tree",\n)',
    );
    for (const call of calls) assert.equal(commandsIn(call).length, 1, call);
    for (const other of ['run("cargo", args)', '["cargo", "fmt", "--all"]', "cargo is a program", "cargo update"])
      assert.deepEqual(commandsIn(other), [], other);
  });

  it("takes the versions of the lock file, wherever it is called", () => {
    const found = ["scripts", "benches", "tests", "docs", "worker", "www", ".ci"].flatMap(files);
    const all = [...found, "package.json", "wrangler.toml"].filter((file) => !file.endsWith("locked.test.mjs"));
    const commands = all.flatMap((file) =>
      commandsIn(fs.readFileSync(path.join(ROOT, file), "utf8")).map((command) => ({ file, command })),
    );
    assert.ok(commands.length >= 10, `only ${commands.length} commands were found`);
    assert.deepEqual(
      commands.filter(({ command }) => !command.includes("--locked")),
      [],
    );
  });

  it("does so in every check", () => {
    const commands = LANES.flat()
      .flatMap((check) => check.commands)
      .filter(([program, verb]) => program === "cargo" && RESOLVES.includes(verb));
    assert.deepEqual(
      commands.filter((command) => !command.includes("--locked")),
      [],
    );
  });

  it("does so when a crate is compiled for the Worker", () => {
    const text = fs.readFileSync(path.join(ROOT, "scripts/module.mjs"), "utf8");
    assert.match(text, /const args = \[\s*"build",\s*"--locked",/);
  });
});
