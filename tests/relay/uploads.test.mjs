// The journal of the relay.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs, { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Journal } from "../../relay/relay.mjs";

const RELAY = fileURLToPath(new URL("../../relay/relay.mjs", import.meta.url));

describe("the journal of the relay", { timeout: 30_000 }, () => {
  const about = { registry: "r", repository: "a", identity: "user ann" };
  const entry = (id, more) => JSON.stringify({ id, ...about, time: Date.now(), chunks: [[5, "sum"]], ...more });
  let folder;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"))));
  afterEach(() => {
    mock.restoreAll();
    rmSync(folder, { recursive: true });
  });
  const candidates = () => new Journal(folder).candidates(about).map(({ id }) => id);

  test("frees entries of a process whose pid is in use again", () => {
    // A relay in a container often has the pid of the one before. Pid 1 always runs.
    const locks = { same: `${process.pid} 5`, other: "1 5", old: String(process.pid), cut: "" };
    for (const [id, lock] of Object.entries(locks)) {
      writeFileSync(join(folder, `${id}.json`), entry(id));
      writeFileSync(join(folder, `${id}.lock`), lock);
    }
    writeFileSync(join(folder, `same.json.${process.pid}`), "{");
    assert.deepEqual(candidates().sort(), Object.keys(locks).sort());
    assert.equal(readdirSync(folder).length, 4);
  });

  test("keeps the entries of a process that runs", async () => {
    const code = `
      const { Journal } = await import(${JSON.stringify(RELAY)});
      new Journal(${JSON.stringify(folder)}).write(${entry("one", { time: undefined })});
      console.log("written");
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(child.stdout, "data");
      assert.deepEqual(candidates(), []);
    } finally {
      child.kill("SIGKILL");
    }
    await once(child, "close");
    assert.deepEqual(candidates(), ["one"]);
  });

  test("does not give an entry to an upload that read it before another one wrote it", () => {
    const [first, second] = [new Journal(folder), new Journal(folder)];
    writeFileSync(join(folder, "one.json"), entry("one", { time: Date.now() - 1000 }));
    const [[stale], [found]] = [first.candidates(about), second.candidates(about)];
    assert.ok(second.claim(found));
    second.write(found);
    second.release(found);
    assert.ok(!first.claim(stale));
    first.remove(stale);
    assert.deepEqual(candidates(), ["one"]);
    second.remove(found);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("skips folders, drops damaged entries, and leaves no part of a write", () => {
    for (const name of ["a.json", "b.lock", `c.json.${process.pid}`]) mkdirSync(join(folder, name));
    for (const [id, more] of Object.entries({
      none: { chunks: undefined },
      null: { chunks: [null] },
      zero: { chunks: [[0, "sum"]] },
      elsewhere: { id: "../evil" },
    }))
      writeFileSync(join(folder, `${id}.json`), entry(id, more));
    assert.deepEqual(candidates(), []);
    assert.equal(readdirSync(folder).length, 3);
    const journal = new Journal(folder);
    mock.method(fs, "renameSync", () => {
      throw Object.assign(new Error(), { code: "ENOSPC" });
    });
    assert.throws(() => journal.write({ id: "one", ...about, chunks: [] }), /cannot write .*: ENOSPC/);
    assert.deepEqual(readdirSync(folder).sort(), ["a.json", "b.lock", `c.json.${process.pid}`, "one.lock"]);
  });
});
