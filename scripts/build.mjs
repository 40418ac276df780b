// The Worker, from Rust to the module that is deployed: cargo, wasm-bindgen, wasm-opt, and esbuild, which puts
// our shim in front.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT } from "./command.mjs";
import { bin, carryOut, checkSize as check, compile, hash, OPTIMIZE, replaceAll, sizes } from "./module.mjs";
import { buildPage, checkPage } from "./page.mjs";
import { ensureAll, TOOLS } from "./setup.mjs";
import { Failure, main, parse, task } from "./terminal.mjs";

/**
 * Bytes of the wasm and its script, gzipped. Ours to raise with a reason. The platform's own limits are 3 MB on the free plan, and
 * one second for the start: 1,042 kB took 85 ms to compile and 7 ms to instantiate where 996 kB took 81 and 5 ms. The `worker` crate
 * brought these 46 kB, and the registry grows; the limit is far below both.
 */
const LIMIT = 1_400_000;

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
    // All that makes a module of the artefact: these files with their options, our JavaScript, and the tools.
    const makers = [
      fileURLToPath(import.meta.url),
      path.join(ROOT, "scripts/module.mjs"),
      ...SHIM,
      path.join(TOOLS, ".crates.toml"),
      path.join(ROOT, "package-lock.json"),
    ];
    const fingerprint = hash([
      dev ? "dev" : "release",
      ...makers.map((file) => fs.readFileSync(file)),
      fs.readFileSync(artefact),
    ]);
    await replaceAll(
      out,
      ["index_bg.wasm", "index.js"],
      (beside) => assemble(artefact, beside, dev, detail),
      fingerprint,
    );
  });
  const files = [fs.readFileSync(module), fs.readFileSync(script)];
  return {
    folder: out,
    script,
    module,
    ...sizes(files),
    fingerprint: hash(files),
  };
}

/** Makes index.js and index_bg.wasm in a folder, of what cargo compiled and of our shim. */
async function assemble(artefact, folder, dev, detail) {
  const step = (program, args) => carryOut(program, args, folder, detail);

  const bindgen = [
    "--target",
    "module",
    "--no-typescript",
    "--experimental-reset-state-function",
    "--out-name",
    "index",
    "--out-dir",
    folder,
  ];
  await step(
    path.join(TOOLS, "bin/wasm-bindgen"),
    dev ? [...bindgen, "--debug", "--keep-debug", artefact] : [...bindgen, artefact],
  );

  let glue = fs.readFileSync(path.join(folder, "index.js"), "utf8");
  // The platform instantiates nothing by itself, and knows no `import source`: what it imports is the module.
  glue = replace(glue, "import source wasmModule from", "import wasmModule from", 1);
  // At the start, and again when an instance has ended.
  glue = replace(glue, "wasm = wasmInstance.exports;", "wasm = guard(wasmInstance.exports);", 2);
  fs.writeFileSync(path.join(folder, "glue.js"), `import { guard } from "./guard.js";\n${glue}`);
  for (const file of SHIM) fs.copyFileSync(file, path.join(folder, path.basename(file)));

  if (!dev) await step(bin("wasm-opt"), ["index_bg.wasm", "-o", "index_bg.wasm", ...OPTIMIZE]);
  const bundle = [
    "--bundle",
    "--format=esm",
    "--external:./index_bg.wasm",
    "--external:cloudflare:*",
    "--log-level=warning",
    "--outfile=index.js",
    "--allow-overwrite",
  ];
  await step(bin("esbuild"), dev ? ["shim.js", ...bundle] : ["shim.js", ...bundle, "--minify"]);
}

/** Adapts what a tool of a pinned version wrote; fails where that version writes something else. */
function replace(text, from, to, times) {
  const parts = text.split(from);
  if (parts.length !== times + 1)
    throw new Failure(
      `wasm-bindgen's glue has ${parts.length - 1} times "${from}" and not ${times}: adapt scripts/build.mjs to this version`,
    );
  return parts.join(to);
}

const SHIM = ["shim.js", "guard.js", "http.js"].map((name) => path.join(ROOT, "worker/src", name));

/** Says how large the Worker is, and fails above its limit. */
export function checkSize(built) {
  check(built, { name: "module", limit: LIMIT, script: "scripts/build.mjs" });
}

const HELP = `npm run build [-- CRATE] [--dev]

  Builds the Worker into worker/build/ and its page into www/dist/, or the crate in another folder into that folder's build/.

  --dev   quick to compile, slow to run, with debug information`;

main(import.meta.url, async () => {
  const { values, positionals } = parse(HELP, { dev: { type: "boolean" } }, true);
  const [crate = "worker"] = positionals;
  if (!fs.existsSync(path.join(ROOT, crate, "Cargo.toml")))
    throw new Failure(`${crate} is not the folder of a crate here`);
  await ensureAll();
  const built = await build({ crate, dev: values.dev });
  if (crate !== "worker") return;
  const page = await buildPage();
  // What is deployed is held to the limits, and only as it is deployed.
  if (values.dev) return;
  checkSize(built);
  checkPage(page);
});
