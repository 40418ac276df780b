// The Worker, from Rust to the module that is deployed: cargo, then worker-build (wasm-bindgen, wasm-opt, its shim and esbuild).

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

import { ROOT, run } from "./command.mjs";
import { ensureAll, TOOLS, WORKER_BUILD } from "./setup.mjs";
import { dim, Failure, main, MARKS, parse, say, tail, task } from "./terminal.mjs";

/** Bytes of the wasm and its script, gzipped. Ours to raise with a reason; the platform's own ceiling is 3 MB on the free plan. */
const LIMIT = 1_000_000;

/**
 * Builds the crate in a folder of the workspace into that folder's build/, on a machine that has what it takes (`ensureAll`). What
 * cargo left unchanged since the last time is not processed again. `fingerprint` changes when the module does.
 */
export async function build({ crate = "worker", dev = false } = {}) {
  const folder = path.join(ROOT, crate);
  const out = path.join(folder, "build");
  const script = path.join(out, "index.js");
  const module = path.join(out, "index_bg.wasm");
  await task(`building ${crate}`, async (detail) => {
    const artefact = await compile(folder, dev, detail);
    // Named tools are used as they are; without a name worker-build would download its own.
    const env = {
      ESBUILD_BIN: path.join(ROOT, "node_modules/.bin/esbuild"),
      WASM_BINDGEN_BIN: path.join(TOOLS, "bin/wasm-bindgen"),
      WASM_OPT_BIN: path.join(ROOT, "node_modules/.bin/wasm-opt"),
      // A client that goes away must not leave a request, and the buffers it holds, waiting in the isolate for ever.
      RUN_TO_COMPLETION: "1",
    };
    const record = path.join(out, ".fingerprint");
    const tools = [WORKER_BUILD, fs.readFileSync(path.join(TOOLS, ".crates.toml")), fs.readFileSync(path.join(ROOT, "package-lock.json"))];
    const fingerprint = hash([dev ? "dev" : "release", JSON.stringify(env), ...tools, fs.readFileSync(artefact)]);
    if ([script, module, record].every(fs.existsSync) && fs.readFileSync(record, "utf8") === fingerprint) return;
    detail("worker-build");
    const built = await run(path.join(TOOLS, "bin/worker-build"), [dev ? "--dev" : "--release"], { cwd: folder, env });
    if (built.code !== 0) throw new Failure(`worker-build could not make a module of ${crate}: its last lines are above`, tail(built.output, 40));
    fs.writeFileSync(record, fingerprint);
  });
  const files = [fs.readFileSync(module), fs.readFileSync(script)];
  return {
    folder: out,
    script,
    module,
    raw: files.reduce((sum, file) => sum + file.length, 0),
    gzipped: files.reduce((sum, file) => sum + zlib.gzipSync(file).length, 0),
    fingerprint: hash(files),
  };
}

/** What wasm-bindgen's macros are told by worker-build, so that cargo, which does not see it, is told the same by everyone. */
export const WASM = { WASM_BINDGEN_USE_JS_SYS: "1" };

/** Compiles a crate to wasm; resolves with the path of what came out. */
async function compile(folder, dev, detail) {
  const args = ["build", "--lib", "--target", "wasm32-unknown-unknown", "--message-format=json-render-diagnostics"];
  const { code, stdout, output } = await run("cargo", dev ? args : [...args, "--release"], {
    cwd: folder,
    env: WASM,
    line: (line) => line.startsWith("{") || detail(line),
  });
  const messages = stdout.split("\n").filter((line) => line.startsWith("{"));
  if (code !== 0) {
    const said = output.split("\n").filter((line) => !line.startsWith("{") && !PROGRESS.test(line));
    throw new Failure(`${path.relative(ROOT, folder)} did not compile: the compiler's messages are above`, said.join("\n"));
  }
  return messages
    .map((line) => JSON.parse(line))
    .flatMap(({ reason, filenames }) => (reason === "compiler-artifact" ? filenames : []))
    .findLast((file) => file.endsWith(".wasm"));
}

/** Says how large the module is, and fails above the limit. */
export function checkSize({ raw, gzipped }) {
  const figures = `${kilobytes(gzipped)} gzipped ${dim(`(${kilobytes(raw)} raw, limit ${kilobytes(LIMIT)} gzipped)`)}`;
  if (gzipped > LIMIT) {
    throw new Failure(`the module is ${kilobytes(gzipped)} gzipped, above ${kilobytes(LIMIT)}: make it smaller, or raise LIMIT in scripts/build.mjs with a reason`);
  }
  say(`${MARKS.passed} module ${figures}`);
}

function kilobytes(bytes) {
  return `${Math.round(bytes / 1000)} kB`;
}

function hash(parts) {
  const sum = crypto.createHash("sha256");
  for (const part of parts) sum.update(part);
  return sum.digest("hex");
}

const PROGRESS = /^\s+(Blocking|Compiling|Downloaded|Downloading|Finished|Locking|Updating)\b/;

const HELP = `npm run build [-- CRATE] [--dev]

  Builds the Worker into worker/build/, or the crate in another folder into that folder's build/.

  --dev   quick to compile, slow to run, with debug information`;

main(import.meta.url, async () => {
  const { values, positionals } = parse(HELP, { dev: { type: "boolean" } }, true);
  const [crate = "worker"] = positionals;
  if (!fs.existsSync(path.join(ROOT, crate, "Cargo.toml"))) throw new Failure(`${crate} is not the folder of a crate here`);
  await ensureAll();
  const built = await build({ crate, dev: values.dev });
  // What is deployed is held to the limit, and only as it is deployed.
  if (crate === "worker" && !values.dev) checkSize(built);
});
