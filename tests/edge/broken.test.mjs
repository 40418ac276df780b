// Uploads that break, because of the client or the store: nothing half-written is served, and a
// client that retries succeeds.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { open } from "./http.mjs";
import { begin, close, patch, pull, received, whole } from "./push.mjs";

const MIB = 1 << 20;

let strata;

before(async () => {
  strata = await start();
});
after(() => strata.stop());
beforeEach(() => strata.reset());

describe("a client that disconnects during an upload", () => {
  const content = buffer(20 * MIB, "cut");
  const digest = digestOf(content);
  const sent = 12 * MIB;

  for (const [index, length] of [undefined, content.length].entries()) {
    test(`leaves an upload that can be resumed, ${length ? "its length announced" : "of unknown length"}`, async () => {
      const name = `cut/patch${index}`;
      const location = await begin(strata, name);
      await cut("PATCH", location, content, length, () => stored("r2.uploadPart", "extents/"));
      assert.equal((await strata.send("HEAD", `/v2/${name}/blobs/${digest}`)).status, 404);

      const closed = await finish(location);
      assert.equal(closed.status, 201, closed.body.toString());
      assert.deepEqual(await pull(strata, name, digest), { status: 200, size: content.length, digest });
    });
  }

  test("leaves no blob behind, and the next push of it succeeds", async () => {
    const other = buffer(20 * MIB, "cut whole");
    const own = digestOf(other);
    const path = `/v2/cut/whole/blobs/uploads/?digest=${own}`;
    await cut("POST", path, other, other.length, () => stored("r2.put", "blobs/"));
    assert.equal((await strata.send("HEAD", `/v2/cut/whole/blobs/${own}`)).status, 404);
    const reply = await whole(strata, "cut/whole", own, other);
    assert.equal(reply.status, 201, reply.body.toString());
    assert.deepEqual(await pull(strata, "cut/whole", own), { status: 200, size: other.length, digest: own });
  });

  test("releases the memory that other uploads wait for", async () => {
    // More uploads than the isolate has part buffers for.
    for (let count = 0; count < 12; count += 1) {
      await strata.reset();
      await cut("PATCH", await begin(strata, "cut/many"), content, undefined, () =>
        stored("r2.uploadPart", "extents/"),
      );
    }
    const reply = await patch(strata, await begin(strata, "cut/after"), [content]);
    assert.equal(reply.status, 202, reply.body.toString());
  });

  /** Sends the first bytes, waits until the store got some of them, and breaks the connection. */
  async function cut(method, location, bytes, length, reached) {
    const abort = new AbortController();
    const body = (async function* () {
      yield bytes.subarray(0, sent);
      await new Promise((resolve) => abort.signal.addEventListener("abort", resolve, { once: true }));
    })();
    const headers = { authorization: basic(), "content-length": length };
    const answer = open(new URL(location, strata.url), { method, headers, body, signal: abort.signal });
    const broken = answer.then(
      (reply) => assert.fail(`answered ${reply.status} before its body was sent`),
      (error) => assert.equal(error.name, "AbortError"),
    );
    try {
      await Promise.race([broken, until(reached, abort.signal)]);
    } finally {
      abort.abort();
    }
    await broken;
  }

  const stored = async (call, key) =>
    (await strata.calls()).some((one) => one.call === call && one.key.startsWith(key));

  /** Resumes at the registry's offset until it has everything, and closes the upload. */
  async function finish(location) {
    let from = await received(strata, location);
    for (let attempt = 0; from < content.length; attempt += 1) {
      assert.ok(attempt < 3, "the upload does not move");
      const headers = { "content-range": `${from}-${content.length - 1}` };
      const reply = await patch(strata, location, content.subarray(from), headers);
      // The broken chunk may be added while this one is sent. This one is then refused, with the
      // offset.
      assert.ok([202, 416].includes(reply.status), reply.body.toString());
      location = reply.headers.location;
      from = await received(strata, location);
    }
    return close(strata, location, digest);
  }

  async function until(holds, signal) {
    while (!signal.aborted && !(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
  }
});

describe("a store that fails during a push", () => {
  // Three parts, the last one short.
  const content = buffer(11 * MIB, "faults");
  const faults = [
    { call: "r2.createMultipartUpload", key: "extents/" },
    { call: "r2.uploadPart", key: "extents/", nth: 1 },
    { call: "r2.uploadPart", key: "extents/", nth: 3 },
    { call: "r2.complete", key: "extents/" },
    { call: "r2.complete", key: "extents/", kept: true },
    { call: "r2.put", key: "uploads/", nth: 2 },
    { call: "r2.put", key: "uploads/", nth: 2, kept: true },
    { call: "r2.put", key: "uploads/", nth: 3 },
    { call: "r2.put", key: "uploads/", nth: 3, kept: true },
    { call: "r2.put", key: "blobs/" },
    { call: "r2.put", key: "blobs/", kept: true },
    { call: "r2.put", key: "uploads/", nth: 4 },
    { call: "r2.put", key: "uploads/", nth: 4, kept: true },
  ];
  for (const [index, fault] of faults.entries()) {
    const where = `${fault.call} ${fault.key} #${fault.nth ?? 1}${fault.kept ? ", though stored" : ""}`;
    test(`${where}: a client that retries pushes its blob`, async () => {
      const name = `faults/${index}`;
      // Bytes of its own: otherwise it would find the blob of the fault before.
      const own = Buffer.concat([Buffer.from([index]), content]);
      const digest = digestOf(own);
      await strata.fail(fault);
      const status = await persist(name, own, digest);
      assert.equal(status, 201);
      assert.equal(await strata.pendingFaults(), 0, "the fault was met");
      assert.deepEqual(await pull(strata, name, digest), { status: 200, size: own.length, digest });
    });
  }

  for (const kept of [false, true]) {
    // The registry tries a repeatable call four times in all. It does not repeat a stream, but
    // finds its own object if it was stored.
    for (const [key, times, first] of [
      ["refs/", 1, 201],
      ["refs/", 4, 503],
      ["blobs/", 1, kept ? 201 : 503],
    ]) {
      test(`r2.put ${key}, ${times} times${kept ? ", though stored" : ""}: ${first}, and a second push succeeds`, async () => {
        const [name, own] = [`faults/whole-${kept}-${times}`, Buffer.from(`${kept} ${key} ${times}`)];
        const digest = digestOf(own);
        await strata.fail({ call: "r2.put", key, kept, times });
        assert.equal((await whole(strata, name, digest, own)).status, first);
        assert.equal(await strata.pendingFaults(), 0, "the fault was met");
        assert.equal((await whole(strata, name, digest, own)).status, 201);
        assert.deepEqual(await pull(strata, name, digest), { status: 200, size: own.length, digest });
      });
    }
  }

  /**
   * Pushes as clients do: retries the closing request after a failure, and then starts a new
   * upload.
   */
  async function persist(name, bytes, digest) {
    for (let round = 0; round < 3; round += 1) {
      const patched = await patch(strata, await begin(strata, name), [bytes]).catch(reset);
      if (patched === undefined) continue;
      assert.ok([202, 503].includes(patched.status), patched.body.toString());
      if (patched.status !== 202) continue;
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const closed = await close(strata, patched.headers.location, digest);
        if (closed.status === 201) return 201;
        assert.ok([404, 503].includes(closed.status), closed.body.toString());
      }
    }
    return undefined;
  }

  /**
   * Accepts a lost reply: if it was sent before the body was read, the connection closes and may
   * lose it.
   */
  function reset(error) {
    assert.ok(["ECONNRESET", "EPIPE"].includes(error.code), error);
  }
});
