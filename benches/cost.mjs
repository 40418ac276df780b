// What pulls cost by the price list, counted where the Worker asks the platform.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, digestOf } from "../tests/edge/bytes.mjs";
import { manifestOf, whole } from "../tests/edge/push.mjs";
import { COLD, MIB, NO_MEMORY, QUIET } from "./contestants.mjs";
import { bill, NAMES } from "./prices.mjs";
import { expect, settled, within } from "./registry.mjs";

const NAME = "bench/cost";
const LAYERS = 5;
// Layers that fit into memory, and layers that don't.
const SIZES = { "100 KiB": 100 << 10, "5 MiB": 5 * MIB };
// How often something is pulled until every tier that wants it has it.
const OFTEN = 30;

/**
 * In which order a folder goes through them: each is a registry started anew on it, that is pulled from so often before the pull
 * that is counted.
 */
const STATES = [
  { name: "without tiers", vars: COLD, tier: "cold", before: 0 },
  { name: "cold", vars: QUIET, tier: "cold", before: 0 },
  { name: "hot", vars: QUIET, tier: "hot", before: OFTEN },
  // Memory is left out, so that everything passes by KV.
  { vars: NO_MEMORY, before: OFTEN },
  { name: "warm", vars: QUIET, tier: "warm", before: 0 },
];
const SHOWN = ["without tiers", "cold", "warm", "hot"];

export async function cost(print) {
  const rows = [];
  for (const [name, size] of Object.entries(SIZES)) {
    for (const by of ["tag", "digest"]) {
      const seen = await pulls(size, by);
      for (const state of SHOWN) {
        const { calls, dollars } = seen[state];
        rows.push([
          `${LAYERS} × ${name}, by ${by}, ${state}`,
          ...calls,
          dollars.toFixed(2),
          (dollars / seen["without tiers"].dollars).toFixed(2),
        ]);
      }
    }
  }
  const columns = ["pull of manifest, config and layers", ...NAMES, "$ a million", "of no tiers"];
  print("Operations of one pull, and dollars for a million", columns, rows);
}

/** The bill of one pull in each state. */
async function pulls(size, by) {
  const folder = mkdtempSync(join(tmpdir(), "strata-bench-"));
  try {
    const image = await within({ folder, vars: COLD }, (strata) => push(strata, size));
    const bills = {};
    for (const { name, vars, tier, before } of STATES) {
      await within({ folder, vars }, async (strata) => {
        for (let time = 0; time < before; time += 1) await pull(strata, image, by);
        await settled(strata);
        await strata.reset();
        const found = await pull(strata, image, by);
        // A tag itself is asked of R2 every time, so only what a digest names is in one tier.
        if (name && by === "digest") assert.equal(found, tier, `the tier that the manifest comes from, ${name}`);
        await settled(strata);
        if (name) bills[name] = bill(await strata.counts());
      });
    }
    return bills;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function push(strata, size) {
  const blobs = [];
  for (let index = 0; index <= LAYERS; index += 1) {
    const content = buffer(index === 0 ? 2000 : size, `cost ${index}`);
    const blob = { digest: digestOf(content), size: content.length };
    await expect(201, whole(strata, NAME, blob.digest, content));
    blobs.push(blob);
  }
  const [config, ...layers] = blobs;
  const manifest = manifestOf(config, layers);
  const headers = { "content-type": manifest.mediaType };
  await expect(201, strata.send("PUT", `/v2/${NAME}/manifests/latest`, { body: manifest.body, headers }));
  return { manifest, blobs };
}

/** What a client asks for that has nothing yet. Tells which tier the manifest came from. */
async function pull(strata, { manifest, blobs }, by) {
  const reference = by === "tag" ? "latest" : manifest.digest;
  const headers = { accept: manifest.mediaType };
  const reply = await expect(200, strata.send("GET", `/v2/${NAME}/manifests/${reference}`, { headers }));
  for (const { digest } of blobs) await expect(200, strata.send("GET", `/v2/${NAME}/blobs/${digest}`));
  return reply.headers["x-strata-tier"];
}
