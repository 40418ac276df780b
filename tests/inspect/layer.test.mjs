// Layers from disk, as the page reads them in a worker.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import zlib from "node:zlib";

import { archive, END, header } from "../edge/archive.mjs";
import { open } from "./harness.mjs";

const MIB = 1 << 20;

let folder;
let opened;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-inspect-"));
  opened = await open();
});

after(async () => {
  await opened.close();
  fs.rmSync(folder, { recursive: true });
});

/** Returns bytes that compress a little, the same for the same seed (mulberry32). */
function noise(seed, length) {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at < length; at += 1) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    bytes[at] = (mixed ^ (mixed >>> 14)) & 63;
  }
  return bytes;
}

/** Writes the checksum of a header again. */
function sign(block) {
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
}

/** Returns a layer of a megabyte with a file of 1 GiB of zeros. */
function bomb() {
  const gzip = (bytes) => zlib.gzipSync(bytes, { level: 9 });
  const zeros = gzip(Buffer.alloc(64 * MIB));
  return Buffer.concat([gzip(header({ path: "zeros", size: 1024 * MIB })), ...Array(16).fill(zeros), gzip(END)]);
}

const BASE = noise(7, MIB);

/** Returns the content of file number `at`: 1 MiB, another one for each. */
function large(at) {
  const bytes = Buffer.from(BASE);
  for (let place = 0; place < MIB; place += 4096) bytes.writeUInt32LE(at * 7919 + place, place);
  return bytes;
}

/**
 * Writes a layer of `count` such files, each a gzip member at the fastest level: compression is not
 * tested.
 */
function writeLarge(file, count) {
  const out = fs.openSync(file, "w");
  for (let at = 0; at < count; at += 1) {
    fs.writeSync(out, zlib.gzipSync(Buffer.concat([header({ path: `f${at}`, size: MIB }), large(at)]), { level: 1 }));
  }
  fs.writeSync(out, zlib.gzipSync(END));
  fs.closeSync(out);
}

/** Writes bytes to a file, and selects it in the page. */
async function give(name, bytes) {
  const file = path.join(folder, name);
  if (bytes) fs.writeFileSync(file, bytes);
  await opened.page.setInputFiles("#file", file);
}

/** Opens the selected file in the page, as `layer`. */
const openFile = () =>
  opened.page.evaluate(async () => {
    globalThis.layer?.close();
    const seen = [];
    const [file] = document.querySelector("#file").files;
    const begun = { signal: new AbortController().signal, onProgress: (read, size) => seen.push([read, size]) };
    globalThis.layer = await openLayer(file, begun);
    const { name, size, inflatedSize, compression, diffId, entryCount } = layer;
    return { name, size, inflatedSize, compression, diffId, entryCount, seen, counters: layer.counters() };
  });

/** Selects a file that is not a layer, and returns the page's error. */
async function refused(name, bytes) {
  await give(name, bytes);
  return opened.page.evaluate(async () => {
    const [file] = document.querySelector("#file").files;
    return openLayer(file, { signal: new AbortController().signal, onProgress: () => {} }).then(
      (layer) => `opened: ${layer.entryCount} entries`,
      (error) => error.message,
    );
  });
}

test("a layer is indexed, and a file near its end read from a checkpoint", async () => {
  const files = Array.from({ length: 24 }, (_, at) => ({
    path: `d/file-${String(at).padStart(2, "0")}`,
    content: noise(at, MIB),
  }));
  const tar = archive([
    { path: "d", type: "5", mode: 0o755 },
    ...files,
    { path: "d/ünï <b>", content: Buffer.from("odd") },
  ]);
  const gzipped = zlib.gzipSync(tar);
  await give("layer.tar.gz", gzipped);
  const { seen, counters, ...found } = await openFile();
  assert.deepEqual(found, {
    name: "layer.tar.gz",
    size: gzipped.length,
    inflatedSize: tar.length,
    compression: "gzip",
    diffId: `sha256:${execFileSync("sha256sum", { input: tar }).toString().slice(0, 64)}`,
    entryCount: files.length + 2,
  });
  assert.ok(seen.length > 10, `${seen.length} times of progress`);
  assert.deepEqual(seen.at(-1), [gzipped.length, gzipped.length]);
  assert.equal(counters.bytesRead, gzipped.length);
  assert.equal(counters.bytesInflated, 0);

  const read = await opened.page.evaluate(async () => {
    const { bytes, size } = await layer.read("d/file-23", 5000, 5100);
    return { bytes: [...bytes], size, counters: layer.counters() };
  });
  assert.deepEqual(Buffer.from(read.bytes), files[23].content.subarray(5000, 5100));
  assert.equal(read.size, MIB);
  assert.equal(read.counters.restarts, 1);
  const inflated = read.counters.bytesInflated;
  assert.ok(inflated > 0 && inflated < 2 * MIB, `${inflated} bytes decompressed`);
  const fetched = read.counters.bytesRead - counters.bytesRead;
  assert.ok(fetched > 0 && fetched < 2 * MIB, `${fetched} bytes read`);

  const listed = await opened.page.evaluate(async () => [await layer.list(""), await layer.list("d/", "file-22")]);
  assert.deepEqual(
    listed.map(({ children }) => children.map(({ name, type, size }) => `${type} ${name} ${size}`)),
    [["directory d 0"], [`file file-23 ${MIB}`, "file ünï <b> 3"]],
  );
  const odd = await opened.page.evaluate(async () => {
    const { bytes, size } = await layer.read("d/%C3%BCn%C3%AF%20%3Cb%3E", 1, 1000);
    return [new TextDecoder().decode(bytes), size];
  });
  assert.deepEqual(odd, ["dd", 3]);
});

test("the files of a layer are summed up and searched", async () => {
  const tar = archive([
    { path: "d", type: "5", mode: 0o755 },
    { path: "d/a", content: Buffer.alloc(1000) },
    { path: "d/e/b", content: Buffer.alloc(10) },
    { path: "d/.wh.c" },
  ]);
  await give("layer.tar", tar);
  await openFile();
  const found = await opened.page.evaluate(async () => {
    const analyser = await layer.analyse();
    return {
      analysis: analyser.analysis,
      children: await analyser.children("d/"),
      found: await analyser.search("B", 10),
    };
  });
  assert.deepEqual(found.analysis, {
    efficiency: 1,
    wastedBytes: 0,
    entries: 4,
    offenders: [],
    changes: [{ added: 4, changed: 0, removed: 0, bytes: 1010 }],
  });
  assert.deepEqual(
    found.children.map(({ name, type, state, totalSize }) => [name, type, state, totalSize]),
    [
      ["a", "file", "unchanged", 1000],
      ["e", "directory", "unchanged", 10],
    ],
  );
  assert.deepEqual(
    found.found.map(({ path, layerIndex, entry }) => [path, layerIndex, entry.size]),
    [["d/e/b", 0, 10]],
  );
});

test("an image is analysed by pages of its tables of contents", async () => {
  const entry = (path, size, more) => ({
    path,
    type: "file",
    mode: 420,
    uid: 0,
    gid: 0,
    size,
    modified: "0",
    offset: 512,
    ...more,
  });
  const pages = [
    [[entry("a", 10), entry("b", 5)], [entry("n\ufffd", 1, { pathEncoded: "n%FF" })]],
    [[entry(".wh.a", 0, { whiteout: "name" }), entry("n\ufffd", 3, { pathEncoded: "n%FF" })]],
  ];
  const layers = pages.map((pages) => pages.map((entries) => JSON.stringify({ entries })));
  const found = await opened.page.evaluate(async (layers) => {
    const done = [];
    const iterate = async function* (pages) {
      yield* pages;
    };
    const analyser = await analyse(layers.map(iterate), (count) => done.push(count));
    const said = [
      analyser.analysis,
      await analyser.children(""),
      await analyser.layerChildren(1, ""),
      await analyser.search("n", 9),
      done,
    ];
    const error = await analyser.children("x/").catch((error) => error.message);
    analyser.free();
    const freed = await analyser.children("").catch((error) => error.message);
    const refused = await analyse([iterate(["<html>"])]).catch((error) => error.message);
    const controller = new AbortController();
    const endless = async function* () {
      while (true) yield JSON.stringify({ entries: [] });
    };
    setTimeout(() => controller.abort(), 50);
    const aborted = await analyse([endless()], undefined, controller.signal).catch((error) => error.name);
    return [...said, error, freed, refused, aborted];
  }, layers);
  const [analysis, merged, layer, searched, done, ...errors] = found;
  assert.equal(analysis.wastedBytes, 14);
  assert.equal(analysis.efficiency, 6 / 19);
  assert.deepEqual(analysis.offenders, [
    { path: "a", times: 2, bytes: 10 },
    { path: "n\ufffd", pathEncoded: "n%FF", times: 2, bytes: 4 },
  ]);
  const lines = (children) =>
    children.map(({ name, state, layerIndex, whiteout = "" }) => `${state} ${name} ${layerIndex}${whiteout}`);
  assert.deepEqual(lines(merged), ["removed a 1name", "unchanged b 0", "changed n\ufffd 1"]);
  assert.deepEqual(lines(layer), ["removed a 1name", "changed n\ufffd 1"]);
  assert.deepEqual(
    searched.map(({ pathEncoded }) => pathEncoded),
    ["n%FF"],
  );
  assert.deepEqual(done, [1, 2]);
  const told = [
    "no such directory: /x/",
    "the layer or image was closed: open it again",
    "not a page of a table of contents: expected value at line 1 column 1",
    "AbortError",
  ];
  assert.deepEqual(errors, told);
});

test("a layer of zstd in one frame is read at random as well", async () => {
  const files = Array.from({ length: 12 }, (_, at) => ({ path: `f${at}`, content: noise(at, MIB) }));
  const tar = path.join(folder, "one.tar");
  fs.writeFileSync(tar, archive(files));
  execFileSync("zstd", ["-q", "-f", tar]);
  await give("one.tar.zst");
  const { compression } = await openFile();
  assert.equal(compression, "zstd");
  const read = await opened.page.evaluate(async () => {
    const { bytes } = await layer.read("f11", 1000, 1010);
    return [[...bytes], layer.counters()];
  });
  assert.deepEqual(Buffer.from(read[0]), files[11].content.subarray(1000, 1010));
  assert.equal(read[1].restarts, 1);
  assert.ok(read[1].bytesInflated <= 2 * MIB, `${read[1].bytesInflated} bytes decompressed`);
});

test("a cancelled call ends at once, and the worker ends with its layer", async () => {
  await give("layer.tar.gz");
  const aborted = await opened.page.evaluate(async () => {
    const [file] = document.querySelector("#file").files;
    const controller = new AbortController();
    const seen = [];
    const onProgress = (read) => {
      seen.push(read);
      if (seen.length === 3) controller.abort();
    };
    const error = await openLayer(file, { signal: controller.signal, onProgress }).catch((error) => error.name);
    const counted = seen.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    const early = await openLayer(file, { signal: AbortSignal.abort(), onProgress }).catch((error) => error.name);
    return { error, early, more: seen.length - counted, read: seen.at(-1), size: file.size };
  });
  assert.deepEqual([aborted.error, aborted.early, aborted.more], ["AbortError", "AbortError", 0]);
  assert.ok(aborted.read < aborted.size / 2, `${aborted.read} of ${aborted.size} read`);
  // A cancelled read leaves the layer as it was.
  await openFile();
  const read = await opened.page.evaluate(async () => {
    const controller = new AbortController();
    const broken = layer.read("d/file-03", 0, 1 << 20, controller.signal).catch((error) => error.name);
    controller.abort();
    const { bytes } = await layer.read("d/file-03", 0, 4);
    return [await broken, [...bytes]];
  });
  assert.deepEqual(read, ["AbortError", [...noise(3, 4)]]);
  await opened.page.evaluate(() => layer.close());
  for (let left = 50; opened.page.workers().length > 0 && left > 0; left -= 1)
    await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(opened.page.workers().length, 0);
});

test("a file that is no layer is refused with the reason", async () => {
  const tar = archive([{ path: "a", content: noise(1, 100_000) }]);
  const gzipped = zlib.gzipSync(tar);
  const corrupt = Buffer.from(gzipped);
  corrupt[50_000] ^= 0xff;
  const huge = header({ path: "huge" });
  // A size of 5 GiB in base 256, without any content.
  huge.fill(0, 124, 136);
  huge[124] = 0x80;
  huge.writeBigUInt64BE(5n << 30n, 128);
  sign(huge);
  const cases = [
    ["text", Buffer.from("Nothing but text.\n".repeat(100)), /^not a tar archive/],
    ["a.zip", Buffer.concat([Buffer.from("504b0304", "hex"), noise(1, 2000)]), /^not a tar archive/],
    ["empty", Buffer.alloc(0), /^the file is empty$/],
    ["cut.tar", tar.subarray(0, 60_000), /^a truncated tar archive/],
    ["cut.tar.gz", gzipped.subarray(0, 50_000), /^truncated gzip data/],
    ["cut.tar.zst", execFileSync("zstd", ["-q", "-c"], { input: tar }).subarray(0, 50_000), /^truncated zstd data/],
    [
      "corrupt.tar.gz",
      corrupt,
      /^(invalid deflate data|the checksum of a (gzip member|tar header) does not match|a tar )/,
    ],
    ["layer.tar.xz", Buffer.from("fd377a585a0000", "hex"), /^compressed with xz; gzip and zstd are supported/],
    ["bomb.tar.gz", bomb(), /^it decompresses to more than 250 times its size/],
    ["huge.tar", Buffer.concat([huge, Buffer.alloc(1024)]), /^a truncated tar archive/],
  ];
  for (const [name, bytes, expected] of cases) {
    const found = await refused(name, bytes);
    assert.match(found, expected, name);
    assert.doesNotMatch(found, /memory|unreachable/, name);
  }
});

test("a file that has changed on the disk is noticed", async () => {
  await give("layer.tar.gz");
  await openFile();
  const file = path.join(folder, "layer.tar.gz");
  fs.writeFileSync(file, fs.readFileSync(file).fill(0, 4 * MIB));
  const error = await opened.page.evaluate(() => layer.read("d/file-20", 0, 10).catch((error) => error.message));
  assert.match(error, /^the file can no longer be read .*: open it again$/);
});

test("invalid numbers are refused, and paths that lead nowhere", async () => {
  await give(
    "odd.tar",
    archive([
      { path: "a", content: Buffer.from("abc") },
      { path: "l", type: "2", link: "a" },
      { path: "x", type: "2", link: "y" },
    ]),
  );
  await openFile();
  const told = await opened.page.evaluate(async () => {
    const read = (...parameters) =>
      layer.read(...parameters).then(
        ({ bytes, size }) => `${bytes} of ${size}`,
        (error) => error.message,
      );
    return [
      await read("l", 1, 9),
      await read("a", 7, 9),
      await read("a", -1, 9),
      await read("a", 0, 2 ** 60),
      await read("x", 0, 1),
      await read("", 0, 1),
    ];
  });
  assert.deepEqual(told, [
    "98,99 of 3",
    " of 3",
    "the beginning of a range is -1: a whole number from 0 to 9007199254740991 is wanted",
    "the end of a range is 1152921504606847000: a whole number from 0 to 9007199254740991 is wanted",
    "no such file or directory: x",
    "/ is a directory and has no content",
  ]);
});

test("memory does not grow with the layer", async () => {
  // 256 MiB, in which each mebibyte differs.
  const file = path.join(folder, "large.tar.gz");
  writeLarge(file, 256);
  await give("large.tar.gz");
  const { counters, entryCount } = await openFile();
  assert.equal(entryCount, 256);
  assert.ok(counters.memory < 16 * MIB, `${counters.memory / MIB} MiB of memory`);
  const read = await opened.page.evaluate(async () => [
    [...(await layer.read("f255", (1 << 20) - 4, 1 << 20)).bytes],
    layer.counters(),
  ]);
  assert.equal(read[1].restarts, 1);
  assert.ok(read[1].bytesInflated <= 2 * MIB);
  assert.deepEqual(Buffer.from(read[0]), large(255).subarray(-4));
});

test("the page requested only its own four files, and the browser reported no problem", () => {
  const asked = new Set(opened.requests.map((address) => new URL(address).pathname));
  asked.delete("/favicon.ico");
  assert.deepEqual([...asked].sort(), ["/", "/inspect_bg.wasm", "/page.js", "/worker.ts"]);
  assert.deepEqual(opened.problems, []);
});
