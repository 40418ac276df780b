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
import { gzipSync } from "node:zlib";
import { Journal, Registry, serve } from "../../relay/relay.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { send } from "../edge/http.mjs";
import { spools } from "./spools.mjs";

const MIB = 1 << 20;
const CHUNK = 2 * MIB;
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

describe("uploads of the relay", { timeout: 60_000 }, () => {
  let registry;
  let relay;
  let folder;
  beforeEach(async () => {
    registry = await startRegistry();
    folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"));
    relay = await begin();
  });
  afterEach(async () => {
    mock.restoreAll();
    await relay.stop();
    registry.stop();
    rmSync(folder, { recursive: true });
  });

  const begin = (options) =>
    serve({
      registry: new Registry(registry.url, {}),
      journal: new Journal(folder),
      chunk: CHUNK,
      blobs: 1,
      port: 0,
      say: () => {},
      ...options,
    });
  const ask = (method, path, options) => send(new URL(path, `http://127.0.0.1:${relay.port}`), { method, ...options });
  const post = async () => (await ask("POST", "/v2/a/blobs/uploads/")).headers.location;
  const patch = (location, body, headers) => ask("PATCH", location, { body, headers });
  const put = (location, content, body) => ask("PUT", `${location}?digest=${digestOf(content)}`, { body });
  const offset = async (location) => (await ask("GET", location)).headers.range;

  /** Sends the beginning of a body. Returns the request, and its response as a promise. */
  function partial(location, bytes) {
    const { port } = relay;
    const request = http.request({ host: "127.0.0.1", port, method: "PATCH", path: location, agent: false });
    request.write(bytes);
    const responded = once(request, "response").then(async ([response]) => {
      let body = "";
      for await (const part of response.setEncoding("utf8")) body += part;
      return { status: response.statusCode, body };
    });
    responded.catch(() => {});
    return { request, responded };
  }

  /** Takes the only slot. Resolves with a function that gives it back. */
  async function takeSlot() {
    const { request, responded } = partial(await post(), "x");
    await until(() => spools() > 0);
    return async () => {
      request.end();
      assert.equal((await responded).status, 202);
    };
  }

  /** Sends a part of a layer, and breaks off. Resolves with the location of the upload. */
  async function breakOff(content, length) {
    const location = await post();
    const { request } = partial(location, content.subarray(0, length));
    await until(async () => (await offset(location)) === `0-${length - 1}`);
    await until(() => readdirSync(folder).some((name) => name.endsWith(".json")));
    request.destroy();
    await until(() => readdirSync(folder).every((name) => !name.endsWith(".lock")));
    return location;
  }

  const locks = () => readdirSync(folder).filter((name) => name.endsWith(".lock")).length;

  test("that wait for a slot are not idle", async () => {
    await relay.stop();
    relay = await begin({ idleTimeout: 300 });
    const content = buffer(1000, "queued");
    const [location, giveBack] = [await post(), await takeSlot()];
    const patched = patch(location, content);
    const forgotten = await post();
    await until(async () => (await ask("GET", forgotten)).status === 404);
    await giveBack();
    assert.equal((await patched).status, 202);
    assert.equal((await put(location, content)).status, 201);
  });

  test("take one body at a time while they wait, and leave with their client", async () => {
    const content = buffer(1000, "one at a time");
    const [location, giveBack] = [await post(), await takeSlot()];
    // Without a digest, a PUT is refused in another way if the upload is not busy.
    const isBusy = async () => (await ask("PUT", location)).status === 416;
    const { request } = partial(location, content);
    request.end();
    await until(isBusy);
    assert.equal((await patch(location, content, { "content-range": "0-999" })).status, 416);
    request.destroy();
    await until(async () => !(await isBusy()));
    const again = patch(location, content, { "content-range": "0-999" });
    await until(isBusy);
    await giveBack();
    assert.equal((await again).status, 202);
    assert.equal((await put(location, content)).status, 201);
  });

  test("that are cancelled answer 404 to their bodies, and leave no file open", async () => {
    const before = spools();
    const [location, giveBack] = [await post(), await takeSlot()];
    const waiting = patch(location, buffer(1000, "cancelled"));
    await until(async () => (await ask("PUT", location)).status === 416);
    assert.equal((await ask("DELETE", location)).status, 204);
    await giveBack();
    const answered = await waiting;
    assert.deepEqual([answered.status, answered.json().errors[0].code], [404, "BLOB_UPLOAD_UNKNOWN"]);

    const running = await post();
    const { request, responded } = partial(running, buffer(CHUNK + 1000, "cancelled"));
    await until(async () => (await offset(running)) === `0-${CHUNK + 999}`);
    assert.equal((await ask("DELETE", running)).status, 204);
    request.end("x");
    const { status, body } = await responded;
    assert.deepEqual([status, JSON.parse(body).errors[0].code], [404, "BLOB_UPLOAD_UNKNOWN"]);
    // The upload that took the slot has its file.
    await until(() => spools() === before + 1);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("leave no file open if the registry can't cancel them", async () => {
    const before = spools();
    registry.answer = ({ method, socket }) => method === "DELETE" && socket.destroy();
    const location = await post();
    await patch(location, "x");
    assert.equal(spools(), before + 1);
    assert.equal((await ask("DELETE", location)).status, 502);
    assert.equal(spools(), before);
  });

  test("of which the registry stores nothing are given up", async () => {
    // Pauses are as short as the registry allows.
    mock.method(Math, "random", () => -0.5);
    let patches = 0;
    registry.answer = ({ method }, response, path) => {
      if (method !== "PATCH") return false;
      patches += 1;
      // A relay that does not count these would go on for ever.
      response.writeHead(patches > 20 ? 403 : 202, { location: path, range: "0-0" }).end();
      return true;
    };
    const refused = await patch(await post(), buffer(CHUNK, "nothing"));
    assert.equal(refused.status, 500);
    assert.match(refused.body.toString(), /did not take a chunk in 8 attempts/);
  });

  test("do not read an odd range as the beginning", async () => {
    const content = buffer(2 * CHUNK, "odd range");
    registry.answer = ({ method }, response, path) => {
      const { writeHead } = response;
      if (method === "PATCH")
        response.writeHead = (status) => writeHead.call(response, status, { location: path, range: "bytes 5-2" });
      return false;
    };
    const location = await post();
    assert.equal((await patch(location, content)).status, 202);
    assert.equal((await put(location, content)).status, 201);
    assert.deepEqual(
      registry.requests.map(({ method }) => method),
      ["POST", "PATCH", "PATCH", "PUT"],
    );
  });

  test("end if the registry loses bytes that it had", async () => {
    let patches = 0;
    registry.answer = ({ method }, response, path) => {
      if (method !== "PATCH") return false;
      patches += 1;
      if (patches < 2) return false;
      response.writeHead(202, { location: path, range: `0-${CHUNK - 2}` }).end();
      return true;
    };
    const refused = await patch(await post(), buffer(2 * CHUNK, "lost"));
    assert.equal(refused.status, 500);
    assert.match(refused.body.toString(), new RegExp(`has ${CHUNK - 1} bytes of the upload, the relay is at ${CHUNK}`));
    assert.deepEqual(readdirSync(folder), []);
  });

  test("wait as long as the registry asks, in chunks that are sent while they come, too", async () => {
    registry.answer = ({ method }, response) => {
      if (method !== "PATCH") return false;
      registry.answer = () => false;
      response.writeHead(429, { "retry-after": "1" }).end();
      return true;
    };
    assert.equal((await patch(await post(), buffer(CHUNK, "retry-after"))).status, 202);
    const [first, second] = registry.requests.filter(({ method }) => method === "PATCH");
    assert.ok(second.at - first.at > 990, `${second.at - first.at} ms`);
  });

  test("do not count a refusal that makes chunks smaller as a failure", async () => {
    mock.method(Math, "random", () => -0.5);
    const statuses = [503, 503, 503, 503, 503, 503, 503, 503, 413];
    registry.answer = ({ method }, response) => {
      if (method !== "PATCH" || statuses.length === 0) return false;
      response.writeHead(statuses.shift()).end();
      return true;
    };
    const content = buffer(CHUNK, "smaller");
    const location = await post();
    const patched = await patch(location, content);
    assert.equal(patched.status, 202, patched.body.toString());
    assert.equal((await put(location, content)).status, 201);
  });

  test("pass on a refusal that can be read, whatever the client accepts", async () => {
    const text = JSON.stringify({ errors: [{ code: "DENIED", message: "no" }] });
    registry.answer = ({ headers }, response) => {
      const isZipped = headers["accept-encoding"]?.includes("gzip");
      response.writeHead(403, isZipped ? { "content-encoding": "gzip" } : {}).end(isZipped ? gzipSync(text) : text);
      return true;
    };
    const headers = { "accept-encoding": "gzip" };
    const { status, body } = await ask("POST", "/v2/a/blobs/uploads/", { headers });
    assert.deepEqual([status, body.toString()], [403, text]);
  });

  test("that another one has resumed are over, and leave it alone", async () => {
    await relay.stop();
    relay = await begin({ blobs: 4 });
    const content = buffer(4 * CHUNK, "resumed");
    const first = await breakOff(content, CHUNK + 1000);
    const other = await breakOff(content, CHUNK + 2000);
    const second = await post();
    const { request, responded } = partial(second, content.subarray(0, 2 * CHUNK));
    await until(() => locks() === 1);
    assert.equal((await ask("DELETE", first)).status, 404);
    const patched = await patch(other, content.subarray(CHUNK));
    assert.deepEqual([patched.status, patched.json().errors[0].code], [404, "BLOB_UPLOAD_UNKNOWN"]);
    assert.equal(locks(), 1);
    request.end(content.subarray(2 * CHUNK));
    assert.equal((await responded).status, 202);
    assert.equal((await put(second, content)).status, 201);
    assert.ok(registry.blobs.get(digestOf(content)).equals(content));
    assert.deepEqual(readdirSync(folder), []);
  });

  test("resume if the registry fails for a moment", async () => {
    const content = buffer(2 * CHUNK, "moment");
    await breakOff(content, CHUNK + 1000);
    const [interrupted] = registry.uploads.keys();
    const location = await post();
    let failures = 0;
    registry.answer = ({ method }, response) => {
      if (method !== "GET" || failures > 0) return false;
      failures += 1;
      response.writeHead(502).end();
      return true;
    };
    assert.equal((await patch(location, content)).status, 202);
    // The upload that the client began is deleted.
    await until(() => registry.uploads.size === 1);
    assert.deepEqual([failures, ...registry.uploads.keys()], [1, interrupted]);
    assert.equal((await put(location, content)).status, 201);
  });

  test("begin anew if the interrupted one is longer than the layer", async () => {
    const content = buffer(3 * CHUNK, "longer");
    const interrupted = await breakOff(content, 2 * CHUNK + 1000);
    const shorter = content.subarray(0, CHUNK + 1000);
    for (const status of [500, 201]) {
      const location = await post();
      assert.equal((await patch(location, shorter)).status, 202);
      const closed = await put(location, shorter);
      assert.equal(closed.status, status, closed.body.toString());
      if (status === 500) assert.match(closed.body.toString(), /differs from the interrupted one.*push it again/);
    }
    assert.equal((await ask("DELETE", interrupted)).status, 404);
  });
});

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
