// Builds the Worker, from Rust to the deployed module: cargo, wasm-bindgen, wasm-opt, and esbuild,
// which puts the shim in front.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ROOT } from "./command.mjs";
import { bin, carryOut, checkSize as check, compile, hash, OPTIMIZE, replaceAll, sizes } from "./module.mjs";
import { buildPage, checkPage } from "./page.mjs";
import { ensureAll, TOOLS } from "./setup.mjs";
import { Failure, main, parse, task } from "./terminal.mjs";

/**
 * The size limit of the wasm and its script in bytes, gzipped. Raise it with a reason. It is far
 * below the platform's own limits: 3 MB on the free plan, and one second for the start. 996 kB took
 * 81 ms to compile and 5 ms to instantiate. The `worker` crate added 46 kB: 1,042 kB took 85 and 7
 * ms.
 */
const LIMIT = 1_400_000;

/**
 * Builds the crate in a folder of the workspace into that folder's build/, after `ensureAll`. An
 * artefact that cargo left unchanged is not processed again. `fingerprint` changes when the module
 * does.
 */
export async function build({ crate = "worker", dev = false } = {}) {
  const folder = path.join(ROOT, crate);
  const out = path.join(folder, "build");
  const script = path.join(out, "index.js");
  const module = path.join(out, "index_bg.wasm");
  await task(`building ${crate}`, async (detail) => {
    const artefact = await compile(folder, dev, detail);
    // Everything that turns the artefact into a module: the scripts with their options, the shim,
    // and the versions of the tools.
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
  return {
    folder: out,
    script,
    module,
    ...sizes([fs.readFileSync(module), fs.readFileSync(script)]),
    fingerprint: fingerprintOfWorker(out),
  };
}

/** Returns a hash of the built Worker in a folder. */
export function fingerprintOfWorker(folder) {
  return hash(["index_bg.wasm", "index.js"].map((name) => fs.readFileSync(path.join(folder, name))));
}

/** Makes index.js and index_bg.wasm in a folder, from the artefact of cargo and the shim. */
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
  // The platform does not know `import source`: a plain import gives the module, not an instance.
  glue = replace(glue, "import source wasmModule from", "import wasmModule from", 1);
  // Twice: at the start, and after an instance has ended.
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

/**
 * Replaces text that wasm-bindgen wrote. Fails unless it occurs `times` times, as in the pinned
 * version.
 */
function replace(text, from, to, times) {
  const parts = text.split(from);
  if (parts.length !== times + 1)
    throw new Failure(
      `wasm-bindgen's glue has "${from}" ${parts.length - 1} times, expected ${times}: adapt scripts/build.mjs to this version`,
    );
  return parts.join(to);
}

const SHIM = ["shim.js", "guard.js", "http.js"].map((name) => path.join(ROOT, "worker/src", name));

/** Prints the size of the Worker. Fails above the limit. */
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
    throw new Failure(`${crate} has no Cargo.toml: name the folder of a crate`);
  await ensureAll();
  const built = await build({ crate, dev: values.dev });
  if (crate !== "worker") return;
  const page = await buildPage();
  // The limits are for release builds: only they are deployed.
  if (values.dev) return;
  checkSize(built);
  checkPage(page);
});
