// Runs the judges in tests/judges: two versions on one bucket, clients through the relay, clients
// that push artifacts, and builds with their cache in the registry. `npm run judges -- NAME` runs
// one, with the options that follow its name.

import fs from "node:fs";
import path from "node:path";

import { ROOT, run } from "./command.mjs";
import { SIGNALS } from "./terminal.mjs";

/**
 * Each judge is a program in tests/judges, run once with each of these lists of arguments.
 *
 * Both versions are commits between 0.1.0 and 0.2.0. 97bf4be writes every kind of grant that this
 * version writes, so that both may run on one bucket. 831ef7a is the last commit before the grants
 * of filled and mirrored blobs, so it may only be upgraded from.
 */
const JUDGES = [
  { name: "versions", args: [["97bf4be"], ["831ef7a", "--upgrade"]] },
  { name: "relay", args: [[]] },
  { name: "artifacts", args: [[]] },
  { name: "cache", args: [[]] },
];

const given = process.argv.slice(2);
if (given[0] === "--list") {
  console.log(JUDGES.map(({ name }) => name).join("\n"));
  process.exit();
}
const start = given.findIndex((argument) => argument.startsWith("-"));
const [wanted, options] = start < 0 ? [given, []] : [given.slice(0, start), given.slice(start)];
if (options.length > 0 && wanted.length !== 1) {
  console.error(`name one judge that gets ${options.join(" ")}: npm run judges -- --list lists the judges`);
  process.exit(2);
}
const unknown = wanted.filter((name) => !JUDGES.some((judge) => judge.name === name));
if (unknown.length > 0) {
  console.error(`no judge is named ${unknown.join(", ")}: npm run judges -- --list lists the judges`);
  process.exit(2);
}
if (!fs.existsSync(path.join(ROOT, "worker/build/index.js"))) {
  console.error("no Worker in worker/build: run npm run build first");
  process.exit(2);
}
// At its exit, this process stops the judge that is running.
for (const [signal, code] of Object.entries(SIGNALS)) process.once(signal, () => process.exit(code));
for (const { name, args } of JUDGES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  for (const list of args) {
    const title = [name, ...list, ...options].join(" ");
    console.log(`… ${title}`);
    const text = (chunk) => process.stdout.write(chunk);
    const { code } = await run("node", [`tests/judges/${name}.mjs`, ...list, ...options], { text });
    console.log(`${code === 0 ? "✓" : "✗"} ${title}`);
    if (code !== 0) process.exitCode = 1;
  }
}
