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
  const measuredAt = MEASURED.exec(sections[at]).index;
  const before = sections[at].slice(0, measuredAt);
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

/** Returns the tables of a recorded section, with their titles, and the text that is none. */
function tablesOf(below) {
  const lines = below.split("\n").filter(Boolean);
  const isTable = (line) => line.startsWith("|") || /^\*\*.*\*\*$/.test(line);
  return { tables: lines.filter(isTable).join("\n"), rest: lines.filter((line) => !isTable(line)) };
}

/**
 * Returns the problems of the page, of its table of claims, and of the numbers that `readme` takes
 * from it. The page's first section has the claims, each with the bench that measures it.
 *
 * @param {{ page: string, readme: string, benches: string[],
 *   isCommit: (id: string) => boolean }} input
 */
export function problems({ page, readme, benches, isCommit }) {
  const [, claims = "", ...sections] = sectionsOf(page);
  const found = [];
  const tablesOfBench = new Map();
  const tablesOfAnchor = new Map();
  for (const section of sections) {
    const heading = headingOf(section);
    const measured = MEASURED.exec(section);
    if (!measured) {
      found.push(`"${heading}" has no line "Measured by … at … on …"`);
      continue;
    }
    const [line, name, commit] = measured;
    const { tables, rest } = tablesOf(section.slice(measured.index + line.length));
    if (!benches.includes(name)) found.push(`"${heading}" names a bench that does not exist: ${name}`);
    if (!isCommit(commit)) found.push(`"${heading}" was measured at a commit that does not exist: ${commit}`);
    if (tablesOfBench.has(name)) found.push(`"${heading}" is a second section of ${name}`);
    if (!tables.includes("|")) found.push(`"${heading}" has no table`);
    for (const text of rest) found.push(`"${heading}" has text below its tables, which a recording deletes: ${text}`);
    for (const number of missing(words(section.slice(0, measured.index)), tables))
      found.push(`"${heading}" says ${number}, its tables do not`);
    tablesOfBench.set(name, tables);
    tablesOfAnchor.set(anchorOf(heading), tables);
  }
  for (const name of benches) if (!tablesOfBench.has(name)) found.push(`the bench ${name} has no section`);

  const [, , ...rows] = claims.match(/^\|.*\|$/gm) ?? [];
  for (const row of rows) {
    const [, claim, measured] = row.split("|").map((cell) => cell.trim());
    const [, name] = COMMAND.exec(row) ?? [];
    if (!tablesOfBench.has(name)) found.push(`the claim "${claim}" names no bench that has a section`);
    else
      for (const number of missing(words(measured), tablesOfBench.get(name)))
        found.push(`the claim "${claim}" was measured as ${number}, the tables of ${name} do not say so`);
  }

  // A paragraph, or an item of a list with its indented lines.
  for (const block of readme.split(/\n\n|\n(?=\s*[-*] )/)) {
    for (const [, anchor] of block.matchAll(/\((?:\.\/)?docs\/figures\.md(?:#([^)]*))?\)/g)) {
      if (!tablesOfAnchor.has(anchor)) found.push(`README takes a figure from #${anchor ?? ""}, which has none`);
      else
        for (const number of missing(words(block), tablesOfAnchor.get(anchor)))
          found.push(`README says ${number}, the tables of #${anchor} do not`);
    }
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
    benches: BENCHES.filter((name) => fs.existsSync(path.join(ROOT, `benches/${name}.mjs`))),
    isCommit: (id) => commits.get(id),
  });
  console.log(
    found.map((problem) => `${PAGE}: ${problem}`).join("\n") || "each figure has its bench, commit and machine",
  );
  process.exitCode = found.length > 0 ? 1 : 0;
}
