// Builds the inspector's module, from Rust to the files that the page loads: cargo, wasm-bindgen
// and wasm-opt.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { bin, carryOut, checkSize, compile, hash, OPTIMIZE, replaceAll, sizes } from "./module.mjs";
import { ROOT } from "./command.mjs";
import { ensureAll, TOOLS } from "./setup.mjs";
import { main, task } from "./terminal.mjs";

/**
 * The size limit of the wasm and its script in bytes, gzipped. It leaves 105 of 300 kB to the rest
 * of the page. The module also has the code that counts the cost of lookups and passes.
 */
const LIMIT = 195_000;

const FOLDER = path.join(ROOT, "www");
const NAMES = ["inspect.js", "inspect.d.ts", "inspect_bg.wasm"];

/** Options for a small module: users wait for its download, and do not need names of functions. */
const SMALL = [...OPTIMIZE.filter((option) => !["-O1", "--debuginfo"].includes(option)), "-Os", "--strip-debug"];

/**
 * Builds the crate in www/ into www/build/, after `ensureAll`, and prints its size. Fails above the
 * limit.
 */
export async function buildInspector() {
  const out = path.join(FOLDER, "build");
  await task("building www", async (detail) => {
    const artefact = await compile(FOLDER, false, detail);
    const makers = [
      fileURLToPath(import.meta.url),
      path.join(TOOLS, ".crates.toml"),
      path.join(ROOT, "package-lock.json"),
      artefact,
    ];
    const fingerprint = hash([...makers.map((file) => fs.readFileSync(file))]);
    const make = async (beside) => {
      await carryOut(
        path.join(TOOLS, "bin/wasm-bindgen"),
        ["--target", "web", "--out-name", "inspect", "--out-dir", beside, artefact],
        beside,
        detail,
      );
      await carryOut(bin("wasm-opt"), ["inspect_bg.wasm", "-o", "inspect_bg.wasm", ...SMALL], beside, detail);
    };
    await replaceAll(out, NAMES, make, fingerprint);
  });
  const [script, types, module] = NAMES.map((name) => path.join(out, name));
  const built = { folder: out, script, types, module, ...sizes([script, module].map((file) => fs.readFileSync(file))) };
  checkSize(built, { name: "inspector's module", limit: LIMIT, script: "scripts/inspector.mjs" });
  return built;
}

main(import.meta.url, async () => {
  await ensureAll();
  await buildInspector();
});
