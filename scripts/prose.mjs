// Checks the prose of the project: comments at most 100 columns wide and with nouns, one sentence a line in Markdown,
// and links that lead somewhere. Prints what is wrong.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT, run } from "./command.mjs";

const WIDTH = 100;
const COMMENT = /^\s*\/\/[/!]? /;
/** A clause that says "what is …" or "who has …" and names nothing. */
const HEADLESS = new RegExp(
  String.raw`(?:^|[.,;:(]\s+|\b(?:of|by|to|for|with|from|in|and|or|that)\s+)` +
    String.raw`(?:what|who|whoever|whatever|those who)\s+` +
    String.raw`(?:is|was|are|were|has|had|have|does|did|can|may|must|would|will|comes?|goes|asks?|pushe[sd]?|pulls?|it|they|nobody|others?)\b`,
  "i",
);

/** The lines of a text in Rust whose comments are too wide, or have a clause without a noun, as `line: problem`. */
export function comments(text) {
  return text.split("\n").flatMap((line, index) => {
    if (!COMMENT.test(line)) return [];
    const words = line.replace(COMMENT, "");
    const isWide = line.trimEnd().length > WIDTH && !words.startsWith("|") && !/https?:\/\//.test(words);
    return [
      ...(isWide ? [`${index + 1}: comment of more than ${WIDTH} columns`] : []),
      ...(HEADLESS.test(words) ? [`${index + 1}: clause without a noun: ${words.match(HEADLESS)[0].trim()}`] : []),
    ];
  });
}

/** The lines of Markdown outside of code, tables and headings, each with its number. */
function* prose(text) {
  let isCode = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode;
    else if (!isCode && !/^\s*(#|\||<)/.test(line)) yield [index + 1, line];
  }
}

/** The lines of Markdown that have more than one sentence, as `line: problem`. */
export function sentences(text) {
  return [...prose(text)].flatMap(([number, line]) => {
    const text = line.replace(/^\s*(?:[-*+>]|\d+\.) +/, "");
    const words = text.replaceAll(/`[^`]*`/g, "`").replaceAll(/\([^()]*\)/g, "");
    const end = /[.!?](?:\*\*|[”"*])* (?=(?:\*\*|[“"[*])*[A-Z`[])/.exec(words);
    return end && !/(?:e\.g|i\.e)\.$/.test(words.slice(0, end.index + 1)) ? [`${number}: more than one sentence`] : [];
  });
}

/** The anchor of a heading, as GitHub makes it. */
export const anchorOf = (heading) =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

/** The anchors of a text in Markdown. */
function anchors(text) {
  return new Set([...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading)));
}

/** The links of a file in Markdown that lead nowhere, as `line: problem`. `read` gives a file's text, or nothing. */
export function links(file, text, read) {
  return [...prose(text), ...tables(text)].flatMap(([number, line]) =>
    [...line.replaceAll(/`[^`]*`/g, "").matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target]) => {
      if (/^[a-z]+:/.test(target)) return [];
      const [to, anchor] = target.split("#");
      const found = to ? path.posix.join(path.posix.dirname(file), to) : file;
      const other = read(found);
      if (other === undefined) return [`${number}: no file ${found}`];
      if (anchor && !anchors(other).has(anchor)) return [`${number}: no heading #${anchor} in ${found}`];
      return [];
    }),
  );
}

function tables(text) {
  return text
    .split("\n")
    .map((line, index) => [index + 1, line])
    .filter(([, line]) => /^\s*\|/.test(line));
}

function read(file) {
  const full = path.join(ROOT, file);
  if (!fs.existsSync(full)) return undefined;
  return fs.statSync(full).isDirectory() ? "" : fs.readFileSync(full, "utf8");
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { stdout } = await run("git", ["ls-files", "*.md", "*.rs"]);
  const problems = stdout
    .trim()
    .split("\n")
    .flatMap((file) => {
      const text = read(file) ?? "";
      const found = file.endsWith(".rs") ? comments(text) : [...sentences(text), ...links(file, text, read)];
      return found.map((problem) => `${file}:${problem}`);
    });
  console.log(problems.join("\n") || "comments, sentences and links are as they should be");
  process.exitCode = problems.length > 0 ? 1 : 0;
}
