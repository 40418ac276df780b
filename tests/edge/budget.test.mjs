// Counts each end-point's operations of R2 and KV and holds them to a budget, because the platform
// bills and limits operations.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { archive } from "./archive.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { password, start, user } from "./harness.mjs";
import { begin, close, manifestOf, patch, whole } from "./push.mjs";

const name = "budget/image";
const blobs = Array.from({ length: 6 }, (_, index) => {
  const content = buffer(2000 + index, `budget ${index}`);
  return { content, digest: digestOf(content), size: content.length };
});
const [config, ...layers] = blobs.map(({ digest, size }) => ({ digest, size }));
const manifest = manifestOf(config, layers);
// R2 bills writes and lists as class A, reads as class B, and no deletes.
const CLASS_A = /^r2\.(put|list|createMultipartUpload|uploadPart|complete)$/;
const CLASS_B = /^r2\.(get|head)$/;

let strata;
// Isolates with empty caches, for requests to a new isolate.
let others;
// A mirror of `strata` as two upstreams: the tags of one stay fresh, those of the other are stale
// at once.
let mirror;
/** The rows of docs/costs.md. */
const rows = [];

before(async () => {
  strata = await start({ isolates: 10, vars: { STRATA_ANONYMOUS_PULL: "true", STRATA_TAG_SECONDS: "600" } });
  others = Array.from({ length: 9 }, (_, index) => strata.isolate(index + 1));
  const upstream = { address: strata.url.origin, insecure: true };
  const upstreams = [
    { name: "fresh.example", ...upstream },
    { name: "stale.example", fresh_seconds: 0, ...upstream },
  ];
  const login = { user, password };
  const vars = {
    STRATA_UPSTREAMS: JSON.stringify(upstreams),
    STRATA_UPSTREAM_CREDENTIALS: JSON.stringify({ "fresh.example": login, "stale.example": login }),
  };
  mirror = await start({ vars });
});
after(async () => {
  await mirror.stop();
  await strata.stop();
});

/**
 * Runs one step, and holds its operations to `[R2 class A, class B, deletes, KV reads, writes]`. A
 * missing number is 0.
 */
function budget(what, bound, step, isolate = () => strata) {
  rows.push(`| ${what} | ${[0, 1, 2, 3, 4].map((index) => bound[index] ?? 0).join(" | ")} |`);
  test(`${what} within ${bound.join(", ")}`, async () => {
    await isolate().reset();
    await step(isolate());
    const calls = await settled(isolate());
    const count = (pattern) => calls.filter(({ call }) => pattern.test(call)).length;
    const found = [CLASS_A, CLASS_B, /^r2\.(delete|abort)$/, /^kv\.(get|list)$/, /^kv\.(put|delete)$/].map(count);
    const seen = calls.map(({ call, key }) => `${call} ${key}`).join("\n");
    for (const [index, calls] of found.entries())
      assert.ok(calls <= (bound[index] ?? 0), `${found} where at most ${bound}:\n${seen}`);
  });
}

/** Returns the calls of an isolate once it makes no more: writes to KV follow the reply. */
async function settled(isolate) {
  for (let last; ; ) {
    const calls = await isolate.calls();
    if (calls.length === last) return calls;
    last = calls.length;
    await setTimeout(20);
  }
}

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const accept = { accept: manifest.mediaType };
const putManifest = ({ body, digest, mediaType }, reference = digest) =>
  strata.send("PUT", `/v2/${name}/manifests/${reference}`, { body, headers: { "content-type": mediaType } });

budget("GET /v2/", [0, 0, 0], async () => expect(await strata.send("GET", "/v2/"), 200));

budget("POST ?digest=", [3, 2, 0], async () => {
  const [{ content, digest }] = blobs;
  expect(await whole(strata, name, digest, content), 201);
});

budget("POST, PUT", [4, 4, 1], async () => {
  const [, { content, digest }] = blobs;
  expect(await close(strata, await begin(strata, name), digest, content), 201);
});

budget("POST, PATCH, PUT", [8, 3, 0], async () => {
  const [, , { content, digest }] = blobs;
  const patched = await patch(strata, await begin(strata, name), [content]);
  expect(patched, 202);
  expect(await close(strata, patched.headers.location, digest), 201);
});

budget("POST, PATCH of 2 parts, PUT", [11, 3, 0], async () => {
  const content = buffer(6 << 20, "budget parts");
  const patched = await patch(strata, await begin(strata, name), [content]);
  expect(patched, 202);
  expect(await close(strata, patched.headers.location, digestOf(content)), 201);
});

test("the other layers", async () => {
  for (const { content, digest } of blobs.slice(3)) expect(await whole(strata, name, digest, content), 201);
});

budget("POST ?digest= of a blob another repository holds", [2, 3, 0], async () => {
  const [{ content, digest }] = blobs;
  expect(await whole(strata, "budget/other", digest, content), 201);
});

for (const [method, what, bound] of [
  ["HEAD", "cold", [0, 2]],
  ["HEAD", "hot", []],
  ["GET", "its link hot", [0, 1]],
  ["GET", "hot", []],
]) {
  budget(`${method} blob, ${what}`, bound, async () => {
    expect(await strata.send(method, `/v2/${name}/blobs/${config.digest}`), 200);
  });
}

budget("GET blob, pushed by PATCH, cold", [0, 2], async () => {
  expect(await strata.send("GET", `/v2/${name}/blobs/${blobs[2].digest}`), 200);
});

budget("HEAD blob that is not there", [1, 1, 0], async () => {
  expect(await strata.send("HEAD", `/v2/${name}/blobs/${digestOf(Buffer.from("nothing"))}`), 404);
});

budget("PUT manifest of 5 layers by tag", [10, 14, 0], async () => expect(await putManifest(manifest, "latest"), 201));

for (const [method, reference, what, bound] of [
  ["GET", "latest", "by tag, cold", [0, 2, 0, 1]],
  ["GET", "latest", "by tag, hot", [0, 1]],
  ["HEAD", "latest", "by tag, hot", [0, 1, 0, 0, 1]],
  ["GET", manifest.digest, "by digest, hot", []],
  ["HEAD", manifest.digest, "by digest, hot", []],
]) {
  budget(`${method} manifest ${what}`, bound, async () => {
    expect(await strata.send(method, `/v2/${name}/manifests/${reference}`, { headers: accept }), 200);
  });
}

budget("GET manifest by tag, believed, hot", [], async () => {
  const headers = { ...accept, authorization: undefined };
  expect(await strata.send("GET", `/v2/${name}/manifests/latest`, { headers }), 200);
});

budget("GET tags", [1, 0, 0], async () => expect(await strata.send("GET", `/v2/${name}/tags/list`), 200));

budget("GET catalogue", [1, 0, 0], async () => expect(await strata.send("GET", "/v2/_catalog"), 200));

budget("POST ?mount=&from=", [2, 3, 0], async () => {
  const at = `/v2/budget/mounted/blobs/uploads/?mount=${config.digest}&from=${name}`;
  expect(await strata.send("POST", at), 201);
});

budget("POST ?mount=", [3, 3, 0], async () => {
  expect(await strata.send("POST", `/v2/budget/anonymous/blobs/uploads/?mount=${config.digest}`), 201);
});

const referrers = layers.map((layer) => manifestOf(config, [layer], manifest));

budget("PUT manifest of 1 layer by digest, with a subject", [5, 5, 0], async () => {
  expect(await putManifest(referrers[0]), 201);
});

test("the other referrers", async () => {
  for (const referrer of referrers.slice(1)) expect(await putManifest(referrer), 201);
});

budget("GET referrers, 5 of them", [1, 5, 0], async () => {
  const reply = await strata.send("GET", `/v2/${name}/referrers/${manifest.digest}`);
  expect(reply, 200);
  assert.equal(reply.json().manifests.length, 5);
});

budget("GET referrers, none", [1, 0, 0], async () => {
  expect(await strata.send("GET", `/v2/${name}/referrers/${config.digest}`), 200);
});

const parts = digestOf(buffer(6 << 20, "budget parts"));
// The number of the large blob's extents depends on the speed of the download: at most 16 here, of
// at least 64 KiB each. A slow client also reads extents.
for (const [what, path, bound] of [
  ["manifest of 5 layers by tag, mirrored, not stored", "fresh.example/budget/image/manifests/latest", [10, 2]],
  ["manifest by tag, mirrored, fresh", "fresh.example/budget/image/manifests/latest", [0, 2, 0, 1]],
  ["blob, mirrored, not stored", `fresh.example/budget/image/blobs/${config.digest}`, [4, 6]],
  ["blob, mirrored, hot", `fresh.example/budget/image/blobs/${config.digest}`, [0, 1]],
  ["blob of 6 MiB, mirrored, not stored", `fresh.example/budget/image/blobs/${parts}`, [25, 21, 1]],
  ["blob of 6 MiB, mirrored, stored", `fresh.example/budget/image/blobs/${parts}`, [0, 18]],
  ["manifest by tag, mirrored, for another upstream", "stale.example/budget/image/manifests/latest", [10, 2]],
  [
    "manifest by tag, mirrored, to be asked for again and unchanged",
    "stale.example/budget/image/manifests/latest",
    [1, 3, 0, 1],
  ],
]) {
  budget(
    `GET ${what}`,
    bound,
    async () => expect(await mirror.send("GET", `/v2/${path}`, { headers: accept }), 200),
    () => mirror,
  );
}

budget("DELETE tag", [1, 1, 0], async () => expect(await strata.send("DELETE", `/v2/${name}/manifests/latest`), 202));

test("the tag again", async () => expect(await putManifest(manifest, "latest"), 201));

budget("DELETE manifest of 1 tag", [3, 1, 1, 0, 1], async () => {
  expect(await strata.send("DELETE", `/v2/${name}/manifests/${manifest.digest}`), 202);
});

budget("DELETE blob", [1, 0, 2], async () => {
  expect(await strata.send("DELETE", `/v2/budget/mounted/blobs/${config.digest}`), 202);
});

const trees = ["base", "middle", "top"]
  .map((layer) =>
    gzipSync(
      archive([
        { path: "etc/", type: "5", mode: 0o755 },
        { path: `etc/${layer}`, content: Buffer.from(`${layer}\n`) },
      ]),
    ),
  )
  .map((content) => ({ content, digest: digestOf(content), size: content.length }));
const [base] = trees;
const image = manifestOf(
  config,
  trees.map(({ digest, size }) => ({ digest, size })),
);

test("an image of layers with files", async () => {
  for (const { content, digest } of [blobs[0], ...trees]) expect(await whole(strata, name, digest, content), 201);
  expect(await putManifest(image), 201);
});

const inLayer = (path = "") => `/v2/${name}/_strata/layers/${base.digest}${path}`;
const inImage = (path) => `/v2/${name}/_strata/images/${image.digest}/files/${path}`;

for (const [what, isolate, path, bound] of [
  ["GET layer's contents, not indexed", 0, inLayer(), [1, 4, 0, 1]],
  ["GET layer's contents, cold", 1, inLayer(), [0, 2, 0, 1]],
  ["GET layer's contents, hot", 1, inLayer(), []],
  ["GET file in a layer, cold", 2, inLayer("/files/etc/base"), [0, 3, 0, 2, 1]],
  ["GET file in a layer, hot", 2, inLayer("/files/etc/base"), []],
  ["GET file in a layer, its span warm", 3, inLayer("/files/etc/base"), [0, 2, 0, 2]],
  ["GET directory of a layer, for the third time", 1, inLayer("/files/etc/"), [0, 0, 0, 0, 1]],
  ["GET file in a layer, its index hot and its span warm", 1, inLayer("/files/etc/base"), [0, 0, 0, 1]],
  ["GET file in a layer, its index and its span warm", 4, inLayer("/files/etc/base"), [0, 1, 0, 2]],
  ["HEAD file in a layer, its index warm", 5, inLayer("/files/etc/base"), [0, 1, 0, 1]],
  ["GET file in an image of 3 layers, two not indexed", 0, inImage("etc/top"), [2, 12, 0, 4, 1]],
  ["GET file in an image of 3 layers, cold but one index", 6, inImage("etc/middle"), [0, 9, 0, 5, 1]],
  ["GET file in an image of 3 layers, hot", 6, inImage("etc/middle"), []],
  ["GET directory of an image of 3 layers, cold but one index", 7, inImage("etc/"), [0, 8, 0, 4]],
  ["GET directory of an image of 3 layers, hot", 7, inImage("etc/"), []],
  // The manifest, and the two indexes that are not warm yet.
  ["GET directory of an image of 3 layers, for the third time", 7, inImage("etc/"), [0, 0, 0, 0, 3]],
  ["GET file in an image of 3 layers, its manifest, indexes and span warm", 8, inImage("etc/middle"), [0, 5, 0, 5]],
]) {
  const method = what.split(" ")[0];
  budget(
    what,
    bound,
    async (strata) => expect(await strata.send(method, path), 200),
    () => others[isolate],
  );
}

// `UPDATE=1 node --test tests/edge/budget.test.mjs` writes the table.
test("docs/costs.md has these budgets", () => {
  const file = new URL("../../docs/costs.md", import.meta.url);
  const page = readFileSync(file, "utf8");
  const head = ["| request | R2 A | R2 B | R2 deletes | KV reads | KV writes |", "|---|--:|--:|--:|--:|--:|"];
  const expected = page.replace(/^\| request .*\n(\|.*\n)*/m, `${[...head, ...rows].join("\n")}\n`);
  if (process.env.UPDATE) writeFileSync(file, expected);
  else assert.equal(page, expected, "run UPDATE=1 node --test tests/edge/budget.test.mjs");
});
