// The scrub on the real runtime: it finds damage planted in R2, which nobody is served, and a push
// or the upstream heals it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin, close, manifestOf, patch, pull, whole } from "./push.mjs";

const KIB = 1024;
const MIB = KIB * KIB;

let strata;
let mirror;

before(async () => {
  strata = await start({ vars: { STRATA_ANONYMOUS_PULL: "true" } });
  const upstreams = [{ name: "up.example", address: strata.url.origin, insecure: true }];
  mirror = await start({ vars: { STRATA_UPSTREAMS: JSON.stringify(upstreams) } });
});
after(async () => {
  await mirror?.stop();
  await strata?.stop();
});

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const hashOf = (digest) => digest.split(":")[1];
const blobKey = (digest) => `blobs/sha256/${hashOf(digest).slice(0, 2)}/${hashOf(digest)}`;

async function pushPatched(name, blob, chunks = [blob]) {
  let location = await begin(strata, name);
  for (const chunk of chunks) location = (await patch(strata, location, chunk)).headers.location;
  return close(strata, location, digestOf(blob));
}

/**
 * Pushes an image of a small configuration, a blob too large for the hot tier, and one in two
 * extents.
 */
async function pushImage(name, seed) {
  const blobs = [buffer(KIB, `${seed} config`), buffer(3 * MIB, `${seed} whole`), buffer(7 * MIB, `${seed} patched`)];
  for (const blob of blobs.slice(0, 2)) expect(await whole(strata, name, digestOf(blob), blob), 201);
  const [patched] = blobs.slice(2);
  expect(await pushPatched(name, patched, [patched.subarray(0, 6 * MIB), patched.subarray(6 * MIB)]), 201);
  const [config, ...layers] = blobs.map((blob) => ({ digest: digestOf(blob), size: blob.length }));
  const manifest = manifestOf(config, layers);
  const headers = { "content-type": manifest.mediaType };
  expect(await strata.send("PUT", `/v2/${name}/manifests/v1`, { headers, body: manifest.body }), 201);
  return { name, blobs, manifest };
}

async function isWhole(registry, name, { blobs, manifest }) {
  expect(await registry.send("GET", `/v2/${name}/manifests/${manifest.digest}`), 200);
  for (const blob of blobs) {
    const expected = { status: 200, size: blob.length, digest: digestOf(blob) };
    assert.deepEqual(await pull(registry, name, digestOf(blob)), expected);
  }
}

/** Runs the scrub once, and returns its findings in short. */
async function pass(registry, query = "") {
  const found = [];
  for (;;) {
    const reply = await registry.send("POST", `/v2/_strata/scrub${query}`);
    const body = JSON.parse(reply.body.toString());
    assert.ok([200, 202].includes(reply.status), reply.body.toString());
    found.push(...body.findings.map((finding) => `${finding.found} ${finding.what}: ${finding.repair}`));
    if (reply.status === 200) return found.sort();
  }
}

/** Changes a byte of an object, and keeps its metadata. */
async function flip(registry, key, at = 1) {
  const bucket = await registry.bucket();
  const object = await bucket.get(key);
  const { customMetadata } = object;
  const bytes = new Uint8Array(await object.arrayBuffer());
  bytes[at] ^= 1;
  await bucket.put(key, bytes, { customMetadata });
}

/** Returns the keys of all objects but the scrub's own. */
const keys = async (registry) =>
  (await registry.objects()).map(({ key }) => key).filter((key) => key !== "sweep/scrub");

/** Returns the keys of a blob's extents. */
async function extentsOf(registry, digest) {
  const object = await (await registry.bucket()).get(blobKey(digest));
  return (await object.json()).extents.map(({ key }) => `extents/${key}`);
}

test("sound objects are read natively and left unchanged", async () => {
  const image = await pushImage("a/sound", "sound");
  const before = await strata.objects();
  await strata.reset();
  assert.deepEqual(await pass(strata), []);
  const calls = await strata.calls();
  assert.deepEqual(
    calls.filter(({ call }) => call === "r2.put").map(({ key }) => key),
    ["sweep/scrub", "sweep/scrub"],
  );
  assert.equal(calls.filter(({ call }) => call === "r2.delete").length, 0);
  const read = calls.filter(
    ({ call, key }) => call === "r2.get" && (key.startsWith("extents/") || key.startsWith("blobs/")),
  );
  const bytes = read.reduce((sum, call) => sum + call.bytes, 0);
  const expected = image.blobs.reduce((sum, blob) => sum + blob.length, 0);
  assert.ok(bytes >= expected && bytes < expected + 4 * KIB, `${bytes} bytes of ${expected} were read`);
  // The scrub read 10 MiB, and none of it went through wasm.
  assert.ok((await strata.wasm()) < 8 * MIB, `${await strata.wasm()} bytes of wasm memory`);
  assert.deepEqual(
    (await strata.objects()).filter(({ key }) => key !== "sweep/scrub"),
    before,
  );
  await isWhole(strata, image.name, image);
});

test("damage is found, never served, and healed by a push", async () => {
  const image = await pushImage("a/image", "image");
  const before = await keys(strata);
  const [config, large, patched] = image.blobs.map((blob) => digestOf(blob));
  const damages = [
    { digest: config, plant: () => flip(strata, blobKey(config)) },
    { digest: large, plant: () => flip(strata, blobKey(large), 2 * MIB) },
    { digest: patched, plant: async () => flip(strata, (await extentsOf(strata, patched))[0], 5 * MIB) },
    {
      digest: patched,
      plant: async () => {
        const [, last] = await extentsOf(strata, patched);
        await (await strata.bucket()).put(last, "short");
      },
    },
    {
      digest: patched,
      plant: async () => (await strata.bucket()).delete((await extentsOf(strata, patched))[0]),
    },
  ];
  for (const [number, { digest, plant }] of damages.entries()) {
    await plant();
    assert.deepEqual(await pass(strata, "?dry-run"), ["corrupt blob: aside"]);
    assert.deepEqual(await pass(strata, number % 2 ? "" : `?digest=${digest}`), ["corrupt blob: aside"]);
    const path = `/v2/${image.name}/blobs/${digest}`;
    for (const [method, headers] of [
      ["GET", {}],
      ["HEAD", {}],
      ["GET", { range: "bytes=1000-2000" }],
      ["GET", { range: "bytes=0-0" }],
    ]) {
      assert.equal((await strata.send(method, path, { headers })).status, 404, `${method} ${JSON.stringify(headers)}`);
    }
    assert.deepEqual(await pass(strata), ["missing blob: null"]);
    const blob = image.blobs.find((blob) => digestOf(blob) === digest);
    const chunks = [blob.subarray(0, 6 * MIB), blob.subarray(6 * MIB)];
    const heals =
      digest === patched && number < damages.length - 1
        ? pushPatched("a/other", blob, chunks)
        : whole(strata, "a/other", digest, blob);
    expect(await heals, 201);
    await isWhole(strata, image.name, image);
    assert.deepEqual(await pass(strata), []);
  }
  // Except for extents, each object from before is still there.
  const gone = before.filter((key) => !key.startsWith("extents/"));
  const after = await keys(strata);
  assert.deepEqual(
    gone.filter((key) => !after.includes(key)),
    [],
  );
  const metrics = await strata.metrics();
  assert.equal(metrics['strata_scrub_found_total{found="corrupt",what="blob"}'], damages.length);
  assert.equal(metrics['strata_scrub_repaired_total{repair="aside",what="blob"}'], damages.length);
});

test("records, metadata and links that can be derived are rewritten", async () => {
  const image = await pushImage("a/derived", "derived");
  const bucket = await strata.bucket();
  const [, large, patched] = image.blobs.map((blob) => digestOf(blob));
  const record = await (await bucket.get(blobKey(patched))).text();
  const { customMetadata } = await bucket.head(blobKey(patched));
  await bucket.put(blobKey(patched), "?", { customMetadata });
  await bucket.put(`refs/sha256/${hashOf(large)}/${image.name}/_link`, "?");
  // A blob without metadata is copied onto itself, natively.
  await bucket.put(blobKey(large), new Uint8Array(image.blobs[1]));
  assert.deepEqual(await pass(strata), ["corrupt blob: write", "corrupt blob: write", "corrupt link: write"]);
  assert.equal(await (await bucket.get(blobKey(patched))).text(), record);
  await isWhole(strata, image.name, image);
  assert.deepEqual(await pass(strata), []);
});

test("a failed read is not reported as damage", async () => {
  const image = await pushImage("a/failing", "failing");
  const [, large] = image.blobs.map((blob) => digestOf(blob));
  await strata.fail({ call: "r2.get", key: blobKey(large), times: 20 });
  const reply = await strata.send("POST", `/v2/_strata/scrub?digest=${large}`);
  assert.equal(reply.status, 503);
  await strata.reset();
  assert.deepEqual(await pass(strata, `?digest=${large}`), []);
  await isWhole(strata, image.name, image);
});

test("damaged mirrored content is fetched again", async () => {
  const image = await pushImage("a/mirrored", "mirrored");
  const name = "up.example/a/mirrored";
  await isWhole(mirror, name, image);
  assert.deepEqual(await pass(mirror), []);
  const [config, large] = image.blobs.map((blob) => digestOf(blob));
  await flip(mirror, blobKey(config));
  for (const extent of await extentsOf(mirror, large)) await flip(mirror, extent);
  await flip(mirror, `repositories/${name}/_manifests/sha256/${hashOf(image.manifest.digest)}`);
  assert.deepEqual(await pass(mirror), ["corrupt blob: aside", "corrupt blob: aside", "corrupt manifest: aside"]);
  await isWhole(mirror, name, image);
  const isNote = async (key) => (await (await mirror.bucket()).head(key)).customMetadata;
  for (let tries = 0; tries < 50 && JSON.stringify(await isNote(blobKey(large))).includes("aside"); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual(await pass(mirror), []);
});

test("the clock starts a scrub that is due", async () => {
  await strata.tick();
  assert.ok((await strata.metrics()).strata_scrub_bytes_total > 0);
});
