// The media type of a manifest on the real runtime: no header, no upstream and no label that was
// stored before decides it. Also the cost of a wrong push: the same whether another repository has
// the blob or not.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { buffer, digestOf } from "./bytes.mjs";
import { modulesOf, start } from "./harness.mjs";
import { begin, close, patch, whole } from "./push.mjs";

const IMAGE = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";
const LABEL = "application/vnd.example.image.manifest.v1+json";
const DAYS = 3;
const GRACE = 4;

const retention = [
  { repositories: ["fixed"], immutable_tags: ["v*"] },
  { repositories: ["**"], untagged_days: 2 },
];
const vars = {
  STRATA_RETENTION: JSON.stringify(retention),
  STRATA_STALE_SECONDS: "1",
};

let folder;
let strata;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "strata-types-"));
  strata = await start({ folder, vars, isolates: 2 });
});
after(async () => {
  await strata?.stop();
  if (folder) await rm(folder, { recursive: true });
});

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const hashOf = (digest) => digest.split(":")[1];
const put = (name, reference, mediaType, body) =>
  strata.send("PUT", `/v2/${name}/manifests/${reference}`, { body, headers: { "content-type": mediaType } });
/** Returns the media type by which another isolate serves a manifest. */
async function served(name, reference) {
  const reply = await strata.isolate(1).send("GET", `/v2/${name}/manifests/${reference}`);
  expect(reply, 200);
  return reply.headers["content-type"];
}

const blobs = [buffer(400, "types config"), buffer(4000, "types layer")];
const described = (mediaType, content) => ({ mediaType, digest: digestOf(content), size: content.length });
// Neither has a field `mediaType`, so the other fields decide their type.
const image = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    config: described("application/vnd.oci.image.config.v1+json", blobs[0]),
    layers: [described("application/vnd.oci.image.layer.v1.tar", blobs[1])],
  }),
);
const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [described(IMAGE, image)] }));

async function pushImage(name, reference) {
  for (const blob of blobs) expect(await whole(strata, name, digestOf(blob), blob), 201);
  expect(await put(name, reference, IMAGE, image), 201);
}

/**
 * Changes the label of a stored manifest, but not its bytes. Older versions let clients choose the
 * label.
 */
async function relabel(name, content, mediaType) {
  const bucket = await strata.bucket();
  const key = `repositories/${name}/_manifests/sha256/${hashOf(digestOf(content))}`;
  assert.ok(await bucket.head(key));
  await bucket.put(key, new Uint8Array(content), { customMetadata: { strata: JSON.stringify({ mediaType }) } });
}

test("an immutable tag is not relabelled", async () => {
  await pushImage("fixed", "v1");
  for (const mediaType of [INDEX, LABEL, "text/html"]) {
    for (const reference of ["v1", "v2", digestOf(image)]) {
      const reply = await put("fixed", reference, mediaType, image);
      expect(reply, 400);
      assert.match(reply.body.toString(), /content-type header says .* the manifest's bytes .*: send that/);
    }
    assert.equal(await served("fixed", "v1"), IMAGE);
  }
});

test("a media type that an older version stored is not served, and the scrub rewrites it", async () => {
  await pushImage("old", "v1");
  await relabel("old", image, "text/html");
  assert.equal(await served("old", "v1"), IMAGE);
  const found = [];
  for (let finished = false; !finished; ) {
    const body = (await strata.send("POST", "/v2/_strata/scrub")).json();
    found.push(...body.findings.map(({ found, what, repair }) => `${found} ${what}: ${repair}`));
    finished = body.finished;
  }
  assert.deepEqual(found, ["corrupt manifest: write"]);
  assert.equal(await served("old", "v1"), IMAGE);
});

test("an upstream does not choose the media type", async (t) => {
  let sent = image;
  const upstream = http.createServer((_, reply) => reply.writeHead(200, { "content-type": "text/html" }).end(sent));
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  t.after(() => upstream.close());
  const upstreams = [{ name: "up.example", address: `http://127.0.0.1:${upstream.address().port}`, insecure: true }];
  const mirror = await start({ vars: { STRATA_UPSTREAMS: JSON.stringify(upstreams) } });
  t.after(() => mirror.stop());
  const reply = await mirror.send("GET", "/v2/up.example/a/manifests/v1");
  expect(reply, 200);
  assert.equal(reply.headers["content-type"], IMAGE);
  const before = await mirror.objects();
  sent = Buffer.from('{"schemaVersion": 2, "layers": []}');
  const refused = await mirror.send("GET", "/v2/up.example/a/manifests/v2");
  expect(refused, 502);
  assert.match(refused.body.toString(), /no field .*mediaType/);
  assert.deepEqual(
    (await mirror.objects()).filter(({ key }) => !before.some((one) => one.key === key)),
    [],
  );
});

/** Returns the calls of the stores by a request and its reply, without ids. */
async function costs(send) {
  await strata.reset();
  const { status, headers, body } = await send();
  const { date, "x-request-id": _, ...rest } = headers;
  const calls = (await strata.calls()).map(({ call, key }) =>
    `${call} ${key ?? ""}`.replace(/[0-9a-f]{32}(?![0-9a-f])/g, "ID"),
  );
  const nameless = (text) =>
    text
      .replaceAll(/[0-9a-f]{64}/g, "HASH")
      .replaceAll(/sha256\/[0-9a-f]{2}\//g, "sha256/XX/")
      .replaceAll(/[0-9a-f-]{36}|[0-9a-f]{32}/g, "ID");
  return {
    calls: calls.map(nameless),
    status,
    headers: JSON.parse(nameless(JSON.stringify(rest))),
    body: nameless(body.toString()),
  };
}

test("the cost of a wrong push does not reveal that another repository has the blob", async () => {
  for (const size of [3000, 3 << 20]) {
    const [secret, none, wrong] = ["secret", "none", "wrong"].map((seed) => buffer(size, `types ${size} ${seed}`));
    expect(await whole(strata, "secret", digestOf(secret), secret), 201);
    const pushes = {
      whole: (digest) => whole(strata, "guess", digest, wrong),
      "without a length": (digest) => whole(strata, "guess", digest, [wrong]),
      "whole, by PUT": async (digest) => close(strata, await begin(strata, "guess"), digest, wrong),
      "by PATCH": async (digest) => {
        const sent = await patch(strata, await begin(strata, "guess"), [wrong.subarray(0, size / 2)]);
        return close(strata, sent.headers.location, digest, wrong.subarray(size / 2));
      },
    };
    for (const [what, push] of Object.entries(pushes)) {
      const there = await costs(() => push(digestOf(secret)));
      assert.deepEqual(there, await costs(() => push(digestOf(none))), what);
      assert.equal(there.status, 400, what);
    }
    const there = await costs(() => whole(strata, "guess", digestOf(secret), wrong));
    const kinds = there.calls.map((call) => call.split("/")[0]);
    assert.deepEqual(kinds, ["r2.head blobs", "r2.put refs", "r2.head sweep", "r2.put blobs", "r2.delete refs"]);
  }
  const left = (await strata.objects("refs/")).filter(({ key }) => key.includes("/guess/"));
  assert.deepEqual(left, []);
});

// The last test, because it starts the Worker again, days later.
test("an index that is labelled an image keeps the manifests that it lists", async () => {
  for (const name of ["attacked", "relabelled"]) {
    await pushImage(name, digestOf(image));
    expect(await put(name, "all", INDEX, index), 201);
  }
  const refused = await put("attacked", digestOf(index), LABEL, index);
  await pushImage("loose", digestOf(image));
  await relabel("relabelled", index, LABEL);
  await strata.stop();
  const modules = modulesOf(join(dirname(fileURLToPath(import.meta.url)), "../../worker/build"));
  const ahead = `const now = Date.now.bind(Date); Date.now = () => now() + ${DAYS * 24 * 3600 * 1000};\n`;
  const impatient = { ...vars, STRATA_GRACE_SECONDS: String(GRACE) };
  strata = await start({
    folder,
    vars: impatient,
    isolates: 2,
    modules: { ...modules, "index.js": ahead + modules["index.js"] },
  });
  const removed = [];
  for (let round = 0; round < 5; round += 1) {
    for (let status = 202; status === 202; ) {
      const reply = await strata.send("POST", "/v2/_strata/sweep");
      ({ status } = reply);
      removed.push(...reply.json().removals);
    }
    await sleep(GRACE * 1000 + 100);
  }
  for (const name of ["attacked", "relabelled"]) {
    assert.equal(await served(name, digestOf(image)), IMAGE, name);
    assert.equal(await served(name, "all"), INDEX);
    for (const blob of blobs) {
      const reply = await strata.send("GET", `/v2/${name}/blobs/${digestOf(blob)}`);
      expect(reply, 200);
      assert.deepEqual(reply.body, blob);
    }
  }
  expect(refused, 400);
  // The sweep had something to remove: a manifest without a tag is gone.
  assert.deepEqual(
    removed.filter(({ what }) => what === "manifest").map(({ key }) => key.split("/")[1]),
    ["loose"],
  );
});
