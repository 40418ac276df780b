// Reads of files in a large layer, compared with the naive way: decompressing the layer from its
// start for each file.
import assert from "node:assert/strict";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "../tests/edge/harness.mjs";
import {
  changes,
  entriesOf,
  hitRate,
  look,
  naive,
  part,
  push,
  realLayer,
  spread,
  warmed,
  zipf,
} from "../tests/edge/looks.mjs";
import { MIB, QUIET } from "./contestants.mjs";
import { figure, median } from "./table.mjs";

const NAME = "bench/files";
const ROUNDS = 3;
const READS = 50;
const MIXED = 1000;

/** A Worker that decompresses with `DecompressionStream` until it has the requested bytes. */
const inflating = {
  "index.js": `export default {
    async fetch(request, { BUCKET }) {
      if (request.method === "PUT") {
        await BUCKET.put("layer", request.body);
        return new Response(null, { status: 201 });
      }
      const [first, end] = ["first", "end"].map((name) => Number(new URL(request.url).searchParams.get(name)));
      const { body } = await BUCKET.get("layer");
      const reader = body.pipeThrough(new DecompressionStream("gzip")).getReader();
      const parts = [];
      for (let at = 0; at < end; ) {
        const { value, done } = await reader.read();
        if (done) break;
        if (at + value.length > first) parts.push(value.subarray(Math.max(0, first - at), end - at));
        at += value.length;
      }
      await reader.cancel();
      return new Response(new Blob(parts), { headers: { "content-type": "application/octet-stream" } });
    }
  }`,
};

export async function files(print) {
  const folder = mkdtempSync(join(tmpdir(), "strata-bench-"));
  try {
    const layer = await realLayer(folder);
    const rounds = [];
    for (let round = 0; round < ROUNDS; round += 1) rounds.push(await strata(layer));
    const ours = rounds[0].map((_, index) => {
      const each = rounds.map((round) => round[index]);
      return { ...each[0], ...Object.fromEntries(["seconds", "p50", "worst"].map((key) => [key, median(each, key)])) };
    });
    const { reads } = rounds[0];
    const theirs = [await worker(layer, reads), await zlib(layer, reads)];
    const [, cold] = ours;
    const rows = [...ours, ...theirs].map(({ name, count, seconds, p50, worst, inflated, fetched }) => [
      name,
      figure(seconds),
      count === 1 ? "" : figure(p50),
      count === 1 ? "" : figure(worst),
      figure(inflated / 1e6),
      fetched === undefined ? "" : figure(fetched / 1e6),
      (seconds / count / (cold.seconds / cold.count)).toFixed(2),
    ]);
    const title = `Files out of a layer of ${figure(layer.size / 1e6)} MB, ${figure(layer.archive / 1e6)} decompressed: medians of ${ROUNDS} rounds, the naive ways once`;
    print(
      title,
      ["", "seconds", "p50, ms", "worst, ms", "decompressed, MB", "read of the layer, MB", "of a cold read"],
      rows,
    );
    const mixed = ours.at(-1);
    const all = ours.slice(0, 2).reduce((sum, { inflated }) => sum + inflated, 0);
    const naively = theirs[0].inflated;
    print(
      "Ratios",
      ["ratio", "figure"],
      [
        ["bytes decompressed naively, of the pass and 50 cold reads", (naively / all).toFixed(1)],
        [
          "time naively, of the pass and 50 cold reads",
          (theirs[0].seconds / (ours[0].seconds + cold.seconds)).toFixed(1),
        ],
        [`hit rate of ${MIXED} mixed reads, %`, (100 * hitRate(mixed)).toFixed(1)],
      ],
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Measures one round with a new registry, which has not indexed the layer. */
async function strata(layer) {
  const running = await start({ vars: QUIET, isolates: 2 });
  try {
    await push(running, NAME, layer);
    const measure = async (name, isolate, steps) => {
      const times = [];
      const seen = await changes(isolate, async () => {
        for (const step of steps) times.push(await timed(step));
      });
      return { name, ...seen, inflated: seen.passed + seen.inflated, fetched: seen.fetched, ...summary(times) };
    };
    const contents = async () =>
      assert.equal((await running.send("GET", `/v2/${NAME}/_strata/layers/${layer.digest}`)).status, 200);
    const first = await measure("Strata: the pass, at the first request", running, [contents]);
    first.fetched = layer.size;
    const entries = await entriesOf(running, NAME, layer.digest);
    const reads = spread(entries, layer.archive, READS);
    const all = [...reads, ...spread(entries, layer.archive, 2 * READS + 1).filter((_, index) => index % 3 === 0)];
    const looks = (isolate, reads) => reads.map((read) => () => look(isolate, NAME, layer, read));
    const cold = await measure(`${READS} files, cold`, running, looks(running, reads));
    await warmed(running, layer.digest, cold.spans);
    const again = await measure("… again", running, looks(running, reads));
    const other = await measure("… in another isolate", running.isolate(1), looks(running.isolate(1), reads));
    const often = [...zipf(all.length, MIXED)].map((rank) => all[rank]);
    const mixed = await measure(`${MIXED} reads of those and others`, running, looks(running, often));
    return Object.assign([first, cold, again, other, mixed], { reads });
  } finally {
    await running.stop();
  }
}

async function worker(layer, reads) {
  const running = await start({ probe: false, modules: inflating });
  try {
    const body = createReadStream(layer.file, { highWaterMark: MIB });
    const put = await running.send("PUT", "/", { body, headers: { "content-length": layer.size } });
    assert.equal(put.status, 201, put.body.toString());
    const times = [];
    for (const { path, first, end, offset } of reads) {
      const step = async () => {
        const reply = await running.send("GET", `/?first=${offset}&end=${offset + end - first}`);
        assert.ok(reply.body.equals(part(layer.source(path), first, end)), `the bytes of ${path} differ`);
      };
      times.push(await timed(step));
    }
    return { name: "Worker with DecompressionStream: the same files", ...summary(times), inflated: farthest(reads) };
  } finally {
    await running.stop();
  }
}

async function zlib(layer, reads) {
  const times = [];
  for (const read of reads) times.push(await timed(() => naive(layer, read)));
  return { name: "Node's zlib, from a local file: the same files", ...summary(times), inflated: farthest(reads) };
}

/**
 * Returns the bytes that the naive way must decompress: each read begins at the start of the layer.
 */
function farthest(reads) {
  return reads.reduce((sum, { first, end, offset }) => sum + offset + end - first, 0);
}

async function timed(step) {
  const begun = performance.now();
  await step();
  return performance.now() - begun;
}

function summary(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const total = times.reduce((sum, time) => sum + time, 0);
  return {
    count: times.length,
    seconds: total / 1000,
    p50: sorted[Math.floor(sorted.length / 2)],
    worst: sorted.at(-1),
  };
}
