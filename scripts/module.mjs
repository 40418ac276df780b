// Builds a crate into a module of wasm: the steps that the Worker, the inspector and the benches
// share.

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

import { ROOT, run } from "./command.mjs";
import { dim, Failure, MARKS, say, tail } from "./terminal.mjs";

/**
 * The wasm features of the platform's engine. With all features enabled, binaryen writes encodings
 * that the engine does not know yet.
 */
const FEATURES = [
  "bulk-memory",
  "multivalue",
  "mutable-globals",
  "nontrapping-float-to-int",
  "reference-types",
  "sign-ext",
  "simd",
];
// More passes of wasm-opt take twice as long, and made no measured request faster.
export const OPTIMIZE = ["-O1", "--debuginfo", ...FEATURES.map((name) => `--enable-${name}`)];

/**
 * Compiles a crate to wasm. Resolves with the path of the artefact. Fails with the compiler's
 * messages.
 */
export async function compile(folder, dev, detail) {
  const args = [
    "build",
    "--locked",
    "--lib",
    "--target",
    "wasm32-unknown-unknown",
    "--message-format=json-render-diagnostics",
  ];
  const { code, stdout, output } = await run("cargo", dev ? args : [...args, "--release"], {
    cwd: folder,
    // With SIMD, SHA-256 takes 30 % less time, and a pass over a layer 10 %.
    env: { CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: "-C target-feature=+simd128" },
    line: (line) => line.startsWith("{") || detail(line),
  });
  const messages = stdout.split("\n").filter((line) => line.startsWith("{"));
  if (code !== 0) {
    const said = output.split("\n").filter((line) => !line.startsWith("{") && !PROGRESS.test(line));
    throw new Failure(
      `${path.relative(ROOT, folder)} did not compile: the compiler's messages are above`,
      said.join("\n"),
    );
  }
  return messages
    .map((line) => JSON.parse(line))
    .flatMap(({ reason, filenames }) => (reason === "compiler-artifact" ? filenames : []))
    .findLast((file) => file.endsWith(".wasm"));
}

/**
 * Makes files in a folder, unless they exist with this fingerprint. `make` writes to a temporary
 * folder, and the files are moved into place, so that concurrent builds leave no partial files.
 */
export async function replaceAll(folder, names, make, fingerprint) {
  const record = path.join(folder, ".fingerprint");
  const files = names.map((name) => path.join(folder, name));
  if ([...files, record].every(fs.existsSync) && fs.readFileSync(record, "utf8") === fingerprint) return;
  fs.mkdirSync(folder, { recursive: true });
  const beside = fs.mkdtempSync(path.join(folder, "making-"));
  try {
    await make(beside);
    fs.rmSync(record, { force: true });
    for (const name of names) fs.renameSync(path.join(beside, name), path.join(folder, name));
    fs.writeFileSync(record, fingerprint);
  } finally {
    fs.rmSync(beside, { recursive: true, force: true });
  }
}

/** Runs a tool in a folder. Fails with its last lines. */
export async function carryOut(program, args, folder, detail) {
  const name = path.basename(program);
  detail(name);
  const { code, output } = await run(program, args, { cwd: folder });
  if (code !== 0) throw new Failure(`${name} failed: its last lines are above`, tail(output, 40));
}

/** Returns the path of a tool that a node package brings. */
export const bin = (name) => path.join(ROOT, "node_modules/.bin", name);

/** Prints the size of a module. Fails above its limit, which is written in `script`. */
export function checkSize({ raw, gzipped }, { name, limit, script }) {
  const figures = `${kilobytes(gzipped)} gzipped ${dim(`(${kilobytes(raw)} raw, limit ${kilobytes(limit)} gzipped)`)}`;
  if (gzipped > limit) {
    throw new Failure(
      `the ${name} is ${kilobytes(gzipped)} gzipped, above ${kilobytes(limit)}: make it smaller, or raise LIMIT in ${script} with a reason`,
    );
  }
  say(`${MARKS.passed} ${name} ${figures}`);
}

/** Returns the sizes in bytes of files together: raw, and with each gzipped by itself. */
export function sizes(files) {
  return {
    raw: files.reduce((sum, file) => sum + file.length, 0),
    gzipped: files.reduce((sum, file) => sum + zlib.gzipSync(file).length, 0),
  };
}

function kilobytes(bytes) {
  return `${Math.round(bytes / 1000)} kB`;
}

export function hash(parts) {
  const sum = crypto.createHash("sha256");
  for (const part of parts) sum.update(part);
  return sum.digest("hex");
}

const PROGRESS = /^\s+(Blocking|Compiling|Downloaded|Downloading|Finished|Locking|Updating)\b/;
