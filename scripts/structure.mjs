// Checks the structure of the code: the length of functions and files, circular imports, keys that
// are split by hand, and the types that services name.

import fs from "node:fs";
import path from "node:path";

import { ROOT, run } from "./command.mjs";
import { Failure, main, say } from "./terminal.mjs";

/** The most lines of a function. */
const LONGEST = 80;

/** The most lines of code of a file, tests apart. */
const LARGEST = 400;

/** Files that are larger: each says in its first lines why it is one. */
const LARGER = [
  "src/access.rs",
  "src/manifest.rs",
  "src/route.rs",
  "src/store/key.rs",
  "src/store/tiers.rs",
  "src/upstream.rs",
];

/** The folders whose modules may not import each other in circles. */
const CRATES = ["src", "worker/src", "www/src"];
const SCRIPTS = ["scripts", "benches", "www/app"];

/** Files that have only tests. */
const TESTS = /(^|\/)tests(\.rs$|\/)/;

/** Code that splits the text of a key by hand. */
const SPLITS = /ends_with\("\/_|split_once\("\/_|strip_prefix\(key::|replacen\('\/'/;

/**
 * The files of services, and the types that they may not name: the registry parses requests and
 * describes responses.
 */
const SERVICES = /^src\/registry\/(grant|upload|blob|manifest|list|mirror|inside|upkeep)(\.rs$|\/)/;
const MESSAGES = /\bRequest\b|\breply::|\bAnswer<|\bResponse(Of)?</;

/**
 * Headers. Only the client of upstreams may name them, because it has its own requests and
 * responses.
 */
const HEADERS = /\bHeader(Map|Name)\b/;
const CLIENT = /^src\/registry\/mirror(\.rs$|\/)/;

/** A list of generics with the bounds of two parts of the platform. */
const BOUNDS =
  /<[^<>{}();]*\b\w+: (?:Streams|Values|Objects|Host)\b[^{}();]*?, \w+: (?:Streams|Values|Objects|Host)\b/g;

/** The most such lists: a wrapper of a store needs a host. */
const MOST_BOUNDS = 1;

main(import.meta.url, async () => {
  const { stdout } = await run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
  const files = new Map();
  for (const name of stdout.split("\0")) {
    const file = path.join(ROOT, name);
    if (/\.(rs|mjs|ts|tsx)$/.test(name) && fs.existsSync(file)) files.set(name, fs.readFileSync(file, "utf8"));
  }
  const problems = check(files);
  if (problems.length > 0) throw new Failure(problems.join("\n"));
  say("no problems in functions, files, imports, keys and services");
});

/** Returns all problems of the structure of files, a map from their names to their texts. */
export function check(files) {
  const rust = new Map();
  for (const [name, text] of files) {
    if (CRATES.some((folder) => name.startsWith(`${folder}/`)) && name.endsWith(".rs") && !TESTS.test(name))
      rust.set(name, withoutTests(blank(text)));
  }
  const core = [...rust].filter(([name]) => name.startsWith("src/"));
  return [
    ...[...rust].flatMap(([name, code]) => longFunctions(name, code)),
    ...[...rust].flatMap(([name, code]) => largeFile(name, code)),
    ...CRATES.flatMap((folder) => circles(rustImports(folder, files))),
    ...circles(scriptImports(files)),
    ...core.flatMap(([name]) => splitKeys(name, files.get(name))),
    ...repeatedBounds(core),
    ...core.flatMap(([name, code]) => sharedFields(name, code)),
    ...core.flatMap(([name, code]) => messages(name, code)),
  ];
}

function longFunctions(name, code) {
  const functions = functionsOf(code).filter(({ lines }) => lines > LONGEST);
  return functions.map(
    (found) => `${name}: the function ${found.name} has ${found.lines} lines, at most ${LONGEST} are allowed`,
  );
}

function largeFile(name, code) {
  const lines = code.split("\n").filter((line) => line.trim() !== "").length;
  if (lines <= LARGEST || LARGER.includes(name)) return [];
  return [`${name}: ${lines} lines of code, at most ${LARGEST} are allowed: split it by subject`];
}

function splitKeys(name, text) {
  if (name === "src/route.rs" || name === "src/store/key.rs") return [];
  const at = text.split("\n").findIndex((line) => SPLITS.test(line));
  return at < 0 ? [] : [`${name}:${at + 1}: a key is split by hand: match on Key::parse`];
}

function repeatedBounds(core) {
  const found = core.flatMap(([name, code]) => [...code.matchAll(BOUNDS)].map(() => name));
  return found.length <= MOST_BOUNDS ? [] : [`two bounds of a platform in one list, use Platform: ${found.join(", ")}`];
}

/** Services take and return values of the domain. */
function messages(name, code) {
  if (!SERVICES.test(name)) return [];
  const isMessage = (line) => MESSAGES.test(line) || (HEADERS.test(line) && !CLIENT.test(name));
  const at = code.split("\n").findIndex(isMessage);
  return at < 0
    ? []
    : [`${name}:${at + 1}: a service names a request or a response: describe it in src/registry/reply`];
}

/** Services hold other services, and neither the registry nor another service's stores. */
function sharedFields(name, code) {
  if (!name.startsWith("src/registry")) return [];
  return [...code.matchAll(/struct (\w+)(?:<[^>{]*>)? \{([^}]*)\}/g)].flatMap(([, struct, body]) => {
    const fields = body
      .split(/,\n/)
      .map((field) => field.trim())
      .filter(Boolean);
    const held = fields.filter((field) => /:.*\bRegistry</.test(field));
    const shared = fields.filter((field) => /^pub.*: (Bucket|Rc<Tiers)</.test(field) && struct !== "Parts");
    return [
      ...held.map((field) => `${name}: ${struct} holds the registry: ${field}`),
      ...shared.map((field) => `${name}: ${struct} lends its stores to others: ${field}`),
    ];
  });
}

/** Returns the text with comments, strings and characters blanked, so that each brace is code. */
export function blank(text) {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\x[0-9a-fA-F]{2}|\\u\{[^}]*\}|\\.|[^\\'\n])'/g;
  return text.replace(pattern, (found) => found.replace(/[^\n]/g, " "));
}

function withoutTests(code) {
  return code.split(/#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\(crate\) )?mod \w+\s*[{;]/)[0];
}

/** Returns the functions of blanked code, with the number of lines from `fn` to the last brace. */
export function functionsOf(code) {
  return [...code.matchAll(/\bfn\s+(\w+)/g)].flatMap(({ 1: name, index }) => {
    const start = bodyOf(code, index);
    if (start === undefined) return [];
    let depth = 0;
    for (let at = start; at < code.length; at++) {
      if (code[at] === "{") depth += 1;
      if (code[at] === "}" && --depth === 0) return [{ name, lines: code.slice(index, at).split("\n").length }];
    }
    return [];
  });
}

function bodyOf(code, from) {
  let depth = 0;
  for (let at = from; at < code.length; at++) {
    if ("([".includes(code[at])) depth += 1;
    if (")]".includes(code[at])) depth -= 1;
    if (depth === 0 && code[at] === ";") return undefined;
    if (depth === 0 && code[at] === "{") return at;
  }
  return undefined;
}

/** Returns the imports between the modules of a crate, as a graph of files. */
function rustImports(folder, files) {
  const modules = new Map();
  for (const [name, text] of files) {
    if (!name.startsWith(`${folder}/`) || !name.endsWith(".rs")) continue;
    const module = name.slice(folder.length + 1, -3).split("/");
    modules.set(module.join("::"), { name, module, code: withoutTests(blank(text)).replace(/pub\(in [^)]*\)/g, "") });
  }
  const graph = new Map();
  for (const { name, module, code } of modules.values()) {
    const uses = [...code.matchAll(/^\s*(?:pub )?use ([^;]*);/gm)].flatMap(([, tree]) => paths(tree));
    const rest = code.replace(/^\s*(?:pub )?use [^;]*;/gm, "");
    uses.push(
      ...[...rest.matchAll(/\b(crate|super)((?:::\w+)+)/g)].map(([, first, more]) => [
        first,
        ...more.split("::").slice(1),
      ]),
    );
    const found = uses.flatMap(([first, ...more]) => {
      const base = { crate: [], self: module, super: module.slice(0, -1) }[first];
      return base ? [target(modules, [...base, ...more])] : [];
    });
    graph.set(name, new Set(found.filter((other) => other && other !== name)));
  }
  return graph;
}

/** Returns the paths of a use tree, as lists of names. */
export function paths(tree) {
  const text = tree.trim();
  const open = text.indexOf("{");
  if (open < 0)
    return [
      text
        .split(/\s+as\s+/)[0]
        .split("::")
        .map((part) => part.trim()),
    ];
  const prefix = text
    .slice(0, open)
    .split("::")
    .map((part) => part.trim())
    .filter(Boolean);
  const parts = [];
  let [depth, part] = [0, ""];
  for (const character of text.slice(open + 1, text.lastIndexOf("}"))) {
    if (character === "{") depth += 1;
    if (character === "}") depth -= 1;
    if (character === "," && depth === 0) {
      parts.push(part);
      part = "";
    } else {
      part += character;
    }
  }
  return [...parts, part]
    .filter((each) => each.trim())
    .flatMap((each) => paths(each).map((path) => [...prefix, ...path]));
}

/** Returns the file of the longest module that a path begins with. */
function target(modules, parts) {
  for (let length = parts.length; length > 0; length--) {
    const module = modules.get(parts.slice(0, length).join("::"));
    if (module) return module.name;
  }
  return undefined;
}

function scriptImports(files) {
  const graph = new Map();
  for (const [name, text] of files) {
    if (!SCRIPTS.some((folder) => name.startsWith(`${folder}/`))) continue;
    const found = [
      ...text.matchAll(/(?:^(?:import|export)\s(?:[^"';]*?\sfrom\s)?|\bimport\(\s*)["'](\.[^"']*)["']/gm),
    ].map(([, other]) => {
      const stem = path.posix.join(path.posix.dirname(name), other);
      return [stem, `${stem}.ts`, `${stem}.tsx`, stem.replace(/\.js$/, ".ts")].find((file) => files.has(file));
    });
    graph.set(name, new Set(found.filter(Boolean)));
  }
  return graph;
}

/** Returns the circles of a graph as problems: each set of nodes that reach each other (Tarjan). */
export function circles(graph) {
  const [numbers, lows, stack, problems] = [new Map(), new Map(), [], []];
  const visit = (node) => {
    numbers.set(node, numbers.size);
    lows.set(node, numbers.get(node));
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!numbers.has(next)) visit(next);
      if (stack.includes(next)) lows.set(node, Math.min(lows.get(node), lows.get(next)));
    }
    if (lows.get(node) !== numbers.get(node)) return;
    const circle = stack.splice(stack.indexOf(node));
    if (circle.length > 1) problems.push(`these import each other in a circle: ${circle.sort().join(", ")}`);
  };
  for (const node of graph.keys()) if (!numbers.has(node)) visit(node);
  return problems;
}
