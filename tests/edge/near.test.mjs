// Large blobs in the cache of a location, on the runtime with its own Cache API.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { buffer, digestOf } from "./bytes.mjs";
import { start, user } from "./harness.mjs";
import { manifestOf, whole } from "./push.mjs";

const MIB = 1 << 20;
const NAME = "near/secret-name";
/** The domain of the registry. The platform has a cache for one's own domains only. */
const domain = "registry.example";

let folder;
let strata;
let layer;
let large;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "strata-near-"));
  strata = await start({ https: true, cache: folder });
  layer = buffer(3 * MIB, "layer");
  large = buffer(9 * MIB + 1, "large");
  for (const blob of [layer, large]) await whole(strata, NAME, digestOf(blob), blob);
});

after(async () => {
  await strata?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const pull = (blob, headers) =>
  strata.send("GET", `/v2/${NAME}/blobs/${digestOf(blob)}`, { headers: { host: domain, ...headers } });

/** Pulls until the tier answers, because entries are written after the reply. */
async function pullUntil(tier, blob, headers) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    await strata.reset();
    const reply = await pull(blob, headers);
    if (reply.headers["x-strata-tier"] === tier) return reply;
    assert.equal(reply.headers["x-strata-tier"], "cold");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no pull was ${tier}`);
}

const reads = async () => (await strata.calls()).filter(({ call }) => call.startsWith("r2.") || call.startsWith("kv."));

test("a whole blob is pulled from the cache, and R2 is not asked", async () => {
  const first = await pull(layer);
  assert.equal(first.headers["x-strata-tier"], "cold");
  const reply = await pullUntil("near", layer);
  assert.equal(reply.status, 200);
  assert.ok(reply.body.equals(layer));
  for (const name of ["etag", "content-length", "content-type", "docker-content-digest", "cache-control"])
    assert.equal(reply.headers[name], first.headers[name], name);
  assert.deepEqual(await reads(), []);
});

test("ranges are pulled from blocks, within one and over several", async () => {
  const rows = [
    [4 * MIB - 5, 4 * MIB + 5],
    [0, 99],
    [9 * MIB, 9 * MIB],
    [1, 9 * MIB],
  ];
  for (const [first, last] of rows) {
    const range = `bytes=${first}-${last}`;
    const reply = await pullUntil("near", large, { range });
    assert.equal(reply.status, 206);
    assert.equal(reply.headers["content-range"], `bytes ${first}-${last}/${large.length}`);
    assert.equal(reply.headers["content-length"], String(last - first + 1));
    assert.ok(reply.body.equals(large.subarray(first, last + 1)), range);
    assert.deepEqual(await reads(), []);
  }
});

test("a caller without the permission gets nothing from the cache", async () => {
  await pullUntil("near", layer);
  const other = `/v2/near/other/blobs/${digestOf(layer)}`;
  assert.equal((await strata.send("GET", other, { headers: { host: domain } })).status, 404);
  assert.equal((await pull(layer, { authorization: undefined })).status, 401);
  // The addresses of entries are not paths of the registry.
  for (const path of [`/v2/_strata/near/${digestOf(layer)}`, `/v2/_strata/near/${digestOf(large)}/0`]) {
    const reply = await strata.send("GET", path, { headers: { host: domain } });
    assert.equal(reply.status, 404, path);
  }
});

test("the cache has bytes by digest, and nothing else enters it", async () => {
  const manifest = manifestOf({ digest: digestOf(layer), size: layer.length }, []);
  const headers = { host: domain, "content-type": manifest.mediaType };
  await strata.send("PUT", `/v2/${NAME}/manifests/v1`, { headers, body: manifest.body });
  for (const path of ["/v2/", `/v2/${NAME}/manifests/v1`, `/v2/${NAME}/tags/list`, "/v2/_catalog", "/metrics"])
    await strata.send("GET", path, { headers: { host: domain } });
  await pullUntil("near", layer);
  const stored = Buffer.concat(filesOf(folder).map((file) => readFileSync(file)));
  const text = stored.toString("latin1");
  const addresses = new Set(text.match(/https?:\/\/[\w.:/-]+/g));
  const near = `https://${domain}/v2/_strata/near`;
  const blocks = [0, 1, 2].map((block) => `${near}/${digestOf(large)}/${block}`);
  const expected = [`${near}/${digestOf(layer)}`, ...blocks];
  // The database puts other columns behind an address.
  for (const address of addresses)
    assert.ok(
      expected.some((one) => address.startsWith(one)),
      address,
    );
  for (const one of expected)
    assert.ok(
      [...addresses].some((address) => address.startsWith(one)),
      one,
    );
  for (const secret of [NAME, user, "Basic", "Bearer", "authorization"]) assert.ok(!text.includes(secret), secret);
});

/** Returns the files that list the entries: the others are bytes of blobs. */
const filesOf = (at) =>
  readdirSync(at, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.sqlite/.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
