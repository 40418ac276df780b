// The checks that each store passes, on R2 and KV in the real runtime: the same lists as on the
// stores in memory.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { build } from "../../scripts/build.mjs";
import { start } from "./harness.mjs";
import { open } from "./http.mjs";
import { simulate } from "./simulated.mjs";

let suite;
let modules;

before(async () => {
  const { script, module } = await build({ crate: "tests/suite" });
  modules = { "index.js": readFileSync(script, "utf8"), "index_bg.wasm": readFileSync(module) };
  suite = await start({ probe: false, modules });
});

after(() => suite?.stop());

const GIB = 1024 ** 3;

/** Waits until no stream is being made any more. */
async function noneIsMade() {
  for (let tries = 0; Number((await suite.send("GET", "/makers")).body) > 0; tries += 1) {
    assert.ok(tries < 100, "a stream is still being made");
    await setTimeout(50);
  }
}

test("a stream of 1 GiB is generated and read piece by piece in less than 2 MiB of wasm's memory", async () => {
  const response = await suite.send("GET", "/pass");
  assert.equal(response.status, 200);
  const grown = Number(response.body);
  assert.ok(grown < 2 * 1024 * 1024, `wasm's memory grew by ${grown} bytes`);
  await noneIsMade();
});

test("a generated stream of 1 GiB reaches a client whole", async () => {
  const reply = await open(new URL("/made", suite.url));
  assert.equal(Number(reply.headers["content-length"]), GIB);
  let length = 0;
  for await (const chunk of reply.stream) length += chunk.length;
  assert.equal(length, GIB);
  await noneIsMade();
});

test("a client sees that a stream breaks off if its source fails", async () => {
  const reply = await open(new URL("/broken", suite.url));
  assert.equal(Number(reply.headers["content-length"]), GIB);
  let length = 0;
  await assert.rejects(async () => {
    for await (const chunk of reply.stream) length += chunk.length;
  });
  assert.ok(length <= 3 * 1024 * 1024, `${length} bytes came`);
  await noneIsMade();
});

test("generation stops for clients that disconnect", async () => {
  for (let client = 0; client < 20; client += 1) {
    const reply = await open(new URL("/made", suite.url));
    for await (const _ of reply.stream) break;
    // The stream is being made, or waits for the client to read.
    await setTimeout((client % 4) * 10);
    reply.stream.destroy();
  }
  await noneIsMade();
});

test("a stream of 5 GiB announces its length, and breaks off when its pieces end", async () => {
  const reply = await open(new URL("/long", suite.url));
  assert.equal(Number(reply.headers["content-length"]), 5 * GIB);
  let length = 0;
  await assert.rejects(async () => {
    for await (const chunk of reply.stream) length += chunk.length;
  });
  assert.ok(length <= 1024 * 1024, `${length} bytes came`);
});

test("a stream that is already being read is refused, and the instance goes on", async () => {
  const before = Number((await suite.send("GET", "/count")).body);
  const reply = await suite.send("GET", "/locked");
  assert.equal(reply.status, 200, reply.body.toString());
  assert.match(reply.body.toString(), /^the store failed: .*locked/);
  assert.equal(Number((await suite.send("GET", "/count")).body), before + 1);
});

/** Runs the checks on a store. */
async function check(t, store) {
  const response = await store.send("GET", "/");
  const outcomes = response.json();
  for (const { name, failure } of outcomes) {
    await t.test(name.replaceAll("_", " "), () => assert.equal(failure, null));
  }
  assert.equal(outcomes.length, 32);
}

test("R2 is a store of objects, and KV one of values", (t) => check(t, suite));

test("so are those of the simulated edge", async (t) => {
  // The checks write some keys more often than once a second.
  const edge = await simulate({ modules, speed: 1, latency: { r2: 1, kv: 1 }, throttle: false });
  try {
    await check(t, edge);
    const { calls } = await edge.settled();
    assert.ok(new Set(calls.map(({ call }) => call)).size >= 11, "few kinds of calls were made");
  } finally {
    await edge.stop();
  }
});
