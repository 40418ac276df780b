// The terminal: colours, the progress of tasks, failures in one plain line, and options.

import fs from "node:fs";
import { fileURLToPath } from "node:url";
import util from "node:util";

const live = Boolean(process.stdout.isTTY) && process.env.TERM !== "dumb";
const coloured = live && !process.env.NO_COLOR;

const paint = (code) => (text) => (coloured ? `\u001b[${code}m${text}\u001b[0m` : String(text));

export const bold = paint("1");
export const dim = paint("2");
const red = paint("31");
const green = paint("32");
const yellow = paint("33");
export const cyan = paint("36");

export const MARKS = { passed: green("✓"), failed: red("✗"), skipped: yellow("–"), working: dim("…") };

/**
 * A failure that the user can act on. It prints the output of the failed tool, then one line with
 * the action to take.
 */
export class Failure extends Error {
  constructor(message, output = "") {
    super(message);
    this.output = output;
  }

  print() {
    erase();
    if (this.output) process.stderr.write(`\n${this.output.trimEnd()}\n\n`);
    process.stderr.write(`${MARKS.failed} ${this.message}\n`);
  }
}

/** Returns the command to repeat, as the user typed it. */
export function again() {
  const script = process.env.npm_lifecycle_event;
  if (!script) return "run this again";
  return `run npm ${["start", "test"].includes(script) ? script : `run ${script}`} again`;
}

/** Returns the last lines of a text. */
export function tail(text, lines) {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

export function say(text = "") {
  erase();
  process.stdout.write(`${text}\n`);
  draw();
}

/**
 * Runs `work` under a line with the elapsed time. `work` gets a function that shows its current
 * step on a terminal. `outcome` makes the end of the line from the result. Several tasks may run at
 * the same time.
 */
export async function task(title, work, { outcome = () => ({ mark: MARKS.passed, note: "" }), announced = true } = {}) {
  const line = { title, detail: "", begun: performance.now() };
  if (live) {
    erase();
    lines.add(line);
    draw();
    ticking ??= setInterval(redraw, 250);
  } else if (announced) {
    say(`${MARKS.working} ${title}`);
  }
  const end = ({ mark, note }) => {
    lines.delete(line);
    say(`${mark} ${title} ${dim(seconds(line.begun))}${note && `  ${note}`}`);
    if (lines.size === 0) ticking = clearInterval(ticking);
  };
  try {
    const result = await work((detail) => (line.detail = detail));
    end(outcome(result));
    return result;
  } catch (error) {
    end({ mark: MARKS.failed, note: "" });
    throw error;
  }
}

/**
 * Runs a script if its module (`import.meta.url`) was started, not imported. Prints a `Failure` in
 * one line and exits with 1. Any other error is a bug, and keeps its stack.
 */
export async function main(module, script) {
  if (!process.argv[1] || fs.realpathSync(process.argv[1]) !== fs.realpathSync(fileURLToPath(module))) return;
  // Wait for the rest of the module, whose constants come last.
  await undefined;
  for (const [signal, code] of Object.entries(SIGNALS)) process.once(signal, () => process.exit(code));
  try {
    await script();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    error.print();
    process.exit(1);
  }
}

/** The exit codes of a script that a signal ends. */
export const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/**
 * Parses the script's options by `util.parseArgs`. Fails on an unknown option. `--help` prints
 * `help`, whose first words are the command, and exits.
 */
export function parse(help, options, allowPositionals = false) {
  try {
    const parsed = util.parseArgs({ options: { ...options, help: { type: "boolean" } }, allowPositionals });
    if (!parsed.values.help) return parsed;
  } catch (error) {
    const command = /^npm (test|start|run \w+)/.exec(help)[0];
    const [found] = error.message.split(/\. |\n/);
    throw new Failure(
      `${found[0].toLowerCase()}${found.slice(1).replace(/\.$/, "")}: ${command} -- --help lists the options`,
    );
  }
  say(help);
  process.exit(0);
}

// The lines of running tasks, drawn below all other output and redrawn in place.
const lines = new Set();
let drawn = 0;
let ticking;

function erase() {
  if (drawn > 0) process.stdout.write(`\u001b[${drawn}A\u001b[J`);
  drawn = 0;
}

function redraw() {
  erase();
  draw();
}

function draw() {
  for (const { title, detail, begun } of lines) {
    const elapsed = seconds(begun);
    // A line that wraps cannot be erased.
    const room = Math.max(0, (process.stdout.columns || 80) - title.length - elapsed.length - 6);
    process.stdout.write(`${MARKS.working} ${title} ${dim(`${elapsed}  ${detail.slice(0, room)}`)}\n`);
    drawn += 1;
  }
}

function seconds(since) {
  return `${Math.round((performance.now() - since) / 1000)} s`;
}
