// Compares builds of the Worker: `node benches/isolate.mjs FOLDER FOLDER...`, each a worker/build.
// The first is the baseline. If it is given twice, the result shows by how much equal builds
// differ.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { buffer, digestOf } from "../tests/edge/bytes.mjs";
import { basic, modulesOf, start } from "../tests/edge/harness.mjs";
import { manifestOf } from "../tests/edge/push.mjs";
import { COLD, fill, NO_MEMORY, QUIET, read } from "./contestants.mjs";
import { load } from "./load.mjs";
import { print } from "./table.mjs";

const ROUNDS = 20;
const NAME = "bench/isolate";
const here = fileURLToPath(new URL("isolate", import.meta.url));
const own = (name) => readFileSync(join(here, name), "utf8");

const config = buffer(1000, "config");
const image = manifestOf({ digest: digestOf(config), size: config.length }, []);
const pushed = buffer(64 << 10, "pushed");
const MANIFEST = { path: `/v2/${NAME}/manifests/${image.digest}`, headers: { accept: image.mediaType } };
const BLOB = { path: `/v2/${NAME}/blobs/${digestOf(config)}` };
const POST = `/v2/${NAME}/blobs/uploads/?digest=`;

/** Requests, the Worker of a build that each goes to, and the repetitions in one turn. */
const WITHIN = [
  { what: "ping", of: "hot", path: "/v2/", times: 20_000 },
  { what: "manifest, hot", of: "hot", ...MANIFEST, tier: "hot", times: 15_000 },
  { what: "blob of 1 kB, hot", of: "hot", ...BLOB, tier: "hot", times: 15_000 },
  { what: "manifest, warm", of: "warm", ...MANIFEST, tier: "warm", times: 3000 },
  { what: "manifest, cold", of: "cold", ...MANIFEST, tier: "cold", times: 3000 },
  { what: "blob of 1 kB, cold", of: "cold", ...BLOB, tier: "cold", times: 2000 },
  {
    what: "push of 64 KiB",
    of: "cold",
    method: "POST",
    path: POST + digestOf(pushed),
    bytes: pushed.toString("base64"),
    rollback: true,
    times: 500,
  },
  { what: "tags", of: "cold", path: `/v2/${NAME}/tags/list`, times: 3000 },
];

/** Starts the Workers of a build, each in its own runtime, and pushes an image to each. */
async function builtFrom(folder) {
  const { "index.js": worker, ...others } = modulesOf(folder);
  const modules = {
    "index.js": own("worker.mjs"),
    "bindings.mjs": own("bindings.mjs"),
    "worker.js": worker,
    ...others,
  };
  const runtimes = {};
  for (const [name, vars] of Object.entries({ hot: QUIET, warm: NO_MEMORY, cold: COLD })) {
    runtimes[name] = await start({ probe: false, modules, vars });
    const ask = (asked) => send(runtimes[name], asked);
    await ask({ method: "POST", path: POST + digestOf(config), bytes: config.toString("base64") });
    await ask({
      method: "PUT",
      path: `/v2/${NAME}/manifests/latest`,
      bytes: image.body.toString("base64"),
      headers: { "content-type": image.mediaType },
    });
    for (let time = 0; time < 30; time += 1) for (const asked of [MANIFEST, BLOB]) await ask(asked);
  }
  return runtimes;
}

async function send(running, { headers, tier, what, of, ...asked }) {
  const body = JSON.stringify({ ...asked, headers: { authorization: basic(), ...headers } });
  const reply = await running.send("POST", "/", { body });
  assert.ok(reply.status < 400, `${what ?? asked.path}: ${reply.status} ${reply.body}`);
  if (tier) assert.equal(reply.headers["x-strata-tier"], tier, what);
}

/** Runs a turn. Resolves with the CPU time of one repetition in microseconds. */
async function within(running, asked) {
  const before = nanoseconds(running.pid);
  await send(running, asked);
  return (nanoseconds(running.pid) - before) / asked.times / 1000;
}

/** Returns the CPU time of all threads of a process, in nanoseconds. */
function nanoseconds(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce(
    (sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]),
    0,
  );
}

// Compile all functions before the first call: the upper bound of a start.
setFlagsFromString("--no-wasm-lazy-compilation");

/** Measures how long a build's module takes to compile, and to instantiate and start, in ms. */
async function startUp(folder, round) {
  const { "index.js": script, "index_bg.wasm": wasm } = modulesOf(folder);
  // A custom section makes the module unique: V8 compiles equal modules once.
  const name = Buffer.from(`${folder} ${round}`);
  const distinct = Buffer.concat([wasm, Buffer.from([0, name.length + 1, name.length]), name]);
  const begun = performance.now();
  globalThis.startedModule = new WebAssembly.Module(distinct);
  const compiled = performance.now();
  const text = script
    .toString()
    .replace(/import ([\w$]+) from"\.\/index_bg\.wasm";/, "const $1=globalThis.startedModule;")
    .replace(/import\*as ([\w$]+) from"cloudflare:workers";/, "const $1={waitUntil(){}};");
  const parsed = performance.now();
  await import(`data:text/javascript,${encodeURIComponent(`${text}\n// ${folder} ${round}`)}`);
  return { compile: compiled - begun, instantiate: performance.now() - parsed };
}

const middle = (values) => {
  const sorted = values.toSorted((one, other) => one - other);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/**
 * Returns a row of a table: the median of the first build, and for each other build the median of
 * its ratio to the first, with the quartiles.
 */
function row(what, rounds, digits = 1) {
  const [first, ...others] = rounds;
  const ratios = others.map((other) => {
    const sorted = other.map((value, round) => value / first[round]).sort((one, next) => one - next);
    const at = (part) => sorted[Math.floor((sorted.length - 1) * part)].toFixed(3);
    return `${middle(sorted).toFixed(3)} (${at(0.25)}–${at(0.75)})`;
  });
  return [what, middle(first).toFixed(digits), ...ratios];
}

/**
 * Takes a turn of each build in each round, in rotating order. The first `warm` rounds warm up and
 * are dropped.
 */
async function inTurns(builds, rounds, warm, take) {
  const seen = builds.map(() => []);
  for (let round = -warm; round < rounds; round += 1) {
    for (let turn = 0; turn < builds.length; turn += 1) {
      const index = (turn + Math.abs(round)) % builds.length;
      const value = await take(builds[index], round);
      if (round >= 0) seen[index].push(value);
    }
  }
  return seen;
}

const folders = process.argv.slice(2);
if (folders.length < 2)
  throw new Error("name the folders of two builds or more: node benches/isolate.mjs FOLDER FOLDER");
const columns = (unit) => [
  "",
  `${folders[0]}, ${unit}`,
  ...folders.slice(1).map((folder) => `${folder}, of the first`),
];

const started = await inTurns(folders, ROUNDS, 2, startUp);
print(
  `Start-up: medians of ${ROUNDS} rounds`,
  columns("ms"),
  ["compile", "instantiate"].map((part) =>
    row(
      part,
      started.map((rounds) => rounds.map((one) => one[part])),
      2,
    ),
  ),
);

const builds = [];
try {
  for (const folder of folders) builds.push(await builtFrom(folder));
  const rows = [];
  for (const asked of WITHIN)
    rows.push(row(asked.what, await inTurns(builds, ROUNDS, 3, (build) => within(build[asked.of], asked))));
  print(`CPU time within the isolate: medians of ${ROUNDS} rounds`, columns("µs"), rows);
} finally {
  for (const build of builds) for (const running of Object.values(build)) await running.stop();
}

const served = [];
try {
  for (const folder of folders) {
    const running = await start({ probe: false, modules: modulesOf(folder), vars: QUIET });
    const { digest, blobs } = await fill(running, { "1 KiB": 1 << 10 });
    await read(running, digest, blobs[1 << 10]);
    const ping = { path: "/v2/", length: (await running.send("GET", "/v2/")).body.length };
    served.push({
      running,
      ping,
      "manifest, hot": { ...digest, tier: "hot" },
      "blob of 1 KiB, hot": { ...blobs[1 << 10], tier: "hot" },
    });
  }
  const rows = [];
  for (const what of ["ping", "manifest, hot", "blob of 1 KiB, hot"]) {
    const rates = await inTurns(served, ROUNDS, 2, async ({ running, [what]: { path, length, tier, headers } }) => {
      const options = { headers: { authorization: basic(), ...headers }, expected: { length, tier }, connections: 16 };
      return (await load(running.url, path, options)).rate;
    });
    rows.push(row(what, rates, 0));
  }
  print(`Over HTTP, 16 connections: medians of ${ROUNDS} rounds`, columns("requests/s"), rows);
} finally {
  for (const { running } of served) await running.stop();
}
