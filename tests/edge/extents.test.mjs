// Blobs in many extents: the next one is opened while one flows.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { open } from "./http.mjs";
import { begin, close, patch } from "./push.mjs";

/** More than the buffers of a connection hold: a paused client stays in the first extent. */
const CHUNK = 16 * 1024 * 1024;

describe("a blob in extents", { timeout: 120_000 }, () => {
  let strata;
  before(async () => {
    strata = await start();
  });
  beforeEach(() => strata.reset());
  after(() => strata.stop());

  const extents = async () =>
    (await strata.calls()).filter(({ call, key }) => call === "r2.get" && key.startsWith("extents/"));

  /** Pushes a blob in chunks of `CHUNK` bytes, an extent each. */
  async function pushed(repository, count) {
    const chunks = Array.from({ length: count }, (_, number) => buffer(CHUNK, `${repository} ${number}`));
    const digest = digestOf(Buffer.concat(chunks));
    let location = await begin(strata, repository);
    for (const chunk of chunks) location = (await patch(strata, location, chunk)).headers.location;
    assert.equal((await close(strata, location, digest)).status, 201);
    await strata.reset();
    return digest;
  }

  /** Pulls a blob, and pauses in its first extent for as long as `meanwhile` takes. */
  async function pull(repository, digest, meanwhile = () => {}) {
    const url = new URL(`/v2/${repository}/blobs/${digest}`, strata.url);
    const reply = await open(url, { headers: { authorization: basic() } });
    const parts = [];
    for await (const part of reply.stream) {
      // Unread bytes stay in buffers of the system.
      if (parts.push(part) === 1) await meanwhile();
    }
    return Buffer.concat(parts);
  }

  test("has one extent opened ahead, and no more", async () => {
    const digest = await pushed("extents/ahead", 3);
    const bytes = await pull("extents/ahead", digest, async () => {
      await setTimeout(500);
      assert.equal((await extents()).length, 2);
    });
    assert.equal(digestOf(bytes), digest);
    assert.equal((await extents()).length, 3);
  });

  test("opens extents when their turns come, once one has waited for a slow client", async () => {
    const digest = await pushed("extents/slow", 3);
    const bytes = await pull("extents/slow", digest, async () => {
      await setTimeout(7_000);
      assert.equal((await extents()).length, 2);
    });
    assert.equal(digestOf(bytes), digest);
    // The second one was given up, and opened again.
    const keys = (await extents()).map(({ key }) => key);
    assert.deepEqual([keys.length, keys[1]], [4, keys[2]]);
  });

  test("opens an extent again whose body fails before its first byte", async () => {
    const digest = await pushed("extents/cut", 3);
    await strata.fail({ call: "r2.get", key: "extents/", nth: 2, breaks: true });
    assert.equal(digestOf(await pull("extents/cut", digest)), digest);
    const opened = await extents();
    const failed = opened.filter(({ failed }) => failed).map(({ key }) => key);
    assert.equal(opened.length, 4);
    assert.deepEqual([failed.length, opened.filter(({ key }) => key === failed[0]).length], [1, 2]);
  });

  test("opens an extent again once only", async () => {
    const digest = await pushed("extents/cut-twice", 2);
    await strata.fail({ call: "r2.get", key: "extents/", nth: 2, times: 2, breaks: true });
    await assert.rejects(pull("extents/cut-twice", digest));
    assert.equal((await extents()).length, 3);
  });

  test("fails where an extent fails, and not before", async () => {
    const chunks = [1, 2].map((number) => buffer(CHUNK, `failing ${number}`));
    const digest = digestOf(Buffer.concat(chunks));
    let location = await begin(strata, "extents/failing");
    for (const chunk of chunks) location = (await patch(strata, location, chunk)).headers.location;
    assert.equal((await close(strata, location, digest)).status, 201);
    await strata.fail({ call: "r2.get", key: "extents/", nth: 2, times: 9 });
    const url = new URL(`/v2/extents/failing/blobs/${digest}`, strata.url);
    const reply = await open(url, { headers: { authorization: basic() } });
    let length = 0;
    await assert.rejects(async () => {
      for await (const part of reply.stream) length += part.length;
    });
    assert.equal(length, CHUNK);
  });
});
