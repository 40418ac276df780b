// The cost of reading layers, without the registry: the index and reads through it, the pass
// compared with the platform's decompression, and memory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { ROOT, run } from "../scripts/command.mjs";
import { Failure, tail } from "../scripts/terminal.mjs";
import { build, instance } from "./layers/build.mjs";
import { archive, COMPRESSORS, compress, ODD, printed, write } from "./layers/make.mjs";
import { figure, median } from "./table.mjs";

const KIB = 1024;
const MIB = 1024 * KIB;
const SPANS = { "256 KiB": 256 * KIB, "1 MiB": MIB, "4 MiB": 4 * MIB };
// The chunk size of the platform's streams.
const PIECE = 64 * KIB;
const READ = 4 * KIB;
const READS = 1000;
const ROUNDS = 3;

const FIGURES = { reads, passes, programs, memory };
/**
 * `LAYERS_FIGURES` selects figures by name, and `LAYERS_MIB` is the size of the archive. With
 * `LAYERS_LONG=1` memory is also measured for layers of gigabytes.
 */
const ASKED = process.env.LAYERS_FIGURES?.split(",") ?? Object.keys(FIGURES);
const SIZE = Number(process.env.LAYERS_MIB ?? 300) * MIB;
const IS_LONG = process.env.LAYERS_LONG === "1";

export async function layers(print) {
  const folder = mkdtempSync(join(tmpdir(), "strata-bench-"));
  try {
    const built = await build();
    const tar = await archive(join(folder, "layer.tar"), SIZE);
    const made = [];
    for (const name of Object.keys(COMPRESSORS)) {
      const path = await compress(name, tar.path, join(folder, `layer-${made.length}`));
      if (path) made.push({ name, path, size: statSync(path).size });
    }
    const results = {
      archive: { bytes: tar.size, entries: tar.entries, layers: made.map(({ name, size }) => ({ name, size })) },
    };
    for (const name of ASKED) results[name] = await FIGURES[name](print, { ...built, folder, tar, made });
    const out = join(ROOT, "target/bench/layers.json");
    mkdirSync(join(ROOT, "target/bench"), { recursive: true });
    writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
    console.log(`\nThe same as JSON: ${out}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Measures the index for several sizes of spans, and random reads. Each read decompresses from the
 * beginning of a span to the end of the read.
 */
function reads(print, { script, tar, made }) {
  const found = [];
  const file = openSync(tar.path);
  const diffId = `sha256:${hashOf(tar.path)}`;
  for (const { name, path, size } of made) {
    const bytes = readFileSync(path);
    for (const [called, span] of Object.entries(SPANS)) {
      const { Head, Pass } = instance(script);
      const { index, objects } = indexed(Pass, bytes, span);
      const head = new Head(index);
      assert.equal(head.diff_id(), diffId, `${name} at ${called}: the diff ID`);
      const stored = objects.reduce((sum, object) => sum + object.length, 0);
      const random = randomly(span);
      const seen = [];
      for (let time = 0; time < READS + WARM; time += 1) {
        const start = Math.floor(random() * (tar.size - READ));
        const one = read(head, { bytes, index, objects }, start, start + READ);
        const want = Buffer.alloc(READ);
        readSync(file, want, 0, READ, start);
        assert.ok(want.equals(one.out), `${name} at ${called}: the bytes at ${start}`);
        if (time >= WARM) seen.push(one);
      }
      found.push({
        layer: name,
        span: called,
        spans: head.spans(),
        index: index.length / size,
        stored: stored / size,
        mean: mean(seen, "time"),
        p50: at(seen, "time", 0.5),
        p99: at(seen, "time", 0.99),
        fetched: mean(seen, "fetched"),
        taken: mean(seen, "taken"),
        inflated: mean(seen, "inflated"),
      });
    }
  }
  closeSync(file);
  const rows = found.map((one) => [
    `${one.layer}, ${one.span}`,
    one.spans,
    `${figure(one.index * 100)} %`,
    one.stored ? `${figure(one.stored * 100)} %` : "–",
    ...[one.mean, one.p50, one.p99].map(figure),
    ...[one.fetched, one.taken, one.inflated].map((count) => Math.round(count / KIB)),
  ]);
  const columns = [
    "layer, span",
    "spans",
    "index",
    "stored beside",
    "mean, ms",
    "p50",
    "p99",
    "KiB of layer in its spans",
    "up to its end",
    "KiB decompressed",
  ];
  print(
    `${READS} reads of ${READ / KIB} KiB at random, each cold, in wasm; index in per cent of the layer`,
    columns,
    rows,
  );
  return found;
}

/**
 * Reads bytes of the archive. `time` is the CPU time of decompression alone, in milliseconds: the
 * other figures are taken outside of it.
 */
function read(head, { bytes, index, objects }, start, end) {
  const parts = [];
  const seen = { time: 0, fetched: 0, taken: 0, inflated: 0 };
  const [first, last] = head.spans_of(BigInt(start), BigInt(end));
  for (let number = first; number < last; number += 1) {
    const [from, to, input, inputEnd, window, windowEnd, object] = head.span(number);
    const source = object === undefined ? bytes : objects[object];
    const compressed = source.subarray(input, inputEnd);
    const before = index.subarray(window, windowEnd);
    const length = Math.min(end, to) - from;
    const begun = process.cpuUsage();
    const out = head.inflate(number, before, compressed, length);
    seen.time += milliseconds(begun);
    parts.push(out.subarray(Math.max(start - from, 0)));
    seen.fetched += compressed.length;
    seen.taken += head.taken(number, before, compressed, length, 16 * KIB);
    seen.inflated += out.length;
  }
  return { ...seen, out: Buffer.concat(parts) };
}

/** Measures the pass and the platform's decompression in turns, in CPU time of all threads. */
async function passes(print, { script, tar, made }) {
  const { Inflater, Pass } = instance(script);
  const ways = {
    DecompressionStream: platform,
    "decompressing with CRC": (bytes) => inflated(new Inflater(undefined), bytes),
    "with checkpoints": (bytes) => inflated(new Inflater(MIB), bytes),
    "pass, diff ID elsewhere": (bytes) => passed(new Pass(BigInt(bytes.length), MIB, false), bytes, endWithAnyDiffId),
    "pass, diff ID by Node": (bytes) => digested(new Pass(BigInt(bytes.length), MIB, false), bytes),
    pass: (bytes) => passed(new Pass(BigInt(bytes.length), MIB, true), bytes),
  };
  const found = [];
  for (const { name, path } of made) {
    const bytes = readFileSync(path);
    const isGzip = name.includes("gzip");
    const rounds = [];
    for (let round = 0; round <= ROUNDS; round += 1) {
      const times = {};
      for (const [way, step] of Object.entries(ways)) {
        if (!isGzip && !way.startsWith("pass")) continue;
        const begun = process.cpuUsage();
        await step(bytes);
        times[way] = milliseconds(begun);
      }
      // The first round warms up: the engine compiles frequent code in it.
      if (round > 0) rounds.push(times);
    }
    const rates = {};
    for (const way of Object.keys(rounds[0])) {
      const rate = tar.size / 1e3 / median(rounds, way);
      const ratios = rounds.map((times) => ({ ratio: times.DecompressionStream / times[way] }));
      rates[way] = { rate, ratio: isGzip ? median(ratios, "ratio") : undefined };
    }
    found.push({ layer: name, rates, rounds });
  }
  const rows = Object.keys(ways).map((way) => [
    way,
    ...found.flatMap(({ rates }) => [
      rates[way] ? figure(rates[way].rate) : "–",
      rates[way]?.ratio ? figure(rates[way].ratio) : "–",
    ]),
  ]);
  const columns = ["in wasm, in turns", ...found.flatMap(({ layer }) => [`${layer}, MB/s`, "of the platform's"])];
  print(`The pass, MB of output in a second of CPU time; medians of ${ROUNDS} rounds`, columns, rows);
  return found;
}

/**
 * Measures the same natively, in turns with programs in C. Each run is a process that reads the
 * file.
 */
async function programs(print, { program, tar, made }) {
  const ways = {
    "gzip -dc": ["gzip", "-dc"],
    "C zlib, by Python": ["python3", "-c", PYTHON],
    "decompressing with CRC": [program, "inflate"],
    "pass, diff ID elsewhere": [program, "without"],
    pass: [program, "pass"],
  };
  const found = [];
  for (const { name, path } of made) {
    const isGzip = name.includes("gzip");
    const rounds = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const times = {};
      for (const [way, command] of Object.entries(ways)) {
        if (isGzip || way.startsWith("pass")) times[way] = await timed([...command, path]);
      }
      rounds.push(times);
    }
    const rates = Object.fromEntries(Object.keys(rounds[0]).map((way) => [way, tar.size / 1e6 / median(rounds, way)]));
    found.push({ layer: name, rates });
  }
  const rows = Object.keys(ways).map((way) => [
    way,
    ...found.map(({ rates }) => (rates[way] ? figure(rates[way]) : "–")),
  ]);
  print(
    "The same natively, MB of output in a second of CPU time",
    ["program, in turns", ...found.map(({ layer }) => layer)],
    rows,
  );
  return found;
}

/** Measures the outcome of a pass and the module's memory after it, which never shrinks. */
async function memory(print, { script, folder, tar, made }) {
  const file = (name) => join(folder, name);
  const stream = (path) => createReadStream(path, { highWaterMark: PIECE });
  const cases = made.map(({ name, path, size }) => ({ name, size, pieces: () => stream(path), expected: "" }));
  const kept = async (name, pieces, options, expected = "") => {
    const path = await write(name, pieces, file(`odd-${cases.length}`), options);
    cases.push({ name, size: statSync(path).size, pieces: () => stream(path), expected });
  };
  const packed = async (name, command, expected = "") => {
    const path = file(`odd-${cases.length}`);
    await must("sh", ["-ec", command, "sh", tar.path, path]);
    cases.push({ name, size: statSync(path).size, pieces: () => stream(path), expected });
  };
  await kept("1,000,000 headers", ODD.headers(1e6, false), { gzip: true });
  await kept("1,000,000 headers of random names", ODD.headers(1e6, true), { gzip: true }, "contents: ");
  await kept("10,000 members", ODD.members(10_000));
  await packed("zstd, a window of 8 MiB", `zstd -q -3 --long=23 -c "$1" > "$2"`);
  await packed("zstd, a window of 16 MiB", `zstd -q -3 --long=24 -c "$1" > "$2"`);
  await packed("zstd, a window of 128 MiB", `zstd -q -3 --long=27 -c "$1" > "$2"`, "zstd: ");
  // A refused layer is refused long before its end.
  const zeros = { size: 40 * MIB, expected: "ratio: " };
  cases.push({ ...zeros, name: "8 GiB of zeros", pieces: () => printed("sh", ["-c", "head -c 8G /dev/zero | gzip"]) });
  cases.push({
    ...zeros,
    name: "a file of 8 GiB of zeros",
    pieces: () => Readable.from(ODD.zeros(8 * KIB * MIB)).pipe(createGzip()),
  });
  if (IS_LONG) {
    const long = await archive(join(folder, "long.tar"), KIB * MIB);
    await packed("1 GiB, gzip -6", `gzip -6 -n -c "${long.path}" > "$2"`);
    await packed("1 GiB, zstd -3", `zstd -q -3 -c "${long.path}" > "$2"`);
    // At this level it decompresses to 229 times its size, which is just allowed.
    await packed("4 GiB of zeros, gzip -1", `head -c 4G /dev/zero | gzip -1 > "$2"`);
  }

  const found = [];
  for (const { name, size, pieces, expected } of cases) {
    const { Pass, linear_memory: memoryOf } = instance(script);
    const pass = new Pass(BigInt(size), MIB, true);
    let [outcome, stored, begun] = ["", 0, process.cpuUsage()];
    try {
      for await (const piece of pieces()) {
        pass.push(piece);
        for (let object = pass.object(); object; object = pass.object()) stored += object.length;
      }
      outcome = `an index of ${Math.round(pass.finish().length / KIB)} KiB`;
      assert.equal(expected, "", `${name}: ${outcome}`);
    } catch (error) {
      if (typeof error !== "string") throw error;
      assert.ok(expected && error.startsWith(expected), `${name}: ${error}`);
      outcome = error;
    }
    found.push({
      case: name,
      outcome,
      stored,
      inflated: Number(pass.inflated()),
      peak: memoryOf().buffer.byteLength,
      time: milliseconds(begun),
    });
  }
  const rows = found.map((one) => [
    one.case,
    Math.round(one.inflated / MIB),
    figure(one.time / 1000),
    figure(one.peak / MIB),
    one.outcome,
  ]);
  print(
    "Memory of the module at the end of a pass",
    ["layer", "MiB decompressed", "seconds", "MiB of memory", "outcome"],
    rows,
  );
  return found;
}

function indexed(Pass, bytes, span) {
  const pass = new Pass(BigInt(bytes.length), span, true);
  const objects = [];
  const take = () => {
    for (let object = pass.object(); object; object = pass.object()) objects.push(Buffer.from(object));
  };
  for (const piece of pieces(bytes)) {
    pass.push(piece);
    take();
  }
  const index = pass.finish();
  take();
  pass.free();
  return { index, objects };
}

function passed(pass, bytes, end = (pass) => pass.finish()) {
  for (const piece of pieces(bytes)) {
    pass.push(piece);
    while (pass.object());
  }
  end(pass);
  pass.free();
}

function endWithAnyDiffId(pass) {
  pass.end_to(() => undefined);
  pass.finish_as(new Uint8Array(32));
}

/** Runs a pass whose output is hashed outside of the module, as by the platform's DigestStream. */
function digested(pass, bytes) {
  const hash = createHash("sha256");
  const take = (bytes) => hash.update(bytes);
  for (const piece of pieces(bytes)) {
    pass.push_to(piece, take);
    while (pass.object());
  }
  pass.end_to(take);
  pass.finish_as(hash.digest());
  pass.free();
}

function inflated(inflater, bytes) {
  for (const piece of pieces(bytes)) inflater.push(piece);
  inflater.finish();
  inflater.free();
}

async function platform(bytes) {
  const source = pieces(bytes);
  const readable = new ReadableStream({
    pull(controller) {
      const { done, value } = source.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  await readable.pipeThrough(new DecompressionStream("gzip")).pipeTo(new WritableStream());
}

function* pieces(bytes) {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
}

/** Runs a command. Resolves with its CPU time in seconds. */
async function timed(command) {
  const { output } = await must("bash", ["-c", `TIMEFORMAT="%U %S"; time "$@" > /dev/null`, "bash", ...command]);
  const [user, system] = output.trim().split("\n").at(-1).split(" ").map(Number);
  return user + system;
}

async function must(program, args) {
  const ended = await run(program, args);
  if (ended.code !== 0) throw new Failure(`${program} failed`, tail(ended.output, 40));
  return ended;
}

function milliseconds(begun) {
  const { user, system } = process.cpuUsage(begun);
  return (user + system) / 1000;
}

function mean(seen, key) {
  return seen.reduce((sum, one) => sum + one[key], 0) / seen.length;
}

function at(seen, key, part) {
  return seen.map((one) => one[key]).sort((one, other) => one - other)[Math.floor(seen.length * part)];
}

/** Returns a generator of numbers from 0 to below 1, the same for each seed (mulberry32). */
function randomly(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function hashOf(path) {
  const hash = createHash("sha256");
  const file = openSync(path);
  const piece = Buffer.alloc(4 * MIB);
  for (let length = readSync(file, piece); length > 0; length = readSync(file, piece)) {
    hash.update(piece.subarray(0, length));
  }
  closeSync(file);
  return hash.digest("hex");
}

const WARM = 100;
const PYTHON = `
import sys, zlib
decoder, total = zlib.decompressobj(31), 0
with open(sys.argv[1], "rb") as file:
    while piece := file.read(256 * 1024):
        total += len(decoder.decompress(piece))
`;
