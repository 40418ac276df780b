// Counts how often each end-point crosses from wasm to JavaScript. A crossing takes time, and its
// count is exact, unlike a time. A change that moves a number edits its row and says what it gains.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, password, start, user } from "./harness.mjs";
import { close, manifestOf, patch, whole } from "./push.mjs";

const name = "crossings/image";
const KIB = 1 << 10;
const blobs = Object.fromEntries(
  ["config", "layer", "whole", "closed", "patched"].map((what) => {
    const content = buffer(what === "config" || what === "layer" ? 2 * KIB : 64 * KIB, `crossings ${what}`);
    return [what, { content, digest: digestOf(content), size: content.length }];
  }),
);
const described = ({ digest, size }) => ({ digest, size });
const manifest = manifestOf(described(blobs.config), [described(blobs.layer)]);
const others = ["a", "b"].map((seed) =>
  manifestOf({ ...described(blobs.config), annotations: { seed } }, [described(blobs.layer)]),
);

let strata;
// Isolates that have answered a ping and read one stream. They cache nothing that the rows request.
let isolates;
let mirror;
let location;
const rows = [];

before(async () => {
  const vars = { STRATA_LOG: "errors" };
  strata = await start({ vars, isolates: 3 });
  isolates = [strata, strata.isolate(1), strata.isolate(2)];
  const upstreams = JSON.stringify([{ name: "up.example", address: strata.url.origin, insecure: true }]);
  const credentials = JSON.stringify({ "up.example": { user, password } });
  mirror = await start({ vars: { ...vars, STRATA_UPSTREAMS: upstreams, STRATA_UPSTREAM_CREDENTIALS: credentials } });

  for (const { digest, content } of [blobs.config, blobs.layer])
    expect(await whole(strata, name, digest, content), 201);
  for (const other of others) expect(await putManifest(other), 201);
  for (const isolate of isolates) {
    expect(await isolate.send("GET", "/v2/"), 200);
    expect(await getManifest(others[0])(isolate), 200);
  }
  expect(await getManifest(others[0], "up.example/")(mirror), 200);
});

after(async () => {
  await mirror.stop();
  await strata.stop();
  console.log(["| request | crossings |", "| --- | --- |", ...rows].join("\n"));
});

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const putManifest = ({ body, digest, mediaType }, reference = digest) =>
  strata.send("PUT", `/v2/${name}/manifests/${reference}`, { body, headers: { "content-type": mediaType } });
const getManifest =
  ({ digest, mediaType }, prefix = "", reference = digest) =>
  (isolate) =>
    isolate.send("GET", `/v2/${prefix}${name}/manifests/${reference}`, { headers: { accept: mediaType } });
const blob =
  (method, { digest }) =>
  (isolate) =>
    isolate.send(method, `/v2/${name}/blobs/${digest}`);

/** Returns the crossings of an isolate once it makes no more: writes to KV follow the reply. */
async function settled(isolate) {
  for (let last; ; ) {
    const crossings = await isolate.crossings();
    const sum = Object.values(crossings).reduce((total, count) => total + count, 0);
    if (sum === last) return { crossings, sum };
    last = sum;
    await setTimeout(50);
  }
}

/**
 * Sends one request, and holds its crossings to a number. `tier` is the reply's tier, and `why` the
 * composition of the number.
 */
function row(what, bound, why, step, { tier, status = 200, on = () => strata } = {}) {
  test(`${what}: ${bound}, ${why}`, async () => {
    await settled(on());
    await on().reset();
    const reply = await step(on());
    expect(reply, status);
    assert.equal(reply.headers["x-strata-tier"], tier);
    const { crossings, sum } = await settled(on());
    rows.push(`| ${what} | ${sum} |`);
    const seen = Object.entries(crossings).map(([name, count]) => `${count} ${name}`);
    assert.equal(sum, bound, seen.sort().join("\n"));
  });
}

/** Starts an upload, and keeps its location. */
async function started(sent) {
  const reply = await sent;
  ({ location } = reply.headers);
  return reply;
}

/** Reads something so often that memory and KV have it. */
const popular = (what, step) =>
  test(what, async () => {
    for (let time = 0; time < 30; time += 1) expect(await step(isolates[1]), 200);
    await settled(isolates[1]);
  });

row("GET /v2/", 7, "the request, its body, its reply, and the clock 4 times", (isolate) => isolate.send("GET", "/v2/"));
row(
  "POST ?digest= of 64 KiB",
  157,
  "2 heads and 3 puts of R2",
  (isolate) => whole(isolate, name, blobs.whole.digest, blobs.whole.content),
  { status: 201 },
);
row(
  "POST",
  68,
  "1 put of R2, and a body that is given up",
  (isolate) => started(isolate.send("POST", `/v2/${name}/blobs/uploads/`)),
  { status: 202 },
);
row(
  "PUT of 64 KiB",
  212,
  "4 heads, 3 puts and 1 delete of R2",
  (isolate) => close(isolate, location, blobs.closed.digest, blobs.closed.content),
  { status: 201 },
);
test("another upload is begun", async () =>
  expect(await started(strata.send("POST", `/v2/${name}/blobs/uploads/`)), 202));
row(
  "PATCH of 64 KiB",
  166,
  "2 heads and 2 puts of R2, and 1 read that is hashed",
  (isolate) => patch(isolate, location, blobs.patched.content),
  { status: 202 },
);
row(
  "PUT manifest of 1 layer by tag",
  419,
  "3 heads, 2 gets, 4 puts and 1 list of R2, and 3 bodies read",
  () => putManifest(manifest, "latest"),
  { status: 201 },
);

row("GET manifest, cold", 80, "1 get of KV with a timer, and 1 get of R2 whose body is read", getManifest(manifest), {
  tier: "cold",
  on: () => isolates[1],
});
popular("the manifest becomes popular", getManifest(manifest));
row("GET manifest, hot", 10, "the crossings of a ping, and the clock 3 times", getManifest(manifest), {
  tier: "hot",
  on: () => isolates[1],
});
row("GET manifest, warm", 83, "1 get of KV with a timer, decompressed and hashed", getManifest(manifest), {
  tier: "warm",
  on: () => isolates[2],
});
row("GET manifest by tag, hot", 39, "1 head of R2", getManifest(manifest, "", "latest"), {
  tier: "hot",
  on: () => isolates[2],
});

row("GET blob, cold", 116, "2 gets of R2 whose bodies are read", blob("GET", blobs.config), {
  tier: "cold",
  on: () => isolates[1],
});
popular("the blob becomes popular", blob("GET", blobs.config));
row("GET blob, hot", 14, "the crossings of a ping, the clock 6 times, and a view", blob("GET", blobs.config), {
  tier: "hot",
  on: () => isolates[1],
});
row("HEAD blob, hot", 9, "the crossings of a ping, and the clock twice", blob("HEAD", blobs.config), {
  tier: "hot",
  on: () => isolates[1],
});

row("GET tags, 1 of them", 45, "1 list of R2, and bytes made here", (isolate) =>
  isolate.send("GET", `/v2/${name}/tags/list`),
);
row(
  "DELETE tag",
  93,
  "1 head and 1 put of R2, and a body that is given up",
  (isolate) => isolate.send("DELETE", `/v2/${name}/manifests/latest`),
  { status: 202 },
);
row(
  "GET /v2/, a wrong password",
  42,
  "2 calls of crypto.subtle, and a line of the log",
  (isolate) => isolate.send("GET", "/v2/", { headers: { authorization: basic(user, "guess") } }),
  { status: 401 },
);
row(
  "GET manifest, mirrored, not stored",
  380,
  "1 fetch with a timer, and some 10 for each header of the response",
  getManifest(others[1], "up.example/"),
  { tier: "upstream", on: () => mirror },
);
