// The sweep on the real runtime, with seconds of grace: it removes deleted images, and keeps images
// that are pushed meanwhile.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin, close, manifestOf, patch, pull, whole } from "./push.mjs";

const KIB = 1024;
const GRACE = 6;

let strata;

before(async () => {
  strata = await start({
    vars: {
      STRATA_GRACE_SECONDS: String(GRACE),
      STRATA_STALE_SECONDS: "1",
      STRATA_RETENTION: [{ repositories: ["aged/**"], keep_newest: 1 }],
    },
  });
});
after(() => strata.stop());

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const parsed = (reply) => JSON.parse(reply.body.toString());

/**
 * Pushes an image: its layer by PATCH, its configuration in one request. Returns
 * `{ name, blobs, digest }`.
 */
async function push(name, tag, seed) {
  const blobs = [buffer(KIB, `${seed} config`), buffer(6 * KIB, `${seed} layer`)];
  expect(await whole(strata, name, digestOf(blobs[0]), blobs[0]), 201);
  const patched = await patch(strata, await begin(strata, name), [blobs[1]]);
  expect(await close(strata, patched.headers.location, digestOf(blobs[1])), 201);
  const [config, layer] = blobs.map((blob) => ({ digest: digestOf(blob), size: blob.length }));
  const { body, digest, mediaType } = manifestOf(config, [layer]);
  const headers = { "content-type": mediaType };
  expect(await strata.send("PUT", `/v2/${name}/manifests/${tag}`, { headers, body }), 201);
  return { name, blobs, digest };
}

async function isWhole({ name, blobs, digest }) {
  expect(await strata.send("GET", `/v2/${name}/manifests/${digest}`), 200);
  for (const blob of blobs) {
    const expected = { status: 200, size: blob.length, digest: digestOf(blob) };
    assert.deepEqual(await pull(strata, name, digestOf(blob)), expected);
  }
}

/** Runs a round of the sweep, and returns its removals. */
async function round() {
  const removals = [];
  for (;;) {
    const reply = await strata.send("POST", "/v2/_strata/sweep");
    const body = parsed(reply);
    removals.push(...body.removals);
    if (reply.status === 200) return removals;
    assert.equal(reply.status, 202);
  }
}

const keys = async () => (await strata.objects()).map(({ key }) => key);

test("deleted content is removed, and only the documented objects remain", async () => {
  const [kept, gone] = [await push("a/kept", "v1", "kept"), await push("a/gone", "v1", "gone")];
  const open = await patch(strata, await begin(strata, "a/open"), [buffer(KIB, "open")]);
  expect(open, 202);
  const held = parsed(await strata.send("GET", `/v2/_strata/blobs/${digestOf(kept.blobs[1])}`));
  assert.deepEqual([held.kind, held.size, held.references], ["extents", 6 * KIB, 2]);
  assert.deepEqual(
    held.repositories.map(({ name }) => name),
    ["a/kept"],
  );

  expect(await strata.send("DELETE", `/v2/a/gone/manifests/${gone.digest}`), 202);
  await sleep(GRACE * 1000 + 500);
  const told = parsed(await strata.send("POST", "/v2/_strata/sweep?dry-run=true"));
  const first = await round();
  const sorted = (removals) => removals.map((removal) => JSON.stringify(removal)).sort();
  assert.deepEqual(sorted(first), sorted(told.removals));
  assert.equal(first.filter(({ action, what }) => action === "condemn" && what === "blob").length, 2);
  assert.equal(first.filter(({ action, what }) => action === "end" && what === "upload").length, 1);

  await sleep(GRACE * 1000 + 500);
  const second = await round();
  const freed = second.filter(({ what }) => what === "blob").reduce((sum, { bytes }) => sum + bytes, 0);
  assert.equal(freed, 7 * KIB);
  await isWhole(kept);
  assert.equal((await pull(strata, "a/gone", digestOf(gone.blobs[0]))).status, 404);

  expect(await strata.send("DELETE", `/v2/a/kept/manifests/${kept.digest}`), 202);
  for (let times = 0; times < 4; times += 1) {
    await round();
    await sleep(GRACE * 1000 + 500);
  }
  assert.deepEqual(await keys(), [
    "catalog/a/gone",
    "catalog/a/kept",
    "repositories/a/gone/_tags/v1",
    "repositories/a/kept/_tags/v1",
    "sweep/cursor",
    "sweep/inventory",
  ]);
});

test("the clock does a step each time, and a round now and then", async () => {
  const aged = [];
  for (const version of ["1", "2", "3"]) aged.push(await push("aged/app", version, `aged ${version}`));
  const kept = aged.at(-1);
  expect(await strata.send("DELETE", `/v2/aged/app/manifests/${aged[0].digest}`), 202);
  for (let times = 0; times < 4; times += 1) {
    await sleep(GRACE * 1000 + 500);
    await strata.tick();
  }
  await isWhole(kept);
  const tags = parsed(await strata.send("GET", "/v2/aged/app/tags/list"));
  assert.deepEqual(tags.tags, ["3"]);
  const blobs = (await keys()).filter((key) => key.startsWith("blobs/"));
  // The second image has lost its tag, but stays.
  assert.equal(blobs.length, 4);
  const metrics = await strata.metrics();
  assert.equal(metrics.strata_inventory_blobs, 4);
  assert.equal(metrics['strata_repository_bytes{repository="aged/app"}'], 14 * KIB);
  assert.ok(metrics['strata_swept_total{what="blob"}'] >= 2);
});

test("an image that is pushed while its blobs are condemned and removed stays whole", async () => {
  const once = await push("busy/app", "v1", "busy");
  for (let times = 0; times < 3; times += 1) {
    expect(await strata.send("DELETE", `/v2/busy/app/manifests/${once.digest}`), 202);
    await sleep(GRACE * 1000 + 200);
    await round();
    await sleep(GRACE * 1000 - 300);
    // The second round is about to remove the blobs, or removes them now.
    const [pushed] = await Promise.all([again(), round(), round()]);
    await isWhole(pushed);
  }
  async function again() {
    for (let tries = 0; tries < 20; tries += 1) {
      try {
        return await push("busy/app", "v1", "busy");
      } catch (error) {
        // A mark, or a faster removal: the registry tells the client to retry.
        assert.match(error.message, /UNAVAILABLE|BLOB_UNKNOWN/);
        await sleep(100);
      }
    }
    throw new Error("no push was accepted in 20 attempts");
  }
});

test("the extents of a blob become one object, and are removed later", async () => {
  const chunks = ["one", "two", "three"].map((seed) => buffer(400 * KIB, `joined ${seed}`));
  const [config, layer] = [buffer(KIB, "joined config"), Buffer.concat(chunks)];
  expect(await whole(strata, "joined/app", digestOf(config), config), 201);
  let location = await begin(strata, "joined/app");
  for (const chunk of chunks) location = (await patch(strata, location, chunk)).headers.location;
  expect(await close(strata, location, digestOf(layer)), 201);
  const [first, second] = [config, layer].map((blob) => ({ digest: digestOf(blob), size: blob.length }));
  const { body, digest, mediaType } = manifestOf(first, [second]);
  const headers = { "content-type": mediaType };
  expect(await strata.send("PUT", "/v2/joined/app/manifests/v1", { headers, body }), 201);
  const image = { name: "joined/app", blobs: [config, layer], digest };
  const stored = async () => parsed(await strata.send("GET", `/v2/_strata/blobs/${digestOf(layer)}`));
  const { kind, upload } = await stored();
  assert.equal(kind, "extents");
  const extents = async () => (await keys()).filter((key) => key.startsWith(`extents/${upload}/`)).length;

  await sleep(GRACE * 500 + 300);
  await round();
  assert.equal((await stored()).kind, "bytes");
  assert.equal(await extents(), 3);
  await isWhole(image);
  await sleep(GRACE * 1000 + 300);
  await round();
  assert.equal(await extents(), 0);
  await isWhole(image);
});
