// The messages about missing requirements.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT } from "./command.mjs";

describe("setting up", () => {
  let folder;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-setup-"))));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  /**
   * Builds with only these programs on PATH, each a line of shell. Returns the lines on standard
   * error.
   */
  const build = (programs) => {
    const bin = fs.mkdtempSync(path.join(folder, "bin-"));
    for (const [name, line] of Object.entries(programs))
      fs.writeFileSync(path.join(bin, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
    const env = { HOME: folder, PATH: bin, npm_lifecycle_event: "build" };
    const { status, stderr } = spawnSync(process.execPath, ["scripts/build.mjs"], { cwd: ROOT, env, encoding: "utf8" });
    assert.equal(status, 1);
    return stderr.trimEnd().split("\n");
  };

  it("names rustup if it is missing", () => {
    assert.deepEqual(build({}), [
      "✗ rustup is missing: install it from https://rustup.rs, then run npm run build again",
    ]);
  });

  it("names the linker that Rust programs need", () => {
    const [line] = build({ rustup: "exit 1" });
    assert.match(
      line,
      /^✗ Rust needs a C linker \(cc\).*: install with .*build-essential.*, then run npm run build again$/,
    );
  });

  it("tells an unreachable server, a full disk and other failures apart, after the tool's output", () => {
    const rustup = (said) => build({ cc: "", rustup: `test "$1" = toolchain && echo "${said}" >&2; exit 1` });
    const said = {
      "error: could not download file: dns error":
        "✗ Rust's server could not be reached: check the network and the proxy settings (https_proxy), then run npm run build again",
      "error: No space left on device (os error 28)": "✗ the disk is full: make room, then run npm run build again",
      "error: out of luck": "✗ rustup failed: its last lines are above; fix the cause, then run npm run build again",
    };
    for (const [output, line] of Object.entries(said)) assert.deepEqual(rustup(output), ["", output, "", line]);
  });

  it("names a program that tests need if no package can be unpacked for it", () => {
    const script =
      'import { ensureUnpacked } from "./scripts/setup.mjs"; await ensureUnpacked({ "odd-program": "odd" }).catch((error) => error.print());';
    const env = { HOME: folder, PATH: folder, npm_lifecycle_event: "test" };
    const { stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      cwd: ROOT,
      env,
      encoding: "utf8",
    });
    assert.equal(
      stderr,
      "✗ odd-program missing: install with your system's packages (Debian calls it odd), then run npm test again\n",
    );
  });
});
