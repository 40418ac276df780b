// Uploads of the relay, their order, their journal and their temporary files, before a registry in
// memory that a test lets fail.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs, { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Journal } from "../../relay/relay.mjs";
import { digestOf } from "../edge/bytes.mjs";
import { send } from "../edge/http.mjs";

const RELAY = fileURLToPath(new URL("../../relay/relay.mjs", import.meta.url));

/**
 * Starts a registry in memory. Resolves with its `url`, `stop()`, and:
 *
 * - `uploads`, `blobs`: the bytes, by the path of an upload and by digest
 * - `requests`: method, range and time of each request about an upload, in order
 * - `answer(request, response, path)`: answers instead, if it returns true
 */
async function startRegistry() {
  const registry = { uploads: new Map(), blobs: new Map(), requests: [], answer: () => false };
  const { uploads, blobs } = registry;
  const server = http.createServer(async (request, response) => {
    const { method, headers } = request;
    const { pathname: path, searchParams } = new URL(request.url, "http://registry");
    registry.requests.push({ method, range: headers["content-range"], at: performance.now() });
    if (registry.answer(request, response, path)) return request.resume();
    const end = (status, more) => {
      const size = uploads.get(path)?.length ?? 0;
      response.writeHead(status, { location: path, range: `0-${Math.max(0, size - 1)}`, ...more }).end();
    };
    if (method === "POST") {
      const location = `${path}${uploads.size + blobs.size + 1}-${registry.requests.length}`;
      uploads.set(location, Buffer.alloc(0));
      return end(202, { location, range: "0-0" });
    }
    if (!uploads.has(path)) return request.resume() && end(404);
    if (method === "GET") return end(204);
    if (method === "DELETE") return uploads.delete(path) && end(204);
    const [, from] = /^(\d+)-/.exec(headers["content-range"]) ?? [];
    if (from !== undefined && Number(from) !== uploads.get(path).length) return request.resume() && end(416);
    try {
      for await (const part of request) uploads.set(path, Buffer.concat([uploads.get(path), part]));
    } catch {
      return;
    }
    if (method === "PATCH") return end(202);
    const content = uploads.get(path);
    if (digestOf(content) !== searchParams.get("digest")) return end(400);
    uploads.delete(path);
    blobs.set(digestOf(content), content);
    end(201);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(registry, {
    url: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  });
}

/** Resolves once a condition holds. */
async function until(isDone) {
  while (!(await isDone())) await sleep(10);
}

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

describe("a relay that is interrupted", { timeout: 30_000 }, () => {
  test("leaves no temporary file, even at the moment when it makes one", async () => {
    const registry = await startRegistry();
    const folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"));
    const [temporary, state] = ["temporary", "state"].map((name) => join(folder, name));
    mkdirSync(temporary);
    // The moment between making the file and taking its name away does not end.
    const slow = 'import fs from "node:fs"; fs.promises.unlink = () => new Promise(() => {});';
    const options = [`--import=data:text/javascript,${encodeURIComponent(slow)}`, RELAY, "--state", state];
    registry.answer = ({ method }, response) => method === "GET" && response.end("{}");
    try {
      const env = { PATH: process.env.PATH, HOME: folder, TMPDIR: temporary };
      const child = spawn(process.execPath, [...options, "--to", registry.url, "--port", "0"], { env });
      const [text] = await once(child.stdout, "data");
      const [, port] = /on localhost:(\d+)/.exec(text);
      const url = new URL(`http://127.0.0.1:${port}/v2/a/blobs/uploads/`);
      const { headers } = await send(url, { method: "POST" });
      send(new URL(headers.location, url), { method: "PATCH", body: "x" }).catch(() => {});
      await until(() => readdirSync(temporary).length > 0);
      child.kill("SIGINT");
      assert.deepEqual(await once(child, "close"), [0, null]);
      assert.deepEqual(readdirSync(temporary), []);
    } finally {
      registry.stop();
      rmSync(folder, { recursive: true });
    }
  });
});
