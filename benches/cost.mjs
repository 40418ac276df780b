// The cost of pulls by the price list, from the operations that the Worker requests.
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
// Layers that can be kept hot, and layers that are too large.
const SIZES = { "100 KiB": 100 << 10, "5 MiB": 5 * MIB };
// The number of pulls after which every tier that admits an object has it.
const OFTEN = 30;

/**
 * The states that a folder goes through, in order. For each, a new registry starts on the folder,
 * and serves `before` pulls before the one that is counted.
 */
const STATES = [
  { name: "without tiers", vars: COLD, tier: "cold", before: 0 },
  { name: "cold", vars: QUIET, tier: "cold", before: 0 },
  { name: "hot", vars: QUIET, tier: "hot", before: OFTEN },
  // Without the hot tier, so that every read reaches KV.
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

/** Resolves with the bill of one pull in each state. */
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
        // A tag is read from R2 each time, so only a pull by digest comes from one tier.
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

/** Pulls as a client that has nothing yet. Resolves with the tier that the manifest came from. */
async function pull(strata, { manifest, blobs }, by) {
  const reference = by === "tag" ? "latest" : manifest.digest;
  const headers = { accept: manifest.mediaType };
  const reply = await expect(200, strata.send("GET", `/v2/${NAME}/manifests/${reference}`, { headers }));
  for (const { digest } of blobs) await expect(200, strata.send("GET", `/v2/${NAME}/blobs/${digest}`));
  return reply.headers["x-strata-tier"];
}
