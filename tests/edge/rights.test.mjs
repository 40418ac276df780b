// Rights in mirrored repositories, on the real runtime: no manifest, no HEAD and no data of an
// older version gives access to a blob.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { skipFor } from "../clients/tools.mjs";
import { archive } from "./archive.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { start, user } from "./harness.mjs";
import { whole } from "./push.mjs";
import { fill, fillBlob, imageOf, missing, startDistribution, startProxy } from "./upstream.mjs";

const INDEX = "application/vnd.oci.image.index.v1+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar";

// The layer that only `team/secret` serves. It is an archive, so that its files could be read.
const secret = archive([{ path: "etc/shadow", content: Buffer.from("the secret") }]);
const hidden = digestOf(secret);
const named = { mediaType: LAYER, digest: hidden, size: secret.length };
const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(Buffer.from("{}")), size: 2 };

/** The documents by which an upstream may name a blob that it does not have. */
const documents = [
  ["an index with blobs", { schemaVersion: 2, mediaType: INDEX, manifests: [], blobs: [named] }],
  ["a layer", { schemaVersion: 2, mediaType: MANIFEST, config, layers: [named] }],
  ["a config", { schemaVersion: 2, mediaType: MANIFEST, config: named, layers: [config] }],
  ["a child", { schemaVersion: 2, mediaType: INDEX, manifests: [{ ...named, mediaType: MANIFEST }] }],
].map(([what, document]) => {
  const content = Buffer.from(JSON.stringify(document));
  return { what, mediaType: document.mediaType, content, digest: digestOf(content) };
});

const keyOf = (digest) => digest.replace(":", "/");
const nobody = { authorization: undefined };

let folder;
let distribution;
let proxy;
let strata;
let mirror;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "strata-rights-"));
  distribution = missing ? undefined : await startDistribution(folder);
  proxy = await startProxy(distribution?.url ?? "http://127.0.0.1:9/");
});
after(async () => {
  await strata?.stop();
  await proxy?.stop();
  await distribution?.stop();
  if (folder) await rm(folder, { recursive: true });
});

/** Starts a mirror over a bucket with the secret, which only the signed-in user may read. */
async function fresh(upstreams = [{ name: "up.example", ranges: "store" }]) {
  await strata?.stop();
  const rules = [
    {
      repositories: ["**"],
      who: [`user:${user}`],
      may: ["pull", "push", "overwrite", "delete", "administer", "metrics"],
    },
    { repositories: ["up.example/**"], who: ["everyone"], may: ["pull"] },
    { repositories: ["open/**"], who: ["everyone"], may: ["pull", "push"] },
  ];
  const settings = upstreams.map((upstream) => ({
    ...upstream,
    address: proxy.address,
    insecure: true,
    fresh_seconds: 0,
  }));
  strata = await start({
    isolates: 2,
    vars: { STRATA_UPSTREAMS: JSON.stringify(settings), STRATA_RULES: JSON.stringify(rules) },
  });
  proxy.calm();
  proxy.asked();
  mirror = strata.isolate(1);
  assert.equal((await whole(strata, "team/secret", hidden, secret)).status, 201);
}

/** Makes the upstream serve this document and nothing else. */
function serve({ content, mediaType, digest }, remote = "x") {
  proxy.trouble(/./, { status: 404 });
  for (const reference of ["v1", digest])
    proxy.trouble(new RegExp(`^GET /v2/${remote}/manifests/${reference}$`), {
      status: 200,
      body: content,
      headers: { "content-type": mediaType },
    });
}

/** Asserts that no way through a mirrored repository leads to the secret. */
async function assertClosed(what, name = "up.example/x") {
  for (const isolate of [strata, mirror]) {
    for (const line of [
      `GET /v2/${name}/blobs/${hidden}`,
      `HEAD /v2/${name}/blobs/${hidden}`,
      `GET /v2/${name}/_strata/layers/${hidden}`,
      `GET /v2/${name}/_strata/layers/${hidden}/files/etc/shadow`,
      `GET /v2/${name}/_strata/images/v1/files/etc/shadow`,
    ]) {
      const [method, path] = line.split(" ");
      for (const range of [undefined, "bytes=0-3"]) {
        const reply = await isolate.send(method, path, { headers: { ...nobody, range } });
        assert.ok(reply.status >= 400, `${what}: ${line}: ${reply.status} ${reply.body.subarray(0, 200)}`);
      }
    }
  }
  for (const from of [`&from=${name}`, ""]) {
    const reply = await strata.send("POST", `/v2/open/x/blobs/uploads/?mount=${hidden}${from}`, { headers: nobody });
    assert.equal(reply.status, 202, `${what}: mounted${from}`);
  }
  assert.equal((await strata.send("GET", `/v2/open/x/blobs/${hidden}`, { headers: nobody })).status, 404, what);
}

const pull = (isolate, path) => isolate.send("GET", path, { headers: nobody });

/** Waits until something is stored, which follows the reply. */
async function until(holds) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await holds()) return;
    await sleep(25);
  }
  assert.fail("the condition did not hold in time");
}

/** Returns the metadata of an object in the bucket. */
async function metadata(key) {
  const object = await (await strata.bucket()).head(key);
  return object?.customMetadata?.strata;
}

const grantsOf = async (name, digest) => {
  const objects = await strata.objects(`refs/${keyOf(digest)}/${name}/_grants/`);
  return (await Promise.all(objects.map(({ key }) => metadata(key)))).map((text) => JSON.parse(text).reason).sort();
};

describe("a mirrored repository", () => {
  for (const document of documents) {
    test(`gets no right to a blob from ${document.what} that an upstream sent`, async () => {
      await fresh();
      serve(document);
      const { status } = await pull(strata, "/v2/up.example/x/manifests/v1");
      await pull(mirror, `/v2/up.example/x/manifests/${document.digest}`);
      if (status === 200)
        await until(async () => (await strata.objects("repositories/up.example/x/_tags/v1")).length > 0);
      await assertClosed(document.what);
    });
  }

  test("gets no right from an index that distribution stores", { skip: skipFor(missing) }, async () => {
    await fresh();
    const blob = buffer(100, "of the upstream");
    const image = imageOf("child", 100);
    await fill(distribution.url, "x", "child", image);
    await fillBlob(distribution.url, "x", digestOf(blob), blob);
    const child = {
      mediaType: image.manifest.mediaType,
      digest: image.manifest.digest,
      size: image.manifest.content.length,
    };
    const content = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [child], blobs: [named] }),
    );
    await fill(distribution.url, "x", "v1", { manifest: { content, mediaType: INDEX }, blobs: [] });
    const { status } = await pull(strata, "/v2/up.example/x/manifests/v1");
    if (status === 200)
      await until(async () => (await strata.objects("repositories/up.example/x/_tags/v1")).length > 0);
    await assertClosed("distribution");
    // Blobs that the upstream has are still mirrored.
    const pulled = await pull(strata, `/v2/up.example/x/blobs/${digestOf(blob)}`);
    assert.ok(pulled.body.equals(blob));
    assert.deepEqual(await grantsOf("up.example/x", digestOf(blob)), ["filled"]);
    assert.equal(await metadata(`refs/${keyOf(digestOf(blob))}/up.example/x/_link`), '{"reason":"filled"}');
  });

  test("gets no right from a HEAD of its upstream", async () => {
    await fresh();
    proxy.trouble(/./, { status: 404 });
    for (const length of [secret.length, 5]) {
      proxy.trouble(/^HEAD .*\/blobs\//, { status: 200, body: Buffer.alloc(length) });
      // A client's HEAD gets the upstream's answer, which tells nothing about this registry. It
      // gives no right to the bytes.
      assert.equal((await pull(strata, `/v2/up.example/x/blobs/${hidden}`)).status, 404);
      assert.deepEqual(await grantsOf("up.example/x", hidden), []);
      assert.equal((await pull(mirror, `/v2/up.example/x/_strata/layers/${hidden}`)).status, 404);
    }
    // Other bytes give no right, either.
    proxy.trouble(/^GET .*\/blobs\//, { status: 200, body: Buffer.alloc(secret.length) });
    assert.equal((await pull(strata, `/v2/up.example/x/blobs/${hidden}`)).status, 502);
    assert.deepEqual(await grantsOf("up.example/x", hidden), []);
  });

  test("gets no right from grants, links and KV values of an older version", async () => {
    await fresh();
    proxy.trouble(/./, { status: 404 });
    const bucket = await strata.bucket();
    const put = (key, body, strata) =>
      bucket.put(key, body, strata === undefined ? {} : { customMetadata: { strata: JSON.stringify(strata) } });
    const record = { kind: "bytes", size: secret.length };
    for (const { content, mediaType, digest } of documents) {
      await put(`repositories/up.example/x/_manifests/${keyOf(digest)}`, content.toString(), { mediaType });
      await put(`refs/${keyOf(hidden)}/up.example/x/_grants/${digest.slice(-8)}`, "", { reason: "manifest", digest });
    }
    await put(`refs/${keyOf(hidden)}/up.example/x/_grants/upload`, "", { reason: "upload" });
    await put(`refs/${keyOf(hidden)}/up.example/x/_grants/claim`, "", { reason: "claim" });
    await put(`refs/${keyOf(hidden)}/up.example/x/_link`, JSON.stringify(record));
    const warm = await strata.namespace();
    for (const { content, mediaType, digest } of documents) {
      const confirmed = Date.now();
      const header = Buffer.from(
        JSON.stringify({ mediaType, size: content.length, confirmed, links: [{ digest: hidden, record, confirmed }] }),
      );
      const length = Buffer.alloc(4);
      length.writeUInt32BE(header.length);
      const value = Buffer.concat([
        Buffer.from("strata\x01"),
        length,
        createHash("sha256").update(header).digest(),
        header,
        content,
      ]);
      await warm.put(`repositories/up.example/x/_manifests/${keyOf(digest)}`, Uint8Array.from(value).buffer);
    }
    for (const { what, digest } of documents) {
      const reply = await pull(strata, `/v2/up.example/x/manifests/${digest}`);
      if (reply.status === 200) assert.equal(reply.headers["x-strata-tier"], "warm", what);
    }
    await assertClosed("planted");
    // While the upstream fails, the message says why it is needed.
    proxy.trouble(/./, { status: 500 });
    const reply = await pull(mirror, `/v2/up.example/x/blobs/${hidden}`);
    assert.equal(reply.status, 502);
    assert.match(reply.body.toString(), /must be fetched from the upstream again: upstream up\.example failed/);
    // Once the upstream sends the bytes, they give the right.
    proxy.trouble(/\/blobs\//, { status: 200, body: secret });
    await until(async () => (await pull(mirror, `/v2/up.example/x/blobs/${hidden}`)).status === 200);
    assert.ok((await grantsOf("up.example/x", hidden)).includes("filled"));
    proxy.trouble(/./, { status: 404 });
    // The other isolate caches for a moment that the repository has no right.
    await until(async () => (await pull(strata, `/v2/up.example/x/blobs/${hidden}`)).body.equals(secret));
  });
});
