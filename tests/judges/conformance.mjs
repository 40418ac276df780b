// The conformance suite of the distribution specification, against the built Worker and against
// examples/serve.rs.
//
//   node tests/judges/conformance.mjs            the suite, cloned and built
//   node tests/judges/conformance.mjs FOLDER     a checkout of distribution-spec at the same commit
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { find, ROOT, run } from "../../scripts/command.mjs";
import { password, start, user } from "../edge/harness.mjs";

const REPOSITORY = "https://github.com/opencontainers/distribution-spec";
const COMMIT = "967efdc079b91785ad18c77cc4f8991a47feefbf";
const VERSIONS = ["1.1", "dev"];

async function ok(program, args, options) {
  const { code, output } = await run(program, args, options);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${output}`);
  return output;
}

/** Builds the suite, from a clone if no folder is given. Resolves with the path of its program. */
async function built(folder) {
  assert.ok(find("go"), "building the suite needs Go 1.24 or later: install golang");
  if (folder === undefined) {
    folder = join(ROOT, "target/judges/distribution-spec");
    if (!existsSync(folder)) {
      await mkdir(folder, { recursive: true });
      await ok("git", ["init", "--quiet"], { cwd: folder });
      await ok("git", ["fetch", "--quiet", "--depth=1", REPOSITORY, COMMIT], { cwd: folder });
      await ok("git", ["checkout", "--quiet", "FETCH_HEAD"], { cwd: folder });
    }
  }
  const program = join(ROOT, "target/judges/conformance");
  await ok("go", ["build", "-o", program, "."], { cwd: join(folder, "conformance") });
  return program;
}

/**
 * Runs the suite against a registry, and resolves with its counts. The suite exits with 0 even if
 * its setup fails, so the number of tests is checked too.
 */
async function judge(program, { host, credentials }, version) {
  const results = await mkdtemp(join(tmpdir(), "strata-conformance-"));
  const env = {
    ...credentials,
    OCI_REGISTRY: host,
    OCI_TLS: "disabled",
    OCI_VERSION: version,
    OCI_REPO1: `conformance/${version}-1`,
    OCI_REPO2: `conformance/${version}-2`,
    OCI_RESULTS_DIR: results,
  };
  try {
    const output = await ok(program, [], { cwd: results, env });
    const [, tests] = /<testsuites [^>]*tests="(\d+)"/.exec(readFileSync(join(results, "junit.xml"), "utf8")) ?? [];
    const [, counts] = /<testsuite ([^>]*)>/.exec(readFileSync(join(results, "junit.xml"), "utf8")) ?? [];
    const count = (name) => Number(new RegExp(`${name}="(\\d+)"`).exec(counts)?.[1] ?? 0);
    const [failed, skipped, disabled] = [count("failures") + count("errors"), count("skipped"), count("disabled")];
    assert.ok(Number(tests) > 800, `only ${tests} tests ran: ${output}`);
    assert.equal(failed, 0, output);
    return { passed: Number(tests) - failed - skipped - disabled, failed, skipped, disabled };
  } finally {
    await rm(results, { recursive: true });
  }
}

/** Starts the built Worker, with all permissions for users. */
async function worker() {
  const may = ["pull", "push", "overwrite", "delete", "administer", "metrics"];
  const rules = [{ repositories: ["**"], who: ["users"], may }];
  const strata = await start({ probe: false, vars: { STRATA_RULES: JSON.stringify(rules) } });
  const credentials = { OCI_USERNAME: user, OCI_PASSWORD: password };
  return { host: strata.host, credentials, stop: () => strata.stop() };
}

/** Starts examples/serve.rs, the registry without the Worker. It is open to everyone. */
async function serve() {
  await ok("cargo", ["build", "--locked", "--release", "--example", "serve"]);
  const program = join(ROOT, "target/release/examples/serve");
  const child = spawn(program, ["127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  const host = await new Promise((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text) => {
      printed += text;
      const [found] = /127\.0\.0\.1:\d+/.exec(printed) ?? [];
      if (found) resolve(found);
    });
    child.on("exit", (code) => reject(new Error(`serve ended with ${code}: ${printed}`)));
  });
  const stop = () => child.removeAllListeners("exit").kill();
  return { host, credentials: {}, stop };
}

const program = await built(process.argv[2]);
for (const [name, open] of Object.entries({ worker, serve })) {
  const registry = await open();
  try {
    for (const version of VERSIONS) {
      const { passed, failed, skipped, disabled } = await judge(program, registry, version);
      console.log(
        `✓ ${name}, ${version}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${disabled} disabled`,
      );
    }
  } finally {
    await registry.stop();
  }
}
