// Layers from disk, as the page reads them in a worker.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import zlib from "node:zlib";

import { archive } from "../edge/archive.mjs";
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

/** Bytes that compress a little, the same ones each time (mulberry32). */
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

/** Keeps bytes as a file on the disk, and gives it to the page. */
async function give(name, bytes) {
  const file = path.join(folder, name);
  if (bytes) fs.writeFileSync(file, bytes);
  await opened.page.setInputFiles("#file", file);
}

/** Has the page open the file that it was given, as `layer`. */
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

/** What the page says of a file that is no layer. */
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
  const files = Array.from({ length: 24 }, (_, at) => ({ path: `d/file-${String(at).padStart(2, "0")}`, content: noise(at, MIB) }));
  const tar = archive([{ path: "d", type: "5", mode: 0o755 }, ...files, { path: "d/ünï <b>", content: Buffer.from("odd") }]);
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
  assert.ok(inflated > 0 && inflated < 2 * MIB, `${inflated} bytes inflated`);
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

test("nothing but its own four files was asked for, and nothing was complained of", () => {
  const asked = new Set(opened.requests.map((address) => new URL(address).pathname));
  asked.delete("/favicon.ico");
  assert.deepEqual([...asked].sort(), ["/", "/inspect_bg.wasm", "/page.js", "/worker.ts"]);
  assert.deepEqual(opened.problems, []);
});
