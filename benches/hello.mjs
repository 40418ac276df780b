// Builds benches/hello, a Rust Worker without Strata's code, with worker-build, the usual tool for
// such Workers.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ROOT, run } from "../scripts/command.mjs";
import { ensureBuildTools, ensureRust, TOOLS } from "../scripts/setup.mjs";
import { Failure, tail, task } from "../scripts/terminal.mjs";
import { modulesOf } from "../tests/edge/harness.mjs";

const WORKER_BUILD = "0.8.7";
// Separate from the build tools of the project, which do not include worker-build.
const tools = join(TOOLS, "bench");
const folder = join(ROOT, "benches/hello");

/** Builds the Worker. Resolves with its modules, for `start`. */
export async function hello() {
  await ensureRust();
  await ensureBuildTools();
  await ensureWorkerBuild();
  await task("building benches/hello", (detail) =>
    must(join(tools, "bin/worker-build"), ["--release"], {
      cwd: folder,
      line: detail,
      env: {
        CARGO_TARGET_DIR: join(ROOT, "target/bench"),
        // Without these names worker-build would download its own tools.
        ESBUILD_BIN: join(ROOT, "node_modules/.bin/esbuild"),
        WASM_BINDGEN_BIN: join(TOOLS, "bin/wasm-bindgen"),
        WASM_OPT_BIN: join(ROOT, "node_modules/.bin/wasm-opt"),
      },
    }),
  );
  return modulesOf(join(folder, "build"));
}

async function ensureWorkerBuild() {
  const record = join(tools, ".crates.toml");
  if (existsSync(record) && readFileSync(record, "utf8").includes(`"worker-build ${WORKER_BUILD} (`)) return;
  const target = join(tools, "target");
  await task("worker-build (once, a few minutes)", (detail) =>
    must("cargo", ["install", "--locked", "--root", tools, `worker-build@${WORKER_BUILD}`], {
      line: detail,
      env: {
        // The tool compiles for minutes and runs for a second, so optimize for compile time.
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "16",
        CARGO_PROFILE_RELEASE_DEBUG: "false",
        CARGO_PROFILE_RELEASE_LTO: "off",
        CARGO_PROFILE_RELEASE_OPT_LEVEL: "0",
        CARGO_TARGET_DIR: target,
      },
    }),
  );
  rmSync(target, { recursive: true, force: true });
}

async function must(program, args, options) {
  const { code, output } = await run(program, args, options);
  if (code === 0) return;
  const hint = /openssl/i.test(output) ? ": it needs OpenSSL: install libssl-dev and pkg-config (Debian's names)" : "";
  throw new Failure(`${program} failed${hint}`, tail(output, 40));
}
