// Runs benches on the real runtime and prints their tables: `npm run bench` runs all of them, names
// select some. `--record` writes them into docs/figures.md, with the commit and the machine.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { ROOT, run } from "../scripts/command.mjs";
import { BENCHES, PAGE, recorded } from "../scripts/figures.mjs";
import { tableOf } from "./table.mjs";

const { values: options, positionals } = parseArgs({
  options: { record: { type: "boolean", default: false } },
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !BENCHES.includes(name));
if (unknown.length > 0) {
  console.error(`no bench is named ${unknown.join(", ")}: the benches are ${BENCHES.join(", ")}`);
  process.exit(1);
}
const commit = options.record ? await cleanCommit() : undefined;

for (const name of positionals.length > 0 ? positionals : BENCHES) {
  const { [name]: bench } = await import(`./${name}.mjs`);
  const tables = [];
  await bench((title, columns, rows) => {
    const table = `**${title}**\n\n${tableOf(columns, rows)}`;
    console.log(`\n${table}`);
    tables.push(table);
  });
  if (commit) record(name, tables);
}

/** Writes the tables of a bench into its section of the page. */
function record(name, tables) {
  const file = path.join(ROOT, PAGE);
  fs.writeFileSync(file, recorded(fs.readFileSync(file, "utf8"), { name, commit, machine: machine(), tables }));
  console.log(`\nrecorded in ${PAGE}`);
}

/** The commit that is measured. Figures of a changed tree would belong to no commit. */
async function cleanCommit() {
  const { stdout: changed } = await run("git", ["status", "--porcelain", "--", ".", ":!docs"]);
  if (changed.trim()) {
    console.error(`figures belong to a commit, but these files are changed; commit them first:\n${changed}`);
    process.exit(1);
  }
  const { stdout } = await run("git", ["rev-parse", "--short=9", "HEAD"]);
  return stdout.trim();
}

/** The machine and the programs on it, in words. */
function machine() {
  const cores = os.cpus();
  const processor = cores[0].model
    .replaceAll(/\((R|TM)\)/g, "")
    .replaceAll(/\s+/g, " ")
    .trim();
  const memory = Math.round(os.totalmem() / 2 ** 30);
  const { version } = JSON.parse(fs.readFileSync(path.join(ROOT, "node_modules/workerd/package.json"), "utf8"));
  return `${cores.length} cores of ${processor}, ${memory} GiB, Linux ${os.release().split(/[-+]/)[0]}, Node ${process.versions.node}, workerd ${version}`;
}
