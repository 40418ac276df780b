// The steps of a judge: each can be chosen by name, and one that fails does not keep the others
// from running.
import assert from "node:assert/strict";

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
