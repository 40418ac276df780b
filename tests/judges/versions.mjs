// Two versions of the Worker on one bucket: each serves, sweeps, scrubs and resumes the state of
// the other, and nothing is lost.
//
//   node tests/judges/versions.mjs COMMIT     another version, built from its commit
//   node tests/judges/versions.mjs FOLDER     another version, built before
//   … --upgrade                               the other version is upgraded from and does not run
//                                             beside this one: it does not know new grants, and
//                                             its saved passes and fills begin again
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { ROOT } from "../../scripts/command.mjs";
import { builtOf } from "../../scripts/versions.mjs";
import { archive } from "../edge/archive.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { modulesOf, start } from "../edge/harness.mjs";
import { begin, close, manifestOf, patch, whole } from "../edge/push.mjs";
import { fill, fillBlob, imageOf, missing, startDistribution, startProxy } from "../edge/upstream.mjs";

const MIB = 1 << 20;
const GRACE = 8;
/** Few operations a request, so that rounds of the sweep and of the scrub take several steps. */
const SUBREQUESTS = 60;

const UPGRADE = process.argv.includes("--upgrade");

const ok = (reply, ...statuses) => {
  assert.ok(statuses.includes(reply.status), `${reply.status}: ${reply.body.toString().slice(0, 500)}`);
  return reply;
};
const sized = (blob) => ({ digest: digestOf(blob), size: blob.length });
const blobKey = (digest) => digest.replace(/^(\w+):(..)(.*)$/, "blobs/$1/$2/$2$3");

/** Repeats a request while the status is 202. Resolves with the number of those responses. */
async function looked(strata, path) {
  for (let times = 0; ; times += 1) {
    const reply = await strata.send("GET", path);
    if (reply.status !== 202) return ok(reply, 200) && times;
    await sleep(100);
  }
}

/** Pushes a manifest. */
async function tag(strata, repository, manifest, reference = manifest.digest) {
  const headers = { "content-type": manifest.mediaType };
  ok(await strata.send("PUT", `/v2/${repository}/manifests/${reference}`, { body: manifest.body, headers }), 201);
}

/** Pushes one object of each kind into repositories whose names begin with a word. */
async function write(strata, word) {
  const name = `${word}/image`;
  const layers = ["a", "b"].map((path) =>
    gzipSync(
      archive([{ path: `${path}/${word}`, content: buffer(300_000, `${word} ${path}`) }, { path: `${path}/empty` }]),
    ),
  );
  const config = Buffer.from(JSON.stringify({ word, rootfs: { type: "layers", diff_ids: [] } }));
  for (const blob of [config, layers[0]]) ok(await whole(strata, name, digestOf(blob), blob), 201);
  // Push in chunks, the last with the closing request, so that the blob is a record of extents.
  const half = Math.floor(layers[1].length / 2);
  let location = await begin(strata, name);
  location = ok(await patch(strata, location, layers[1].subarray(0, half)), 202).headers.location;
  ok(await close(strata, location, digestOf(layers[1]), layers[1].subarray(half)), 201);

  const image = manifestOf(sized(config), layers.map(sized));
  for (const reference of ["v1", "gone"]) await tag(strata, name, image, reference);
  ok(await strata.send("DELETE", `/v2/${name}/manifests/gone`), 202);
  await tag(strata, name, manifestOf(sized(config), [sized(layers[0])], image));
  for (const { digest } of [config, ...layers].map(sized)) {
    ok(await strata.send("POST", `/v2/${word}/mounted/blobs/uploads/?mount=${digest}&from=${name}`), 201);
  }
  await tag(strata, `${word}/mounted`, image, "latest");
  for (const layer of layers) await looked(strata, `/v2/${name}/_strata/layers/${digestOf(layer)}`);
}

/**
 * Sends the requests of a client. Resolves with the status and the body of each; all must be 200.
 */
async function seen(strata, words) {
  const seen = {};
  const ask = async (path) => {
    const reply = await strata.send("GET", path);
    // Compare bytes by digest, and the registry's own documents without the order of their members.
    const isBytes = /\/(blobs|manifests|files)\//.test(path);
    seen[path] = [reply.status, isBytes ? digestOf(reply.body) : JSON.parse(reply.body)];
    return reply;
  };
  await ask("/v2/_catalog");
  for (const word of words) {
    for (const name of [`${word}/image`, `${word}/mounted`]) {
      const tags = await ask(`/v2/${name}/tags/list`);
      for (const tag of JSON.parse(tags.body).tags) {
        const manifest = await ask(`/v2/${name}/manifests/${tag}`);
        const { config, layers } = JSON.parse(manifest.body);
        for (const { digest } of [config, ...layers]) await ask(`/v2/${name}/blobs/${digest}`);
        for (const { digest } of layers) await looked(strata, `/v2/${name}/_strata/layers/${digest}`);
        for (const { digest } of layers) await ask(`/v2/${name}/_strata/layers/${digest}`);
        await ask(`/v2/${name}/_strata/images/${tag}/files/a/${word}`);
        await ask(`/v2/${name}/referrers/${digestOf(manifest.body)}`);
      }
    }
  }
  assert.ok(
    Object.values(seen).every(([status]) => status === 200),
    JSON.stringify(seen, null, 1),
  );
  return seen;
}

/** Repeats a step until a round has ended. Resolves with the reports of the steps. */
async function round(strata, path) {
  const reports = [];
  for (;;) {
    const reply = ok(await strata.send("POST", path), 200, 202);
    reports.push(JSON.parse(reply.body));
    if (reply.status === 200) return reports;
  }
}

const sweep = (strata) => round(strata, "/v2/_strata/sweep");
const scrub = async (strata) => {
  const reports = await round(strata, "/v2/_strata/scrub");
  return reports.flatMap(({ findings }) => findings.map(({ found, what, repair }) => `${found} ${what}: ${repair}`));
};

/**
 * Sweeps three times, each after a grace period, and scrubs. The scrub must find nothing. Resolves
 * with the number of removals.
 */
async function sweepAndScrub(strata) {
  const removals = [];
  for (let times = 0; times < 3; times += 1) {
    await sleep(GRACE * 1_000 + 500);
    for (const step of await sweep(strata)) removals.push(...step.removals);
  }
  assert.deepEqual(await scrub(strata), []);
  return removals.length;
}

/** Resolves with the digest of a repository's blob, or with the status if it is not 200. */
async function blobOf(strata, name, digest) {
  const { status, body } = await strata.send("GET", `/v2/${name}/blobs/${digest}`);
  return status === 200 ? digestOf(body) : status;
}

/**
 * State that one version begins and the other resumes: `begin` in one version, then in the other
 * `end`, sweeps and a scrub, and `check`. `end` and `check` are optional.
 */
const HANDOVERS = {
  "a mark": {
    async begin(strata, word) {
      const [revived, removed] = ["revived", "removed"].map((what) => buffer(1_000, `${word} ${what}`));
      for (const blob of [revived, removed]) ok(await whole(strata, `${word}/image`, digestOf(blob), blob), 201);
      // The first round deletes the grant, and the next one finds none.
      await sleep(GRACE * 1_000 + 500);
      for (let times = 0; times < 2; times += 1) await sweep(strata);
      const marks = await strata.objects("sweep/marks/");
      for (const blob of [revived, removed]) {
        assert.ok(
          marks.some(({ key }) => key.includes(digestOf(blob).split(":")[1])),
          "the blob is condemned",
        );
      }
      return { revived, removed };
    },
    async end(strata, word, { revived }) {
      const config = sized(revived);
      ok(await whole(strata, `${word}/image`, config.digest, revived), 201);
      ok(
        await strata.send("POST", `/v2/${word}/revived/blobs/uploads/?mount=${config.digest}&from=${word}/image`),
        201,
      );
      await tag(strata, `${word}/revived`, manifestOf(config, []), "v1");
    },
    async check(strata, word, { revived, removed }) {
      assert.equal(await blobOf(strata, `${word}/revived`, digestOf(revived)), digestOf(revived));
      assert.equal(await blobOf(strata, `${word}/image`, digestOf(removed)), 404);
    },
  },
  "a quarantined blob": {
    async begin(strata, word) {
      const name = `${word}/damaged`;
      const blob = buffer(2 * MIB, `${word} damaged`);
      ok(await whole(strata, name, digestOf(blob), blob), 201);
      await tag(strata, name, manifestOf(sized(blob), []), "v1");
      const bucket = await strata.bucket();
      const { customMetadata } = await bucket.head(blobKey(digestOf(blob)));
      await bucket.put(blobKey(digestOf(blob)), new Uint8Array(blob.length), { customMetadata });
      // Later steps of the same scrub report a quarantined blob as missing.
      const found = (await scrub(strata)).filter((finding) => finding !== "missing blob: null");
      assert.deepEqual(found, ["corrupt blob: aside"]);
      return { name, blob };
    },
    async end(strata, _, { name, blob }) {
      assert.equal(await blobOf(strata, name, digestOf(blob)), 404);
      assert.deepEqual(await scrub(strata), ["missing blob: null"]);
      ok(await whole(strata, name, digestOf(blob), blob), 201);
    },
    async check(strata, _, { name, blob }) {
      assert.equal(await blobOf(strata, name, digestOf(blob)), digestOf(blob));
    },
  },
  "an expiring tag": {
    async begin(strata, word) {
      const name = `${word}/expiring`;
      const config = Buffer.from(word);
      ok(await whole(strata, name, digestOf(config), config), 201);
      for (const reference of ["old", "new"]) await tag(strata, name, manifestOf(sized(config), []), reference);
      return name;
    },
    async check(strata, _, name) {
      assert.deepEqual(JSON.parse((await strata.send("GET", `/v2/${name}/tags/list`)).body).tags, ["new"]);
    },
  },
  "a mirrored image": {
    async begin(strata, word, { distribution, proxy }) {
      const image = imageOf(`${word} mirrored`, 100_000, 12 * MIB);
      await fill(distribution.url, word, "v1", image);
      const name = `up.example/${word}`;
      ok(await strata.send("GET", `/v2/${name}/manifests/v1`), 200);
      for (const { digest } of image.blobs) assert.equal(await blobOf(strata, name, digest), digest);
      while ((await strata.objects(`repositories/${name}/_tags/v1`)).length === 0) await sleep(50);
      proxy.asked();
      return { name, image };
    },
    async check(strata, _, { name, image }, { proxy }) {
      const manifest = ok(await strata.send("GET", `/v2/${name}/manifests/v1`), 200);
      assert.equal(digestOf(manifest.body), image.manifest.digest);
      for (const { digest } of image.blobs) assert.equal(await blobOf(strata, name, digest), digest);
      const asked = proxy.asked();
      if (!UPGRADE) assert.deepEqual(asked, [], "the upstream gets no request");
    },
  },
  "rounds of the sweep and the scrub": {
    async begin(strata, word) {
      // More removals than one step can make.
      const blobs = Array.from({ length: 20 }, (_, number) => buffer(1_000, `${word} ${number}`));
      for (const blob of blobs) ok(await whole(strata, `${word}/image`, digestOf(blob), blob), 201);
      await sleep(GRACE * 1_000 + 500);
      for (const path of ["/v2/_strata/sweep", "/v2/_strata/scrub"]) ok(await strata.send("POST", path), 202);
    },
    async end(strata) {
      for (const path of ["/v2/_strata/sweep", "/v2/_strata/scrub"]) await round(strata, path);
    },
  },
  // The handovers below wait for no grace period: their state must be resumed within one.
  "an unfinished fill": {
    async begin(strata, word, { distribution, proxy }) {
      const blob = buffer(12 * MIB, `${word} half`);
      await fillBlob(distribution.url, word, digestOf(blob), blob);
      // The upstream ignores ranges for now, so that nothing can resume the fill yet.
      proxy.trouble(/GET .*\/blobs\//, { cut: 9 * MIB, whole: true });
      const path = `/v2/up.example/${word}/blobs/${digestOf(blob)}`;
      await assert.rejects(strata.send("GET", path).then((reply) => ok(reply, 200)));
      while ((await strata.objects("fills/")).length === 0) await sleep(50);
      proxy.calm();
      proxy.asked();
      return blob;
    },
    async end(strata, word, blob, { proxy }) {
      assert.equal(await blobOf(strata, `up.example/${word}`, digestOf(blob)), digestOf(blob));
      const ranges = proxy.requests().map(({ range }) => range);
      assert.ok(
        ranges.some((range) => Number(/^bytes=(\d+)-/.exec(range)?.[1]) > 0),
        `stored bytes are downloaded again: ${ranges}`,
      );
    },
    async check(strata, word, blob, { proxy }) {
      // No manifest refers to it, so the sweep may have removed it.
      assert.equal(await blobOf(strata, `up.example/${word}`, digestOf(blob)), digestOf(blob));
      proxy.asked();
    },
  },
  "an unfinished index": {
    async begin(strata, word) {
      const name = `${word}/large`;
      const layer = gzipSync(archive([{ path: "file", content: buffer(10 * MIB, `${word} large`) }]), { level: 1 });
      ok(await whole(strata, name, digestOf(layer), layer), 201);
      const path = `/v2/${name}/_strata/layers/${digestOf(layer)}`;
      await tag(strata, name, manifestOf(sized(layer), []), "v1");
      for (let times = 0; times < 5; times += 1) ok(await strata.send("GET", path), 202);
      assert.equal((await strata.objects("indexing/")).length, 1);
      return path;
    },
    async end(strata, _, path) {
      const steps = await looked(strata, path);
      assert.ok(steps <= (UPGRADE ? 10 : 6), `${steps} steps of 10 MiB after 5 of 1 MiB`);
    },
    async check(strata, _, path) {
      assert.equal(await looked(strata, path), 0);
    },
  },
  "an upload": {
    async begin(strata, word) {
      const open = await begin(strata, `${word}/image`);
      return ok(await patch(strata, open, buffer(1_000, word)), 202).headers.location;
    },
    async end(strata, word, location) {
      const end = buffer(10, "end");
      const digest = digestOf(Buffer.concat([buffer(1_000, word), end]));
      ok(await close(strata, location, digest, end), 201);
      assert.equal(await blobOf(strata, `${word}/image`, digest), digest);
    },
  },
};

const version = process.argv[2];
if (!version) throw new Error("name a commit, or a folder with a built Worker");
if (missing) throw new Error(missing);
const builds = { older: builtOf(version), newer: join(ROOT, "worker/build") };
const folder = await mkdtemp(join(tmpdir(), "strata-versions-"));
const distribution = await startDistribution(folder);
const proxy = await startProxy(distribution.url);
const upstream = { distribution, proxy };

const run = async (which, play) => {
  const vars = {
    STRATA_GRACE_SECONDS: String(GRACE),
    STRATA_SUBREQUESTS: String(SUBREQUESTS),
    STRATA_INDEX_STEP_BYTES: String(MIB),
    STRATA_RETENTION: JSON.stringify([{ repositories: ["*/expiring"], keep_newest: 1 }]),
    STRATA_UPSTREAMS: JSON.stringify([
      { name: "up.example", address: proxy.address, insecure: true, fresh_seconds: 3600 },
    ]),
  };
  const strata = await start({ folder, vars, modules: modulesOf(builds[which]) });
  try {
    return await play(strata);
  } finally {
    await strata.stop();
  }
};

/** Begins each handover. */
async function beginAll(strata, word) {
  const begun = {};
  for (const [what, handover] of Object.entries(HANDOVERS)) {
    begun[what] = await handover.begin(strata, word, upstream);
  }
  return begun;
}

/** Ends each handover, the last begun first, and checks all after sweeps and a scrub. */
async function endAll(which, strata, word, begun) {
  for (const [what, handover] of Object.entries(HANDOVERS).reverse()) {
    await handover.end?.(strata, word, begun[what], upstream);
    console.log(`✓ ${which} resumes ${what}`);
  }
  console.log(`  ${which}: ${await sweepAndScrub(strata)} removals`);
  await checkAll(which, strata, word, begun);
}

/**
 * Compares a version's answers with those of an earlier run. The catalogue is left out, because
 * handovers add repositories.
 */
function compare(which, { "/v2/_catalog": _, ...answers }, earlier, whose) {
  for (const [path, answer] of Object.entries(answers)) assert.deepEqual(answer, earlier[path], path);
  console.log(`✓ ${which} gives the same ${Object.keys(answers).length} answers as ${whose}`);
}

async function checkAll(which, strata, word, begun) {
  for (const [what, handover] of Object.entries(HANDOVERS)) {
    await handover.check?.(strata, word, begun[what], upstream);
  }
  console.log(`✓ ${which} has all state begun as ${word}`);
}

try {
  const words = ["first"];
  const older = await run("older", async (strata) => {
    await write(strata, "first");
    return { seen: await seen(strata, words), begun: await beginAll(strata, "first") };
  });
  const newer = await run("newer", async (strata) => {
    await endAll("the newer version", strata, "first", older.begun);
    compare("the newer version", await seen(strata, words), older.seen, "the older one");
    words.push("second");
    await write(strata, "second");
    return { seen: await seen(strata, words), begun: await beginAll(strata, "second") };
  });
  if (!UPGRADE) {
    await run("older", async (strata) => {
      await endAll("the older version", strata, "second", newer.begun);
      await checkAll("the older version", strata, "first", older.begun);
      const answers = await seen(strata, words);
      compare("the older version", answers, newer.seen, "the newer one");
      newer.catalogue = answers["/v2/_catalog"];
    });
  }
  await run("newer", async (strata) => {
    // After an upgrade no older version ran in between, so this version resumes its own state.
    if (UPGRADE) await endAll("the newer version", strata, "second", newer.begun);
    console.log(`  the newer version: ${await sweepAndScrub(strata)} removals`);
    for (const [word, { begun }] of [
      ["first", older],
      ["second", newer],
    ]) {
      await checkAll("the newer version", strata, word, begun);
    }
    const answers = await seen(strata, words);
    compare("the newer version", answers, newer.seen, "in its earlier run");
    // After an upgrade, no other version has seen the catalogue.
    if (!UPGRADE) assert.deepEqual(answers["/v2/_catalog"], newer.catalogue);
  });
} finally {
  await proxy.stop();
  await distribution.stop();
  await rm(folder, { recursive: true });
}
