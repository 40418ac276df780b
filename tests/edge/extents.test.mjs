// Blobs in many extents: the next one is opened while one flows.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
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
  after(() => strata.stop());

  const extents = async () =>
    (await strata.calls()).filter(({ call, key }) => call === "r2.get" && key.startsWith("extents/"));

  test("has one extent opened ahead, and no more", async () => {
    const chunks = [1, 2, 3].map((number) => buffer(CHUNK, `extent ${number}`));
    const digest = digestOf(Buffer.concat(chunks));
    let location = await begin(strata, "extents/ahead");
    for (const chunk of chunks) location = (await patch(strata, location, chunk)).headers.location;
    assert.equal((await close(strata, location, digest)).status, 201);

    await strata.reset();
    const url = new URL(`/v2/extents/ahead/blobs/${digest}`, strata.url);
    const reply = await open(url, { headers: { authorization: basic() } });
    const parts = [];
    let length = 0;
    for await (const part of reply.stream) {
      parts.push(part);
      length += part.length;
      if (parts.length > 1) continue;
      // The client pauses. Unread bytes stay in buffers of the system.
      await setTimeout(500);
      const opened = await extents();
      assert.equal(opened.length, 2);
    }
    assert.equal(length, 3 * CHUNK);
    assert.equal(digestOf(Buffer.concat(parts)), digest);
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
