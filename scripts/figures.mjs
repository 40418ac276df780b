// Writes sections of docs/figures.md, and checks the page: each table has a bench, a commit and a
// machine, and each number that the documents take from a table is in it. Prints the problems.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT, run } from "./command.mjs";
import { anchorOf } from "./prose.mjs";

export const PAGE = "docs/figures.md";
/**
 * The benches in the order in which they run. Each is a function of its name in `benches/NAME.mjs`.
 */
export const BENCHES = [
  "upload",
  "pull",
  "concurrency",
  "cost",
  "storage",
  "files",
  "layers",
  "access",
  "mirror",
  "soak",
  "inspect",
  "page",
  "policy",
];

const MEASURED = /^Measured by `npm run bench -- (\S+)` at ([0-9a-f]{7,40}) on (.+)\.$/m;
const COMMAND = /`npm run bench -- (\S+)`/;
const NUMBER = /(?<![\w.,])\d[\d,]*(?:\.\d+)?/g;

/** Returns the sections of a page in Markdown, each with its heading. */
const sectionsOf = (page) => page.split(/^(?=## )/m);

const headingOf = (section) => /^## (.*)$/m.exec(section)?.[1];

/**
 * Returns the page with new tables of a bench in place of the old ones, below a line that says
 * where they are from.
 */
export function recorded(page, { name, commit, machine, tables }) {
  const sections = sectionsOf(page);
  const at = sections.findIndex((section) => MEASURED.exec(section)?.[1] === name);
  if (at < 0) throw new Error(`${PAGE} has no section with "Measured by \`npm run bench -- ${name}\`"`);
  const [before] = sections[at].split(MEASURED);
  const end = at === sections.length - 1 ? "\n" : "\n\n";
  const measured = `Measured by \`npm run bench -- ${name}\` at ${commit} on ${machine}.`;
  sections[at] = `${before}${[measured, ...tables].join("\n\n")}${end}`;
  return sections.join("");
}

/**
 * Returns the numbers of a text that are in no table. They are compared at the decimals of the
 * text.
 */
function missing(text, tables) {
  const values = [...tables.matchAll(NUMBER)].map(([number]) => Number(number.replaceAll(",", "")));
  return [...text.matchAll(NUMBER)]
    .map(([number]) => number.replace(/,$/, ""))
    .filter((number) => {
      const decimals = number.split(".")[1]?.length ?? 0;
      const value = Number(number.replaceAll(",", ""));
      return !values.some((one) => one === value || Number(one.toFixed(decimals)) === value);
    });
}

/** Returns a Markdown text without its code, its links' targets and its ordered lists' numbers. */
const words = (text) => text.replaceAll(/`[^`]*`/g, "").replaceAll(/\]\([^)]*\)/g, "]");

/**
 * Returns the problems of the page, of its table of claims, and of the numbers that `readme` takes
 * from it.
 *
 * @param {{ page: string, readme: string, isBench: (name: string) => boolean,
 *   isCommit: (id: string) => boolean }} input
 */
export function problems({ page, readme, isBench, isCommit }) {
  const found = [];
  const tables = new Map();
  const anchors = new Map();
  for (const section of sectionsOf(page)) {
    const heading = headingOf(section);
    const measured = MEASURED.exec(section);
    const isClaims = /^\| claim \|/m.test(section);
    if (!measured) {
      if (heading && !isClaims) found.push(`"${heading}" has no line "Measured by … at … on …"`);
      continue;
    }
    const [line, name, commit] = measured;
    const [prose, below] = [section.slice(0, measured.index), section.slice(measured.index + line.length)];
    if (!isBench(name)) found.push(`"${heading}" names a bench that does not exist: ${name}`);
    if (!isCommit(commit)) found.push(`"${heading}" was measured at a commit that does not exist: ${commit}`);
    if (tables.has(name)) found.push(`"${heading}" is a second section of ${name}`);
    for (const number of missing(words(prose), below)) found.push(`"${heading}" says ${number}, its tables do not`);
    tables.set(name, below);
    anchors.set(anchorOf(heading), below);
  }
  for (const row of page.match(/^\|.*`npm run bench.*\|$/gm) ?? []) {
    const [, claim, measured] = row.split("|").map((cell) => cell.trim());
    const [, name] = COMMAND.exec(row);
    if (!tables.has(name)) found.push(`the claim "${claim}" has no section of ${name}`);
    else
      for (const number of missing(words(measured), tables.get(name)))
        found.push(`the claim "${claim}" was measured as ${number}, the tables of ${name} do not say so`);
  }
  for (const item of readme.match(/^- (?:.*\n(?: {2}.*\n)*)/gm) ?? []) {
    const [, anchor] = /\(docs\/figures\.md#([^)]*)\)/.exec(item) ?? [];
    if (!anchor) continue;
    if (!anchors.has(anchor)) found.push(`README takes a figure from #${anchor}, which has none`);
    else
      for (const number of missing(words(item), anchors.get(anchor)))
        found.push(`README says ${number}, the tables of #${anchor} do not`);
  }
  return found;
}

/**
 * Resolves with true if a commit is in the history of HEAD, or if the clone is shallow and can't
 * tell.
 */
async function isInHistory(commit) {
  const { stdout: shallow } = await run("git", ["rev-parse", "--is-shallow-repository"]);
  if (shallow.trim() === "true") return true;
  return (await run("git", ["merge-base", "--is-ancestor", commit, "HEAD"])).code === 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const read = (file) => fs.readFileSync(path.join(ROOT, file), "utf8");
  const page = read(PAGE);
  const commits = new Map();
  for (const [, , commit] of page.matchAll(new RegExp(MEASURED, "gm"))) commits.set(commit, await isInHistory(commit));
  const found = problems({
    page,
    readme: read("README.md"),
    isBench: (name) => BENCHES.includes(name) && fs.existsSync(path.join(ROOT, `benches/${name}.mjs`)),
    isCommit: (id) => commits.get(id),
  });
  console.log(
    found.map((problem) => `${PAGE}: ${problem}`).join("\n") || "each figure has its bench, commit and machine",
  );
  process.exitCode = found.length > 0 ? 1 : 0;
}
