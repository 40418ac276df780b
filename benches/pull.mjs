// Pulls, compared with Workers that do almost nothing: the cost of the runtime, of its calls into
// wasm and of its R2 is the floor for all.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../scripts/command.mjs";
import { start } from "../tests/edge/harness.mjs";
import {
  bare,
  bareBlob,
  COLD,
  constant,
  described,
  fill,
  fillBare,
  LARGE,
  NO_MEMORY,
  QUIET,
  read,
  SMALL,
} from "./contestants.mjs";
import { hello } from "./hello.mjs";
import { inTurns, ROUNDS } from "./load.mjs";
import { bars } from "./plot.mjs";
import { figure } from "./table.mjs";

const CONNECTIONS = [1, 16];
// One copy for each connection, because single flight merges concurrent reads of one object.
const COPIES = 64;
// The number of connections in the plot.
const PLOTTED = 16;

export async function pull(print) {
  const modules = await hello();
  const running = [];
  const begin = async (options) => {
    running.push(await start({ probe: false, ...options }));
    return running.at(-1);
  };
  const folder = mkdtempSync(join(tmpdir(), "strata-bench-"));
  try {
    const others = {
      constant: await begin({ modules: constant }),
      hello: await begin({ modules }),
      described: await begin({ modules: described }),
      bare: await begin({ modules: bare }),
    };
    await fillBare(others.bare, { ...SMALL, ...LARGE });
    const hot = await popular(await strata(begin, QUIET, SMALL));
    // A separate runtime: one that has just simulated R2 is slow for a while.
    const tagged = await popular(await strata(begin, QUIET));
    const logged = await popular(await strata(begin, {}));
    const open = await popular(await strata(begin, { ...QUIET, STRATA_ANONYMOUS_PULL: "true" }));
    const cold = await strata(begin, COLD, { ...SMALL, ...LARGE }, COPIES);
    const warm = await warmed(begin, folder);
    await small(print, others, { hot, tagged, logged, open, warm, cold });
    await blobs(print, others.bare, hot, cold);
  } finally {
    for (const one of running) await one.stop();
    rmSync(folder, { recursive: true });
  }
}

/** Starts a registry and pushes an image. Resolves with `{ running, digest, tag, blobs }`. */
async function strata(begin, vars, sizes, copies) {
  const running = await begin({ vars });
  return { running, ...(await fill(running, sizes, copies)) };
}

/** Reads an image until the hot tier has it. Resolves with the image. */
async function popular(image) {
  await read(image.running, image.digest, image.tag, ...Object.values(image.blobs));
  return image;
}

/** Starts a registry without a hot tier, after another one has filled its KV. */
async function warmed(begin, folder) {
  const before = await start({ probe: false, folder, vars: NO_MEMORY });
  let image;
  try {
    image = await fill(before, {}, COPIES);
    await read(before, image.digest, image.tag);
  } finally {
    await before.stop();
  }
  return { running: await begin({ folder, vars: NO_MEMORY }), ...image };
}

/** Measures the shortest requests, in which every microsecond of Strata shows. */
async function small(print, { constant, hello, described, bare }, { hot, tagged, logged, open, warm, cold }) {
  const ping = { path: "/v2/", length: (await hot.running.send("GET", "/v2/")).body.length };
  const row = (name, { running }, ask, tier) => ({ name, running, ...ask, tier, ours: true });
  const nobody = { ...open.digest, headers: { ...open.digest.headers, authorization: undefined } };
  const measures = [
    { name: "constant, JavaScript", running: constant, path: "/", length: 5 },
    { name: "constant, Rust (worker crate)", running: hello, path: "/", length: 5 },
    { name: "constant, JavaScript, a manifest's headers", running: described, path: "/", length: 5 },
    { name: "bare R2.get, 1 KiB", running: bare, ...bareBlob(SMALL["1 KiB"]) },
    row("Strata: GET /v2/", hot, ping),
    row("Strata: manifest by digest, hot", hot, hot.digest, "hot"),
    row("… with a log line each", logged, logged.digest, "hot"),
    row("… anonymous", open, nobody, "hot"),
    row("Strata: manifest by digest, warm", warm, warm.digest, "warm"),
    row("Strata: manifest by digest, cold", cold, cold.digest, "cold"),
    row("… the same one for all", cold, { ...cold.digest, path: cold.digest.path[0] }, "cold"),
    row("Strata: manifest by tag, hot", tagged, tagged.tag, "hot"),
    row("Strata: manifest by tag, cold", cold, cold.tag, "cold"),
  ];
  for (const connections of CONNECTIONS) {
    const results = await inTurns(measures, { connections });
    const rows = results.map(({ rate, p50, p99 }, index) => {
      const ratios = [0, 1].map((other) => (rate / results[other].rate).toFixed(2));
      return [measures[index].name, rate.toFixed(0), ...ratios, figure(p50), figure(p99)];
    });
    const columns = ["request", "requests/s", "of JavaScript's constant", "of Rust's", "p50, ms", "p99, ms"];
    print(`Small replies, ${count(connections)}: medians of ${ROUNDS} rounds in turns`, columns, rows);
    if (connections === PLOTTED) plot(measures, results);
  }
}

/** Compares reads of the same bytes from bare R2 and from Strata, by size. */
async function blobs(print, bare, hot, cold) {
  const rows = [];
  for (const [name, size] of Object.entries({ ...SMALL, ...LARGE })) {
    const measures = [
      { name: "bare `R2.get`", running: bare, ...bareBlob(size) },
      { name: "Strata, cold", running: cold.running, ...cold.blobs[size], tier: "cold" },
    ];
    if (hot.blobs[size]) measures.push({ name: "Strata, hot", running: hot.running, ...hot.blobs[size], tier: "hot" });
    for (const connections of size < LARGE["100 MiB"] ? CONNECTIONS : [1, 4]) {
      const results = await inTurns(measures, { connections });
      for (const [index, { rate, p50, p99 }] of results.entries()) {
        const ratio = (rate / results[0].rate).toFixed(2);
        rows.push([`${name}, ${measures[index].name}`, connections, figure(rate), ratio, figure(p50), figure(p99)]);
      }
    }
  }
  const columns = ["blob", "connections", "requests/s", "of bare", "p50, ms", "p99, ms"];
  print(`Blobs: medians of ${ROUNDS} rounds in turns`, columns, rows);
}

function plot(measures, results) {
  const rows = measures.map(({ name, ours = false }, index) => {
    const { rate, p50 } = results[index];
    return { label: name, value: rate, text: `${Math.round(rate).toLocaleString("en")}/s, ${figure(p50)} ms`, ours };
  });
  const file = join(ROOT, "docs/pull.svg");
  mkdirSync(join(ROOT, "docs"), { recursive: true });
  const note = "The simulator on one machine, load generator included: compare ratios only.";
  writeFileSync(file, bars({ title: `Requests a second and median time, ${count(PLOTTED)}`, note, rows }));
}

function count(connections) {
  return connections === 1 ? "1 connection" : `${connections} connections`;
}
