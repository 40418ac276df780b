// Builds the code that reads layers as the worker is built, and as a program.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { compile, OPTIMIZE } from "../../scripts/module.mjs";
import { ROOT, run } from "../../scripts/command.mjs";
import { ensureAll, TOOLS } from "../../scripts/setup.mjs";
import { Failure, tail, task } from "../../scripts/terminal.mjs";

const folder = join(ROOT, "benches/layers");

/** The path of a script for Node, and the path of a program. */
export async function build() {
  await ensureAll();
  return task("building benches/layers", async (detail) => {
    const out = join(folder, "build");
    const artefact = await compile(folder, false, detail);
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
    // Node takes CommonJS by this name whatever package it is in.
    await must(join(TOOLS, "bin/wasm-bindgen"), [
      "--target",
      "nodejs",
      "--no-typescript",
      "--out-name",
      "layers",
      "--out-dir",
      out,
      artefact,
    ]);
    copyFileSync(join(out, "layers.js"), join(out, "layers.cjs"));
    const wasm = join(out, "layers_bg.wasm");
    await must(join(ROOT, "node_modules/.bin/wasm-opt"), [wasm, "-o", wasm, ...OPTIMIZE]);
    const { stdout } = await must(
      "cargo",
      ["build", "--locked", "--release", "--bin", "strata-layers", "--message-format=json-render-diagnostics"],
      { cwd: folder, line: detail },
    );
    const messages = stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    return { script: join(out, "layers.cjs"), program: messages.findLast(({ executable }) => executable).executable };
  });
}

/** The module, in an instance of its own: its memory has grown by nothing yet. */
export function instance(script) {
  const require = createRequire(import.meta.url);
  delete require.cache[require.resolve(script)];
  return require(script);
}

async function must(program, args, options) {
  const ended = await run(program, args, options);
  if (ended.code !== 0) throw new Failure(`${program} failed`, tail(ended.output, 40));
  return ended;
}
