// The tiers on the real runtime: each read's calls of R2 and KV, and the replies if one of them
// fails.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { manifestOf, whole } from "./push.mjs";

const name = "tiers/image";

let strata;
let others;

before(async () => {
  strata = await start({ isolates: 3 });
  others = [strata.isolate(1), strata.isolate(2)];
});
after(() => strata.stop());
beforeEach(() => strata.reset());

/** Pushes an image for a test: a configuration of 2 KiB, and layers of these sizes. */
async function image(seed, ...sizes) {
  const blobs = [2 << 10, ...sizes].map((size, index) => {
    const content = buffer(size, `${seed} ${index}`);
    return { content, digest: digestOf(content), size };
  });
  for (const { content, digest } of blobs) assert.equal((await whole(strata, name, digest, content)).status, 201);
  const manifest = manifestOf(blobs[0], blobs.slice(1));
  const headers = { "content-type": manifest.mediaType };
  const reply = await strata.send("PUT", `/v2/${name}/manifests/${seed}`, { body: manifest.body, headers });
  assert.equal(reply.status, 201, reply.body.toString());
  const pulls = [
    { path: `/v2/${name}/manifests/${manifest.digest}`, content: Buffer.from(manifest.body) },
    ...blobs.map(({ content, digest }) => ({ path: `/v2/${name}/blobs/${digest}`, content })),
  ];
  return { tag: `/v2/${name}/manifests/${seed}`, manifest: pulls[0], blobs: pulls.slice(1), pulls };
}

/** Sends a request, and asserts its tier and its calls, such as `{ "r2.get": 1 }`. */
async function costs(isolate, path, tier, expected, method = "GET") {
  await isolate.reset();
  const reply = await isolate.send(method, path);
  assert.equal(reply.status, 200, reply.body.toString());
  // Writes to KV follow the reply.
  const found = Object.fromEntries(Object.entries(await isolate.counts()).map(([call, { calls }]) => [call, calls]));
  delete found["kv.put"];
  assert.deepEqual(found, expected, `${method} ${path}: ${reply.headers["server-timing"]}`);
  assert.equal(reply.headers["x-strata-tier"], tier);
  return reply;
}

/** Pulls an image until all of it is warm. Returns a function for its keys in KV. */
async function popularise(isolate, pulls) {
  for (let round = 0; round < 3; round += 1) {
    for (const { path } of pulls) assert.equal((await isolate.send("GET", path)).status, 200);
  }
  const namespace = await strata.namespace();
  const key = ({ path }) => {
    const digest = path.split("/").at(-1).split(":")[1];
    return path.includes("/manifests/")
      ? `repositories/${name}/_manifests/sha256/${digest}`
      : `blobs/sha256/${digest.slice(0, 2)}/${digest}`;
  };
  for (const pull of pulls) await until(async () => (await namespace.get(key(pull), "arrayBuffer")) !== null);
  return key;
}

async function until(holds) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail("the condition did not hold in time");
}

describe("operations", () => {
  test("a manifest costs R2 one read when it is cold, none when it is hot, and a tag one", async () => {
    const { manifest, tag } = await image("manifest", 100);
    await costs(others[0], manifest.path, "cold", { "kv.get": 1, "r2.get": 1 });
    const hot = await costs(others[0], manifest.path, "hot", {});
    assert.deepEqual(hot.body, manifest.content);
    await costs(others[0], manifest.path, "hot", {}, "HEAD");
    await costs(others[0], tag, "hot", { "r2.head": 1 });
  });

  for (const [what, size] of [
    ["1 KiB", 1 << 10],
    ["1 MiB", 1 << 20],
  ]) {
    test(`a blob of ${what} costs nothing when it is hot`, async () => {
      const { blobs } = await image(`blob${size}`, size);
      const [, layer] = blobs;
      await costs(others[0], layer.path, "cold", { "r2.get": 2 });
      const hot = await costs(others[0], layer.path, "hot", {});
      assert.ok(hot.body.equals(layer.content));
      assert.equal(hot.headers["content-length"], String(size));
      await costs(others[0], layer.path, "hot", {}, "HEAD");
    });
  }

  test("a blob above 1 MiB streams from R2, by a link that is hot", async () => {
    const { blobs } = await image("large", (1 << 20) + 1);
    await costs(others[0], blobs[1].path, "cold", { "r2.get": 2 });
    const reply = await costs(others[0], blobs[1].path, "cold", { "r2.get": 1 });
    assert.ok(reply.body.equals(blobs[1].content));
    await costs(others[0], blobs[1].path, "hot", {}, "HEAD");
  });

  test("objects that one isolate has promoted are warm in another, without a read of R2", async () => {
    const { pulls } = await image("shared", 100, 100 << 10, 1 << 20);
    await popularise(others[0], pulls);
    for (const { path, content } of pulls) {
      const reply = await costs(others[1], path, "warm", { "kv.get": 1 });
      assert.ok(reply.body.equals(content));
      await costs(others[1], path, "hot", {});
    }
  });

  test("a push promotes nothing", async () => {
    await image("pushed", 100);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal((await strata.counts())["kv.put"], undefined);
  });
});

describe("64 clients at once", () => {
  const crowd = async (isolate, path) => {
    await isolate.reset();
    return Promise.all(Array.from({ length: 64 }, () => isolate.send("GET", path)));
  };

  test("are one read of R2", async () => {
    const { manifest, blobs } = await image("crowd", 50_000);
    for (const { path, content } of [manifest, blobs[1]]) {
      const replies = await crowd(others[0], path);
      assert.ok(replies.every(({ status, body }) => status === 200 && body.equals(content)));
      const counts = await others[0].counts();
      // A blob costs a read of its link as well. KV is asked once, at first or before a promotion.
      assert.equal(counts["r2.get"].calls, path === manifest.path ? 1 : 2);
      assert.ok((counts["kv.get"]?.calls ?? 0) <= 1);
    }
  });

  for (const [times, failed] of [
    [1, 0],
    [4, 1],
  ]) {
    test(`are all answered if the leader's read fails ${times} times`, async () => {
      const { manifest } = await image(`failing${times}`, 100);
      await others[0].reset();
      await others[0].fail({ call: "r2.get", key: "repositories/", times });
      const replies = await Promise.all(Array.from({ length: 64 }, () => others[0].send("GET", manifest.path)));
      // The leader fails after four attempts. The requests that waited for it try themselves.
      const statuses = replies.map(({ status }) => status).filter((status) => status !== 200);
      assert.deepEqual(
        statuses,
        Array.from({ length: failed }, () => 503),
      );
      assert.equal(await others[0].pendingFaults(), 0);
    });
  }
});

describe("a tier that fails", () => {
  for (const call of ["kv.get", "kv.put", "r2.get", "r2.head"]) {
    test(`is bypassed if ${call} fails, each call in turn`, async () => {
      const { pulls, tag } = await image(`failing-${call}`, 100, 100 << 10);
      await popularise(others[0], pulls);
      for (let nth = 1; nth <= 4; nth += 1) {
        await others[1].reset();
        await others[1].fail({ call, nth });
        for (const { path, content } of [...pulls, { path: tag, content: pulls[0].content }]) {
          const reply = await others[1].send("GET", path);
          assert.equal(reply.status, 200, reply.body.toString());
          assert.ok(reply.body.equals(content));
        }
      }
    });
  }

  test("serves no corrupt value, and deletes it", async () => {
    const { pulls } = await image("poisoned", 100, 100 << 10);
    const key = await popularise(others[0], pulls);
    const namespace = await strata.namespace();
    // The manifest says which blobs are warm.
    await costs(others[1], pulls[0].path, "warm", { "kv.get": 1 });
    for (const pull of pulls) {
      const isolate = pull === pulls[0] ? strata : others[1];
      const sealed = Buffer.from(await namespace.get(key(pull), "arrayBuffer"));
      sealed[sealed.length - 10] ^= 1;
      await namespace.put(key(pull), Uint8Array.from(sealed).buffer);
      const reply = await isolate.send("GET", pull.path);
      assert.equal(reply.status, 200);
      assert.ok(reply.body.equals(pull.content));
      assert.equal(reply.headers["x-strata-tier"], "cold");
      assert.equal(await namespace.get(key(pull), "arrayBuffer"), null);
    }
    assert.match(strata.log(), /"message":"tier bypassed".*"reason":"poisoned"/);
  });

  test("is not waited for if KV is slow", { timeout: 30_000 }, async () => {
    const { manifest } = await image("slow", 100);
    await others[0].reset();
    await others[0].fail({ call: "kv.get", delay: 20_000 });
    const reply = await others[0].send("GET", manifest.path);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["x-strata-tier"], "cold");
  });
});

describe("KV that is slow", () => {
  let pushed;
  let other;

  before(async () => {
    pushed = await start({ isolates: 2, vars: { STRATA_WARM_HEDGE_MS: "250", STRATA_WARM_READS: "1" } });
    other = pushed.isolate(1);
  });
  after(() => pushed.stop());

  for (const [what, kv, r2, tier, expected] of [
    ["quick", 5, 0, "warm", undefined],
    ["slower than R2", 2000, 0, "cold", 1],
    ["slow, and R2 slower", 1000, 3000, "warm", 1],
  ]) {
    test(`is asked beside R2: ${what}`, async () => {
      const content = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [], annotations: { what } }));
      const hash = digestOf(content).split(":")[1];
      const path = `/v2/${name}/manifests/sha256:${hash}`;
      const headers = { "content-type": "application/vnd.oci.image.index.v1+json" };
      assert.equal((await pushed.send("PUT", path, { body: content, headers })).status, 201);
      assert.equal((await pushed.send("GET", path)).status, 200);
      const namespace = await pushed.namespace();
      const key = `repositories/${name}/_manifests/sha256/${hash}`;
      await until(async () => (await namespace.get(key, "arrayBuffer")) !== null);
      await other.reset();
      await other.fail({ call: "kv.get", delay: kv, fails: false });
      await other.fail({ call: "r2.get", delay: r2, fails: false });
      const reply = await other.send("GET", path);
      assert.equal(reply.status, 200, reply.body.toString());
      assert.ok(reply.body.equals(content));
      assert.equal(reply.headers["x-strata-tier"], tier);
      const { "kv.get": kvGet, "r2.get": r2Get } = await other.counts();
      // After a reply from R2, KV is asked once more before the promotion.
      assert.ok(kvGet.calls === 1 || (tier === "cold" && kvGet.calls === 2), `${kvGet.calls} reads of KV`);
      assert.equal(r2Get?.calls, expected);
    });
  }
});

test("a deleted object is served by no tier of this isolate", async () => {
  const { pulls, manifest } = await image("deleted", 100);
  const key = await popularise(others[0], pulls);
  assert.equal((await others[0].send("DELETE", manifest.path)).status, 202);
  assert.equal((await others[0].send("GET", manifest.path)).status, 404);
  assert.equal(await (await strata.namespace()).get(key(manifest), "arrayBuffer"), null);
  for (const { path } of pulls.slice(1)) {
    assert.equal((await others[0].send("DELETE", path)).status, 202);
    assert.equal((await others[0].send("GET", path)).status, 404);
  }
});

test("each request has a line in the log with the id that the client got", async () => {
  const { manifest } = await image("logged", 100);
  const reply = await others[0].send("GET", manifest.path);
  const id = reply.headers["x-request-id"];
  assert.match(id, /^[0-9a-f]{12}-\d+$/);
  await until(() => strata.log().includes(id));
  const line = JSON.parse(
    strata
      .log()
      .split("\n")
      .find((text) => text.includes(id)),
  );
  const { message, request, method, route, repository, status, tier } = line;
  assert.deepEqual(
    { message, request, method, route, repository, status, tier },
    {
      message: "request",
      request: id,
      method: "GET",
      route: "manifest",
      repository: name,
      status: "200",
      tier: "cold",
    },
  );
  assert.ok(!strata.log().includes("authorization") && !strata.log().includes("Basic "));
});
