// The harness itself, on a small Worker whose every call is known.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { Worker } from "node:worker_threads";
import { buffer } from "./bytes.mjs";
import { start } from "./harness.mjs";

const PART = 5 << 20;

// The module of one page of memory: (module (memory (export "memory") 1))
const wasm = Buffer.from("0061736d010000000503010001070a01066d656d6f72790200", "hex");

const script = `
import module from "./index_bg.wasm";
const { exports } = new WebAssembly.Instance(module);

export default {
  async fetch(request, { BUCKET, WARM, STRATA_ANONYMOUS_PULL }) {
    const key = new URL(request.url).pathname.slice(1);
    try {
      switch (request.method) {
        case "PUT": return Response.json(await BUCKET.put(key, request.body, { onlyIf: { etagDoesNotMatch: "*" } }));
        case "GET": return new Response((await BUCKET.get(key)).body, { headers: { "content-type": "text/plain" } });
        case "DELETE": return Response.json(await BUCKET.delete([key, "other"]) ?? null);
        case "POST": {
          const upload = await BUCKET.createMultipartUpload(key);
          const part = await BUCKET.resumeMultipartUpload(key, upload.uploadId).uploadPart(1, new Uint8Array(${PART}));
          return Response.json((await upload.complete([part])).size);
        }
        case "PATCH":
          await WARM.put(key, "four");
          exports.memory.grow(1);
          return Response.json([await WARM.get(key), STRATA_ANONYMOUS_PULL]);
      }
    } catch (error) {
      return new Response(error.message, { status: 500 });
    }
  }
}`;

const modules = { "index.js": script, "index_bg.wasm": wasm };

let strata;

before(async () => {
  strata = await start({ modules });
});
after(() => strata.stop());
beforeEach(() => strata.reset());

test("a put of a stream counts the bytes of the object, and a refused one counts none", async () => {
  const content = buffer(300_000);
  assert.equal((await strata.send("PUT", "/once", { body: content })).status, 200);
  assert.equal((await strata.send("PUT", "/once", { body: content })).body.toString(), "null");
  assert.deepEqual(await strata.counts(), { "r2.put": { calls: 2, bytes: 300_000 } });
  assert.deepEqual(
    (await strata.calls()).map(({ idle }) => idle),
    [false, true],
  );

  await strata.reset();
  const { body } = await strata.send("GET", "/once");
  assert.ok(body.equals(content));
  assert.deepEqual(await strata.counts(), { "r2.get": { calls: 1, bytes: 300_000 } });
});

test("parts are counted by their bytes, each step of a multipart upload by itself", async () => {
  assert.equal((await strata.send("POST", "/parts")).json(), PART);
  const calls = (await strata.calls()).map(({ call, key, bytes }) => [call, key, bytes]);
  assert.deepEqual(calls, [
    ["r2.createMultipartUpload", "parts", 0],
    ["r2.uploadPart", "parts", PART],
    ["r2.complete", "parts", 0],
  ]);
});

test("KV is counted, variables are given, and wasm memory is measured", async () => {
  const before = await strata.wasm();
  assert.deepEqual((await strata.send("PATCH", "/value")).json(), ["four", "false"]);
  const { "kv.put": put, "kv.get": get } = await strata.counts();
  assert.deepEqual([put.calls, put.bytes, get.calls], [1, 4, 1]);
  assert.equal((await strata.wasm()) - before, 65536);
});

test("the nth call on a key fails, before or after it takes effect", async () => {
  await strata.fail({ call: "r2.put", key: "faulty/", nth: 2 });
  assert.equal((await strata.send("PUT", "/other", { body: "x" })).status, 200);
  assert.equal((await strata.send("PUT", "/faulty/1", { body: "x" })).status, 200);
  assert.equal((await strata.send("PUT", "/faulty/2", { body: "x" })).status, 500);
  assert.equal((await strata.send("PUT", "/faulty/3", { body: "x" })).status, 200);
  assert.deepEqual(await strata.objects("faulty/"), [
    { key: "faulty/1", size: 1 },
    { key: "faulty/3", size: 1 },
  ]);
  assert.equal(await strata.pendingFaults(), 0);

  await strata.fail({ call: "r2.put", key: "kept", kept: true });
  assert.equal((await strata.send("PUT", "/kept", { body: "x" })).status, 500);
  assert.deepEqual(await strata.objects("kept"), [{ key: "kept", size: 1 }]);
});

test("faults reach deletes of several keys and steps of a multipart upload", async () => {
  await strata.fail({ call: "r2.delete" });
  assert.equal((await strata.send("DELETE", "/any")).status, 500);
  await strata.fail({ call: "r2.uploadPart", key: "parts" });
  assert.equal((await strata.send("POST", "/parts")).status, 500);
});

test("a synchronous call sleeps until its answer is there, whoever wakes it before", async () => {
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const waker = new Worker(
    `const { workerData: shared } = require("node:worker_threads");
     const pause = new Int32Array(new SharedArrayBuffer(4));
     const sleeping = () => Atomics.notify(shared, 0) > 0;
     while (!sleeping()) Atomics.wait(pause, 0, 0, 1);
     while (!sleeping()) Atomics.wait(pause, 0, 0, 1);
     Atomics.store(shared, 0, 1);
     Atomics.notify(shared, 0);`,
    { eval: true, workerData: shared },
  );
  assert.equal(Atomics.wait(shared, 0, 0), "ok");
  assert.equal(shared[0], 1);
  await waker.terminate();
});

test("the runtime's memory is that of our own child, which is gone after a stop", {
  skip: process.platform !== "linux",
}, async () => {
  const other = await start({ https: true, probe: false, modules });
  try {
    assert.notEqual(other.pid, strata.pid);
    assert.equal((await other.send("PUT", "/tls", { body: "x" })).status, 200);
    const { resident, peak } = other.memory();
    assert.ok(resident > 10 << 20 && peak >= resident, `${resident} resident, ${peak} at most`);
  } finally {
    await other.stop();
  }
  assert.ok(!existsSync(`/proc/${other.pid}`));
});

test("objects in a folder survive a restart, and others do not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "strata-harness-"));
  try {
    for (const [kept, found] of [
      [folder, []],
      [folder, ["kept"]],
      [undefined, []],
    ]) {
      const other = await start({ folder: kept, modules });
      try {
        assert.deepEqual(
          (await other.objects()).map(({ key }) => key),
          found,
        );
        await other.send("PUT", "/kept", { body: "x" });
      } finally {
        await other.stop();
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
