// Builds the reader of layers: as a module, like the Worker, and as a native program.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { compile, OPTIMIZE } from "../../scripts/module.mjs";
import { ROOT, run } from "../../scripts/command.mjs";
import { ensureAll, TOOLS } from "../../scripts/setup.mjs";
import { Failure, tail, task } from "../../scripts/terminal.mjs";

const folder = join(ROOT, "benches/layers");

/** Builds both. Resolves with the paths of the script for Node and of the program. */
export async function build() {
  await ensureAll();
  return task("building benches/layers", async (detail) => {
    const out = join(folder, "build");
    const artefact = await compile(folder, false, detail);
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
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
    // Node reads a .cjs file as CommonJS in any package.
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

/** Loads the module in a new instance, whose memory has not grown yet. */
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
