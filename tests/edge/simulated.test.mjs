// The simulated edge: first the play itself, on a small Worker that makes the calls of a request,
// then the built Worker on it.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { begin, close, manifestOf, patch, whole } from "./push.mjs";
import { FAR, inARow, kindOf, mostInFlight, simulate, waits } from "./simulated.mjs";

const MIB = 1 << 20;
/** So much faster is the simulated clock: a minute takes 1.2 seconds. */
const SPEED = 50;
/** The simulated milliseconds by which a call may be late: 0.2 seconds of a busy machine. */
const LATE = 10_000;

// Makes the calls of a request at once, each `[binding, method, ...arguments]`.
const script = `
const shown = async (value) =>
  value instanceof ReadableStream ? new Response(value).text()
  : value?.body ? { ...value, text: await new Response(value.body).text() }
  : value ?? null;
const calls = {
  sleep: (_, milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  now: () => Date.now(),
  giveUp: ({ BUCKET }, key) => void BUCKET.head(key),
  unknown: ({ BUCKET }, key) => {
    const { readable, writable } = new TransformStream();
    writable.close();
    return BUCKET.put(key, readable);
  },
  async keep(_, address, text, seconds) {
    const headers = { "cache-control": \`public, max-age=\${seconds}\` };
    await (await caches.open("any")).put(address, new Response(text, { headers }));
  },
  async match(_, address, range) {
    const request = new Request(address, { headers: range ? { range } : {} });
    const found = await (await caches.open("any")).match(request);
    return found && \`\${found.status} \${await found.text()}\`;
  },
  async parts({ BUCKET }, key, sizes, change) {
    const upload = await BUCKET.createMultipartUpload(key);
    const parts = [];
    for (const [at, size] of sizes.entries()) parts.push(await upload.uploadPart(at + 1, new Uint8Array(size).fill(at)));
    if (change === "abort") await upload.abort();
    if (change === "etag") parts[0].etag = "another";
    return upload.complete(parts);
  },
};
export default {
  async fetch(request, env) {
    const outcomes = (await request.json()).map(async ([what, method, ...args]) => {
      try {
        return { value: await shown(await (calls[what] ? calls[what](env, method, ...args) : env[what][method](...args))) };
      } catch (error) {
        return { error: String(error) };
      }
    });
    return Response.json(await Promise.all(outcomes));
  },
};`;

const QUIET = { latency: {}, failures: {}, pages: {}, smallParts: false, throttle: true, subrequests: 10_000 };

describe("the play", () => {
  let edge;
  before(async () => {
    edge = await simulate({ modules: { "index.js": script }, isolates: 3, locations: 2, speed: SPEED });
  });
  after(() => edge?.stop());
  beforeEach(async () => {
    await edge.set(QUIET);
    await edge.clear();
    await edge.reset();
  });

  /** Makes calls at once in one request of an isolate. Resolves with the outcome of each. */
  async function make(calls, isolate = 0) {
    const { status, body } = await edge.isolate(isolate).send("POST", "/", { body: JSON.stringify(calls) });
    assert.equal(status, 200, body.toString());
    return JSON.parse(body);
  }
  const put = (key, ...options) => ["BUCKET", "put", key, "some", ...options];
  const ABSENT = { onlyIf: { etagDoesNotMatch: "*" } };
  const one = async (...call) => (await make([call]))[0];
  const times = async () => (await edge.schedule()).calls.map(({ began, ended }) => ended - began);
  const takes = (time, least) => assert.ok(time > least - 2 * SPEED && time < least + LATE, `${time}, not ${least}`);

  test("calls take their latency by the simulated clock, which timers and dates follow", async () => {
    await edge.set({ latency: { r2: 5000, "r2.head": [20_000, 20_000] } });
    await make([put("key"), ["BUCKET", "head", "other"]]);
    const [first, second] = await times();
    takes(first, 5000);
    takes(second, 20_000);

    const begun = edge.now();
    const [{ value: before }] = await make([["now"]]);
    await make([["sleep", 20_000]]);
    const [{ value: after }] = await make([["now"]]);
    takes(after - before, 20_000);
    takes(edge.now() - begun, 20_000);
  });

  test("a seventh call of a request waits for a connection, and other requests have their own", async () => {
    await edge.set({ latency: { r2: 20_000 } });
    const heads = (count) => Array.from({ length: count }, (_, index) => ["BUCKET", "head", `${index}`]);
    await make(heads(7));
    let { calls } = await edge.schedule();
    assert.deepEqual([mostInFlight(calls), waits(calls).calls, inARow(calls)], [6, 1, 2]);
    takes(waits(calls).longest, 20_000);

    await edge.reset();
    await Promise.all([make(heads(6)), make(heads(6)), make(heads(6), 1)]);
    ({ calls } = await edge.schedule());
    assert.deepEqual([mostInFlight(calls), waits(calls).calls], [18, 0]);
  });

  test("isolates share R2, and one of many creates a key", async () => {
    const outcomes = await Promise.all(
      [0, 1, 2].map((isolate) => make([put("key", ABSENT), put("key", ABSENT)], isolate)),
    );
    assert.equal(outcomes.flat().filter(({ value }) => value).length, 1);
    const [{ value }] = await make([["BUCKET", "get", "key"]], 2);
    assert.equal(value.text, "some");
    await edge.set({ throttle: false });
    const changed = { onlyIf: { etagMatches: value.etag } };
    assert.ok((await one("BUCKET", "put", "key", "other", changed)).value);
    assert.equal((await one("BUCKET", "put", "key", "third", changed)).value, null);
    const [{ value: range }] = await make([["BUCKET", "get", "key", { range: { offset: 1, length: 3 } }]], 1);
    assert.equal(range.text, "the");
  });

  test("a key that is written twice a second is refused, in R2 and in KV", async () => {
    const value = ["WARM", "put", "key", [1], { expirationTtl: 60 }];
    const outcomes = await make([put("key"), put("key"), put("other"), value, value]);
    assert.deepEqual(
      outcomes.map(({ error }) => error),
      [
        undefined,
        "Error: put: Reduce your concurrent request rate for the same object. (10058)",
        undefined,
        undefined,
        "Error: KV PUT failed: 429 Too Many Requests",
      ],
    );
    await edge.sleep(1500);
    assert.deepEqual((await make([put("key"), value])).map(Object.keys), [["value"], ["value"]]);
  });

  test("a location of KV answers for a minute from its cache, also that nothing is there", async () => {
    await edge.set({ latency: { "kv.hit": 1000, "kv.miss": 20_000 } });
    const get = ["WARM", "get", "key", { type: "stream" }];
    const [{ value: nothing }] = await make([get], 1);
    await make([["WARM", "put", "key", [65], { expirationTtl: 120 }]], 0);
    await edge.reset();
    const [{ value: own }] = await make([get], 2);
    const [{ value: cached }] = await make([get], 1);
    assert.deepEqual([nothing, own, cached], [null, "A", null]);
    for (const time of await times()) takes(time, 1000);

    await edge.sleep(60_000);
    await edge.reset();
    assert.equal((await make([get], 1))[0].value, "A");
    takes((await times())[0], 20_000);
    await edge.sleep(60_000);
    assert.equal((await make([get], 1))[0].value, null, "it has expired");
  });

  test("the Cache API of a location keeps entries for their time, and gives ranges of them", async () => {
    await edge.set({ latency: { cache: 1000 } });
    const address = "https://registry.example/entry";
    await make([["keep", address, "0123456789", 120]], 0);
    await edge.reset();
    // The first and the third isolate are in one location.
    const found = async (isolate, ...range) => (await make([["match", address, ...range]], isolate))[0].value;
    assert.deepEqual([await found(0), await found(2, "bytes=3-5")], ["200 0123456789", "206 345"]);
    assert.equal(await found(1), null);
    for (const time of await times()) takes(time, 1000);
    await edge.sleep(120_000);
    assert.equal(await found(0), null);
  });

  test("calls fail at a rate, and half of them take effect", async () => {
    await edge.set({ failures: { rate: 0.5, kinds: ["10001", "10043"] } });
    const outcomes = await make(Array.from({ length: 100 }, (_, index) => put(`key/${index}`)));
    const failed = outcomes.filter(({ error }) => error);
    assert.ok(failed.length > 30 && failed.length < 70, `${failed.length} failed`);
    assert.ok(failed.every(({ error }) => /\((10001|10043)\)$/.test(error)));
    const kept = (await edge.stored()).objects.length - (100 - failed.length);
    assert.ok(kept > 5 && kept < failed.length - 5, `${kept} took effect`);
  });

  test("a call hangs for a minute, a burst ends, and a chosen call fails", async () => {
    await edge.fail({ call: "r2.put", key: "hung", kind: "hang" });
    assert.match((await one(...put("hung"))).error, /Network connection lost/);
    takes((await times())[0], 60_000);

    const from = edge.now();
    await edge.set({ failures: { bursts: [{ from, to: from + 30_000, kinds: ["10043"] }] } });
    assert.match((await one(...put("first"))).error, /\(10043\)/);
    await edge.sleep(from + 31_000 - edge.now());
    assert.ok((await one(...put("second"))).value);

    await edge.fail({ call: "r2.put", key: "chosen", nth: 2, kept: true });
    assert.ok((await one(...put("chosen/1"))).value);
    assert.match((await one(...put("chosen/2"))).error, /\(10001\)/);
    assert.ok((await one("BUCKET", "head", "chosen/2")).value);
  });

  test("a call that its request gave up is cancelled, and nobody waits for it", async () => {
    await edge.set({ latency: { r2: 20_000 } });
    await one("giveUp", "key");
    const { calls } = await edge.settled();
    assert.deepEqual(
      calls.map(({ call, ended }) => [call, ended]),
      [["r2.head", undefined]],
    );
    assert.equal(inARow(calls), 0);
  });

  test("lists have pages, and some are truncated at few keys or at none", async () => {
    await make(Array.from({ length: 30 }, (_, index) => put(`list/${String(index).padStart(2, "0")}`)));
    const list = async (options) => (await one("BUCKET", "list", { prefix: "list/", ...options })).value;
    const keys = ({ objects }) => objects.map(({ key }) => key.slice(5));
    const page = await list({ limit: 2, startAfter: "list/03" });
    assert.deepEqual([keys(page), page.truncated], [["04", "05"], true]);
    await edge.set({ pages: { empty: 1 } });
    const empty = await list({ cursor: page.cursor });
    assert.deepEqual([keys(empty), empty.truncated], [[], true]);
    await edge.set({ pages: { short: 1 } });
    const short = await list({ limit: 20 });
    assert.ok(short.objects.length < 20 && short.truncated, `${short.objects.length} keys`);
    await edge.set({ pages: {} });
    const last = await list({ cursor: empty.cursor });
    assert.deepEqual([keys(last).length, keys(last)[0], last.truncated], [24, "06", false]);
  });

  test("parts become an object if they are all there, and large enough", async () => {
    const error = async (...args) => (await one("parts", ...args)).error;
    assert.match(await error("key", [100, 10]), /\(10011\)/);
    await edge.set({ smallParts: true });
    assert.equal((await one("parts", "key", [100, 10])).value.size, 110);
    assert.match(await error("other", [100, 90, 80]), /\(10048\)/);
    assert.match(await error("other", [100, 10], "etag"), /\(10025\)/);
    assert.match(await error("other", [100, 10], "abort"), /\(10024\)/);
    const { value } = await one("BUCKET", "get", "key");
    assert.equal(value.text, `${"\0".repeat(100)}${"\x01".repeat(10)}`);
  });

  test("a stream of unknown length, a wrong hash and too many calls are refused", async () => {
    assert.match((await one("unknown", "key")).error, /^TypeError: .*known length/);
    const { error } = await one(...put("key", { sha256: Array(32).fill(0) }));
    assert.match(error, /\(10037\)/);
    await edge.set({ subrequests: 2 });
    const outcomes = await make([put("a"), put("b"), put("c")]);
    assert.deepEqual(
      outcomes.map(({ error }) => error),
      [undefined, undefined, "Error: Too many subrequests."],
    );
  });
});

test("the Worker pushes and pulls on it, and each of its calls belongs to a request", async () => {
  const edge = await simulate({ isolates: 2, speed: 10, latency: { ...FAR, "r2.uploadPart": 500 } });
  try {
    const [config, layer] = [buffer(1000, "config"), buffer(12 * MIB, "layer")];
    assert.equal((await whole(edge, "sim/image", digestOf(config), config)).status, 201);
    const patched = await patch(edge, await begin(edge, "sim/image"), [layer]);
    assert.equal(patched.status, 202, patched.body.toString());
    assert.equal((await close(edge, patched.headers.location, digestOf(layer))).status, 201);
    const sized = (blob) => ({ digest: digestOf(blob), size: blob.length });
    const manifest = manifestOf(sized(config), [sized(layer)]);
    const path = "/v2/sim/image/manifests/latest";
    const headers = { "content-type": manifest.mediaType };
    assert.equal((await edge.send("PUT", path, { body: manifest.body, headers })).status, 201);

    const pulled = await edge.isolate(1).send("GET", path, { headers: { accept: manifest.mediaType } });
    assert.ok(pulled.body.equals(manifest.body));
    const blob = await edge.isolate(1).send("GET", `/v2/sim/image/blobs/${digestOf(layer)}`);
    assert.ok(blob.body.equals(layer));

    const { invocations, calls } = await edge.settled();
    assert.deepEqual([...new Set(invocations.map(({ what }) => what.split(" ")[0]))], ["POST", "PATCH", "PUT", "GET"]);
    const parts = calls.filter(({ call }) => call === "r2.uploadPart");
    assert.deepEqual(
      parts.map(({ bytes }) => bytes),
      [5 * MIB, 5 * MIB, 2 * MIB],
    );
    for (const { began, ended } of parts) assert.ok(ended - began >= 480);
    assert.deepEqual(
      [
        ...new Set(calls.filter(({ isolate }) => isolate === 1).map(({ call, key }) => `${call} ${kindOf(key)}`)),
      ].sort(),
      ["kv.get _manifests", "r2.get _manifests", "r2.get extents", "r2.get refs", "r2.head _tags"],
    );
  } finally {
    await edge.stop();
  }
});
