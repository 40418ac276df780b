// Two versions of the Worker on one bucket: each serves, sweeps and scrubs what the other wrote, and nothing is lost.
//
//   node tests/judges/versions.mjs COMMIT     another version, built from its commit
//   node tests/judges/versions.mjs FOLDER     another version, built before
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { archive } from "../edge/archive.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { modulesOf, start } from "../edge/harness.mjs";
import { begin, close, manifestOf, patch, whole } from "../edge/push.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const GRACE = 4;

/** The folder of a version's Worker, built from its commit if need be. */
function built(version) {
  if (existsSync(join(version, "index.js"))) return version;
  const commit = execFileSync("git", ["rev-parse", "--short", version], { cwd: ROOT, encoding: "utf8" }).trim();
  const clone = join(ROOT, "target/versions", commit);
  const folder = join(clone, "worker/build");
  if (existsSync(join(folder, "index.js"))) return folder;
  execFileSync("git", ["clone", "--quiet", ROOT, clone]);
  execFileSync("git", ["checkout", "--quiet", commit], { cwd: clone });
  execFileSync("node", ["scripts/build.mjs"], { cwd: clone, stdio: "inherit" });
  return folder;
}

const ok = (reply, ...statuses) => {
  assert.ok(statuses.includes(reply.status), `${reply.status}: ${reply.body.toString().slice(0, 500)}`);
  return reply;
};

/** Waits until a layer is indexed. */
async function looked(strata, path) {
  for (;;) {
    const reply = await strata.send("GET", path);
    if (reply.status !== 202) return ok(reply, 200);
    await sleep(100);
  }
}

/** Writes one thing of each kind into repositories that begin with a word. Answers where an open upload goes on. */
async function write(strata, word) {
  const name = `${word}/image`;
  const layers = ["a", "b"].map((path) =>
    gzipSync(
      archive([{ path: `${path}/${word}`, content: buffer(300_000, `${word} ${path}`) }, { path: `${path}/empty` }]),
    ),
  );
  const config = Buffer.from(JSON.stringify({ word, rootfs: { type: "layers", diff_ids: [] } }));
  for (const blob of [config, layers[0]]) ok(await whole(strata, name, digestOf(blob), blob), 201);
  // In chunks, the last with the closing request: a record of extents.
  const half = Math.floor(layers[1].length / 2);
  let location = await begin(strata, name);
  location = ok(await patch(strata, location, layers[1].subarray(0, half)), 202).headers.location;
  ok(await close(strata, location, digestOf(layers[1]), layers[1].subarray(half)), 201);

  const sized = (blob) => ({ digest: digestOf(blob), size: blob.length });
  const image = manifestOf(sized(config), layers.map(sized));
  const put = (repository, manifest, reference = manifest.digest) =>
    strata.send("PUT", `/v2/${repository}/manifests/${reference}`, {
      body: manifest.body,
      headers: { "content-type": manifest.mediaType },
    });
  for (const tag of ["v1", "gone"]) ok(await put(name, image, tag), 201);
  ok(await strata.send("DELETE", `/v2/${name}/manifests/gone`), 202);
  const about = manifestOf(sized(config), [sized(layers[0])], image);
  ok(await put(name, about), 201);
  for (const { digest } of [config, ...layers].map(sized)) {
    ok(await strata.send("POST", `/v2/${word}/mounted/blobs/uploads/?mount=${digest}&from=${name}`), 201);
  }
  ok(await put(`${word}/mounted`, image, "latest"), 201);
  for (const layer of layers) await looked(strata, `/v2/${name}/_strata/layers/${digestOf(layer)}`);
  // What nobody needs: the sweep has work to do.
  ok(await whole(strata, name, digestOf(Buffer.from(word)), Buffer.from(word)), 201);
  const open = await begin(strata, name);
  return ok(await patch(strata, open, buffer(1_000, word)), 202).headers.location;
}

/** What clients are answered: status and body of each request. */
async function seen(strata, words) {
  const seen = {};
  const ask = async (path) => {
    const reply = await strata.send("GET", path);
    // Bytes by their digest, and the registry's own documents whatever the order of their members.
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

/** Repeats a step until a round has ended. Answers what the steps have told. */
async function round(strata, path) {
  const told = [];
  for (;;) {
    const reply = ok(await strata.send("POST", path), 200, 202);
    told.push(JSON.parse(reply.body));
    if (reply.status === 200) return told;
  }
}

/** Sweeps three times, with a grace period between, and scrubs. Nothing may be found wrong. */
async function keep(strata) {
  const removals = [];
  for (let times = 0; times < 3; times += 1) {
    await sleep(GRACE * 1_000 + 500);
    for (const step of await round(strata, "/v2/_strata/sweep")) removals.push(...step.removals);
  }
  for (const step of await round(strata, "/v2/_strata/scrub")) assert.deepEqual(step.findings, []);
  return removals.length;
}

const version = process.argv[2];
if (!version) throw new Error("name a commit, or a folder with a built Worker");
const builds = { older: built(version), newer: join(ROOT, "worker/build") };
const folder = await mkdtemp(join(tmpdir(), "strata-versions-"));
const run = async (which, play) => {
  const vars = { STRATA_GRACE_SECONDS: String(GRACE) };
  const strata = await start({ folder, vars, modules: modulesOf(builds[which]) });
  try {
    return await play(strata);
  } finally {
    await strata.stop();
  }
};
try {
  const words = ["first"];
  const older = await run("older", async (strata) => ({
    open: await write(strata, "first"),
    seen: await seen(strata, words),
  }));
  const newer = await run("newer", async (strata) => {
    assert.deepEqual(await seen(strata, words), older.seen, "the newer version answers as the older one");
    const end = buffer(10, "end");
    const bytes = Buffer.concat([buffer(1_000, "first"), end]);
    ok(await close(strata, older.open, digestOf(bytes), end), 201);
    console.log(`newer: ${await keep(strata)} removals`);
    assert.deepEqual(await seen(strata, words), older.seen, "after the newer version has swept");
    words.push("second");
    return { open: await write(strata, "second"), seen: await seen(strata, words) };
  });
  await run("older", async (strata) => {
    assert.deepEqual(await seen(strata, words), newer.seen, "the older version answers as the newer one");
    const end = buffer(10, "end");
    const bytes = Buffer.concat([buffer(1_000, "second"), end]);
    ok(await close(strata, newer.open, digestOf(bytes), end), 201);
    console.log(`older: ${await keep(strata)} removals`);
    assert.deepEqual(await seen(strata, words), newer.seen, "after the older version has swept");
  });
  await run("newer", async (strata) => {
    assert.deepEqual(await seen(strata, words), newer.seen, "the newer version again");
    console.log(`newer: ${await keep(strata)} removals`);
    assert.deepEqual(await seen(strata, words), newer.seen);
  });
  console.log(`✓ ${Object.keys(newer.seen).length} answers are the same in both versions`);
} finally {
  await rm(folder, { recursive: true });
}
