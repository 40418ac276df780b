// The steps of a judge: each can be chosen by name, and one that fails does not keep the others
// from running.
import assert from "node:assert/strict";
import { run } from "../../scripts/command.mjs";

/** The timeout of a command, in milliseconds. */
const LIMIT = 30 * 60_000;

/**
 * Runs a command that must work. Resolves with its standard output, and with all its output. The
 * options are those of `run`.
 */
export async function must(program, args, options) {
  const { code, stdout, output, timedOut } = await run(program, args, { limit: LIMIT, ...options });
  assert.ok(code === 0 && !timedOut, `${program} ${args.join(" ")}: ${timedOut ? "timed out" : code}: ${output}`);
  return { stdout, output };
}

/**
 * Returns the chosen names, or all. Prints the names and ends the process for `list`; ends it with
 * 2 for a name that is unknown.
 *
 * @param {string[]} names
 * @param {{ only?: string[], list?: boolean }} values
 */
export function chosenOf(names, { only = names, list }) {
  const unknown = only.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    console.error(`nothing here is named ${unknown.join(", ")}: --list lists the names`);
    process.exit(2);
  }
  if (list) {
    console.log(names.join("\n"));
    process.exit();
  }
  return only;
}

/** Runs `step` for each name, and prints what it resolves with, or why it failed. */
export async function runSteps(names, step) {
  for (const name of names) {
    try {
      console.log(`✓ ${name}: ${await step(name)}`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`✗ ${name}: ${error instanceof assert.AssertionError ? error.message : error.stack}`);
    }
  }
}
