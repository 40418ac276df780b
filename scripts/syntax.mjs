// Lets Node parse each of the project's scripts and tests without running it.

import fs from "node:fs";
import path from "node:path";

import { ROOT, run } from "./command.mjs";
import { Failure, main } from "./terminal.mjs";

main(import.meta.url, async () => {
  const files = ["scripts", "tests", "benches", "worker/src", "www"].flatMap(scripts);
  for (const file of files) {
    const { code, output } = await run("node", ["--check", file]);
    if (code !== 0) throw new Failure(`${path.relative(ROOT, file)} can't be parsed`, output);
  }
});

function scripts(folder) {
  return fs.readdirSync(path.join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return ["build", "dist", "target"].includes(entry.name) ? [] : scripts(file);
    return /\.(js|mjs)$/.test(entry.name) ? [path.join(ROOT, file)] : [];
  });
}
