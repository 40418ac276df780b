// First pulls through a mirror, compared with pulls from the upstream itself, and concurrent pulls.
import { createHash } from "node:crypto";
import { get } from "node:http";
import { setTimeout } from "node:timers/promises";
import { start } from "../tests/edge/harness.mjs";
import { median } from "./table.mjs";
import { startUpstream } from "./upstream.mjs";

const MIB = 1 << 20;
const SIZE = 100 * MIB;
const ROUNDS = 5;

// An upstream on this machine is faster than the simulated R2, which the disk limits. The other one
// is as far away as real upstreams.
const upstreams = { near: {}, far: { delay: 40, rate: 40e6 } };

export async function mirror(print) {
  const running = {};
  for (const [name, options] of Object.entries(upstreams)) running[name] = await startUpstream(options);
  const configured = Object.entries(running).map(([name, { address }]) => ({ name, address, insecure: true }));
  const vars = { STRATA_UPSTREAMS: JSON.stringify(configured), STRATA_ANONYMOUS_PULL: "true", STRATA_LOG: "errors" };
  const strata = await start({ probe: false, vars });
  try {
    const rows = [];
    for (const [name, upstream] of Object.entries(running)) rows.push(...(await times(strata, name, upstream)));
    const columns = ["pull", "first byte, ms", "of upstream", "whole, ms", "of upstream"];
    print(`${SIZE / MIB} MiB, by one client: medians of ${ROUNDS} rounds in turns`, columns, rows);
  } finally {
    await strata.stop();
  }
  try {
    await together(print, running.far, vars);
  } finally {
    for (const upstream of Object.values(running)) await upstream.stop();
  }
}

/** Measures pulls from the upstream, and through the mirror before and after it has the blob. */
async function times(strata, name, upstream) {
  const seen = { upstream: [], "mirror, empty": [], "mirror, full": [] };
  for (let round = 0; round <= ROUNDS; round += 1) {
    const digest = await upstream.blob(SIZE);
    const through = new URL(`/v2/${name}/bench/blobs/${digest}`, strata.url);
    const took = {
      upstream: await pull(`${upstream.address}/v2/bench/blobs/${digest}`, digest),
      "mirror, empty": await pull(through, digest),
      "mirror, full": await pull(through, digest),
    };
    // The first round warms up the runtime, the disk and this process.
    if (round > 0) for (const [who, times] of Object.entries(took)) seen[who].push(times);
    const asked = await upstream.asked();
    if (asked !== 2)
      throw new Error(`expected 2 requests to the upstream, one direct and one by the mirror, got ${asked}`);
  }
  const base = { first: median(seen.upstream, "first"), whole: median(seen.upstream, "whole") };
  return Object.entries(seen).map(([who, rounds]) => {
    const [first, whole] = [median(rounds, "first"), median(rounds, "whole")];
    return [
      `${name}: ${who}`,
      first.toFixed(1),
      (first / base.first).toFixed(2),
      whole.toFixed(0),
      (whole / base.whole).toFixed(2),
    ];
  });
}

/** Measures concurrent misses of one blob: requests to the upstream, and growth of the runtime. */
async function together(print, upstream, vars) {
  const rows = [];
  for (const [clients, slow] of [[1], [8], [32], [31, 1e6]]) {
    const strata = await start({ vars });
    try {
      const digest = await upstream.blob(SIZE);
      await upstream.asked();
      const idle = strata.memory().resident;
      strata.resetPeak();
      const path = new URL(`/v2/far/bench/blobs/${digest}`, strata.url);
      const began = performance.now();
      const last = slow && pull(path, digest, slow);
      await Promise.all(Array.from({ length: clients }, () => pull(path, digest)));
      const seconds = (performance.now() - began) / 1000;
      await last;
      const grown = (strata.memory().peak - idle) / MIB;
      rows.push([
        slow ? `${clients}, and one at 1 MB/s` : clients,
        await upstream.asked(),
        seconds.toFixed(1),
        grown.toFixed(0),
        ((await strata.wasm()) / MIB).toFixed(1),
      ]);
    } finally {
      await strata.stop();
    }
  }
  print(
    `${SIZE / MIB} MiB, by many clients at once`,
    ["clients", "upstream requests", "seconds", "growth of workerd, MiB", "wasm memory, MiB"],
    rows,
  );
}

/**
 * Pulls a blob on a new connection, at most `rate` bytes a second, and verifies it. Resolves with
 * the times to its first byte and its end, in milliseconds.
 */
function pull(url, digest, rate = Infinity) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const request = get(url, { agent: false }, async (response) => {
      try {
        const hash = createHash("sha256");
        let first;
        let size = 0;
        let said = "";
        for await (const chunk of response) {
          first ??= performance.now() - began;
          hash.update(chunk);
          if (response.statusCode !== 200) said += chunk;
          size += chunk.length;
          const early = (size / rate) * 1000 - (performance.now() - began);
          if (early > 1) await setTimeout(early);
        }
        const whole = performance.now() - began;
        const found = `sha256:${hash.digest("hex")}`;
        if (found !== digest)
          throw new Error(`expected ${digest} of ${url}, got ${found} with status ${response.statusCode}: ${said}`);
        resolve({ first, whole });
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
  });
}
