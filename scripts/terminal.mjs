// What people see and type: colour where it is wanted, progress while something works, one plain line when something fails, options.

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

/** A failure that people can do something about: one plain line with the way out, after what the failing tool itself said. */
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

/** The command to repeat, as the user typed it. */
export function again() {
  const script = process.env.npm_lifecycle_event;
  if (!script) return "run this again";
  return `run npm ${["start", "test"].includes(script) ? script : `run ${script}`} again`;
}

/** The last lines of a text. */
export function tail(text, lines) {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

export function say(text = "") {
  erase();
  process.stdout.write(`${text}\n`);
  draw();
}

/**
 * Runs `work` under a line that tells how long it has been at it. `work` is given a function that shows, on a terminal, what it is
 * busy with; `outcome` says from its result how the line ends. Several tasks may run at the same time.
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
 * Runs a script where its module (`import.meta.url`) is the one that was started, not one that is imported. A failure is printed as
 * one, anything else is a mistake of ours and keeps its stack.
 */
export async function main(module, script) {
  if (!process.argv[1] || fs.realpathSync(process.argv[1]) !== fs.realpathSync(fileURLToPath(module))) return;
  // After the rest of the module, whose constants come last.
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

/** What to exit with when a signal ends the script. */
export const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/** The script's options, as `util.parseArgs` reads them; `--help` prints the help, whose first words are the command. */
export function parse(help, options, allowPositionals = false) {
  try {
    const parsed = util.parseArgs({ options: { ...options, help: { type: "boolean" } }, allowPositionals });
    if (!parsed.values.help) return parsed;
  } catch (error) {
    const command = /^npm (test|start|run \w+)/.exec(help)[0];
    const [found] = error.message.split(/\. |\n/);
    throw new Failure(
      `${found[0].toLowerCase()}${found.slice(1).replace(/\.$/, "")}: ${command} -- --help lists what there is`,
    );
  }
  say(help);
  process.exit(0);
}

// The lines of the tasks under way, drawn below everything else and redrawn in place.
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
    // A line that wraps could not be erased.
    const room = Math.max(0, (process.stdout.columns || 80) - title.length - elapsed.length - 6);
    process.stdout.write(`${MARKS.working} ${title} ${dim(`${elapsed}  ${detail.slice(0, room)}`)}\n`);
    drawn += 1;
  }
}

function seconds(since) {
  return `${Math.round((performance.now() - since) / 1000)} s`;
}
