// Checks the prose of the project: comments at most 100 columns wide and with nouns, one sentence a
// line in Markdown, and links that lead somewhere. Prints the problems.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT, run } from "./command.mjs";

const WIDTH = 100;
/** The beginning of a comment's line, by the extension of the file. */
const COMMENTS = {
  rs: /^\s*\/\/[/!]? /,
  toml: /^\s*# /,
  yml: /^\s*# /,
};
const SCRIPT = /^\s*(?:\/\/|\/?\*\*?) /;
for (const extension of ["mjs", "js", "ts", "tsx", "css"]) COMMENTS[extension] = SCRIPT;
/** A clause that says "what is …" or "who has …" and names nothing. */
const HEADLESS = new RegExp(
  String.raw`(?:^|[.,;:(]\s+|\b(?:of|by|to|for|with|from|in|and|or|that)\s+)` +
    String.raw`(?:what|who|whoever|whatever|those who)\s+` +
    String.raw`(?:is|was|are|were|has|had|have|does|did|can|may|must|would|will|comes?|goes|asks?|pushe[sd]?|pulls?|it|they|nobody|others?)\b`,
  "i",
);

/**
 * Returns the problems of a source's comments, as `line: problem`: lines that are too wide, or that
 * have a clause without a noun. `extension` is that of its file, such as `rs`.
 */
export function comments(text, extension) {
  const comment = COMMENTS[extension];
  return text.split("\n").flatMap((line, index) => {
    if (!comment.test(line)) return [];
    const words = line.replace(comment, "");
    const isWide = line.trimEnd().length > WIDTH && !words.startsWith("|") && !/https?:\/\//.test(words);
    return [...(isWide ? [`${index + 1}: comment of more than ${WIDTH} columns`] : []), ...headless(words, index + 1)];
  });
}

function headless(words, number) {
  const [found] = HEADLESS.exec(words) ?? [];
  return found ? [`${number}: clause without a noun: ${found.trim()}`] : [];
}

/** Yields the lines of Markdown outside of code, tables and headings, each with its number. */
function* prose(text) {
  let isCode = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode;
    else if (!isCode && !/^\s*(#|\||<)/.test(line)) yield [index + 1, line];
  }
}

/**
 * Returns the lines of Markdown that have more than one sentence, or a clause without a noun, as
 * `line: problem`.
 */
export function sentences(text) {
  return [...prose(text)].flatMap(([number, line]) => {
    const text = line.replace(/^\s*(?:[-*+>]|\d+\.) +/, "");
    const words = text.replaceAll(/`[^`]*`/g, "`").replaceAll(/\([^()]*\)/g, "");
    const end = /[.!?](?:\*\*|[”"*])* (?=(?:\*\*|[“"[*])*[A-Z`[])/.exec(words);
    const isEnd = end && !/(?:e\.g|i\.e)\.$/.test(words.slice(0, end.index + 1));
    return [...(isEnd ? [`${number}: more than one sentence`] : []), ...headless(words, number)];
  });
}

/** Returns the anchor of a heading, as GitHub makes it. */
export const anchorOf = (heading) =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

/** Returns the anchors of a text in Markdown. */
function anchors(text) {
  return new Set([...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading)));
}

/**
 * Returns the links of a file in Markdown that lead nowhere, as `line: problem`. `read` returns a
 * file's text, or undefined.
 */
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
  const extensions = ["md", ...Object.keys(COMMENTS)];
  const { stdout } = await run("git", ["ls-files", ...extensions.map((extension) => `*.${extension}`)]);
  const problems = stdout
    .trim()
    .split("\n")
    .flatMap((file) => {
      const text = read(file) ?? "";
      const extension = path.extname(file).slice(1);
      const found = extension === "md" ? [...sentences(text), ...links(file, text, read)] : comments(text, extension);
      return found.map((problem) => `${file}:${problem}`);
    });
  console.log(problems.join("\n") || "no problems in comments, sentences and links");
  process.exitCode = problems.length > 0 ? 1 : 0;
}
