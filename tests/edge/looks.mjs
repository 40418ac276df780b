// Makes a layer of more than 100 MB from files that each build machine has, reads parts of it, and
// counts the cost.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, createWriteStream, openSync, readSync, closeSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { ROOT, run } from "../../scripts/command.mjs";
import { whole } from "./push.mjs";

const MIB = 1 << 20;

/** The bytes that one read takes from a file larger than 1 MiB. */
const READ = 64 << 10;

/**
 * Writes a gzipped layer of Node's packages and Rust's library into a folder. Returns
 * `{ file, digest, size, archive, source }`: `archive` is the size before compression, and `source`
 * returns the original file of a path.
 */
export async function realLayer(folder) {
  const sysroot = dirname(dirname((await run("rustup", ["which", "rustc"])).stdout.trim()));
  const parts = [
    "-C",
    realpathSync(ROOT),
    "--exclude=.cache",
    // The formatter's program would make the archive larger than one step decompresses.
    "--exclude=@biomejs",
    "node_modules",
    "-C",
    sysroot,
    "lib/rustlib/wasm32-unknown-unknown",
  ];
  const tar = spawn("tar", ["-c", "-f", "-", ...parts], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(tar, "close");
  const file = join(folder, "layer.tar.gz");
  const hash = createHash("sha256");
  let [archive, size] = [0, 0];
  await pipeline(
    tar.stdout,
    new PassThrough().on("data", (chunk) => (archive += chunk.length)),
    // The fastest level, because the tests do not depend on it.
    createGzip({ level: 1, chunkSize: MIB }),
    new PassThrough().on("data", (chunk) => {
      hash.update(chunk);
      size += chunk.length;
    }),
    createWriteStream(file),
  );
  assert.equal((await ended)[0], 0, "tar failed");
  const source = (path) => join(path.startsWith("node_modules/") ? ROOT : sysroot, path);
  return { file, digest: `sha256:${hash.digest("hex")}`, size, archive, source };
}

/** Pushes a layer from its file. */
export async function push(strata, name, { file, digest, size }) {
  const reply = await whole(strata, name, digest, createReadStream(file, { highWaterMark: MIB }), size);
  assert.equal(reply.status, 201, reply.body.toString());
}

/** Returns all entries of a layer, page by page. */
export async function entriesOf(strata, name, digest) {
  const entries = [];
  for (let path = `/v2/${name}/_strata/layers/${digest}`; path; ) {
    const reply = await strata.send("GET", path);
    assert.equal(reply.status, 200, reply.body.toString());
    entries.push(...reply.json().entries);
    [, path] = /<(.*)>; rel="next"/.exec(reply.headers.link ?? "") ?? [];
  }
  return entries;
}

/**
 * Returns `count` reads that are spread evenly over an archive:
 * `{ path, first, end, offset, range }`. A file of up to 1 MiB is read whole, and of a larger one
 * the part at that position. `offset` is the offset of the read in the archive.
 */
export function spread(entries, archive, count) {
  const files = entries
    .filter(({ type, size }) => type === "file" && size > 0)
    .sort((one, other) => one.offset - other.offset);
  return Array.from({ length: count }, (_, index) => {
    const at = Math.floor(((index + 0.5) * archive) / count);
    const file = files.find(({ offset, size }) => offset + size > at) ?? files.at(-1);
    const first = file.size <= MIB ? 0 : Math.min(Math.max(0, at - file.offset), file.size - READ);
    const end = file.size <= MIB ? file.size : first + READ;
    return { path: file.path, first, end, offset: file.offset + first, range: file.size > MIB };
  });
}

/** Reads from a layer, and compares the bytes with those of the original file. */
export async function look(strata, name, layer, { path, first, end, range }) {
  const headers = range ? { range: `bytes=${first}-${end - 1}` } : {};
  const at = `/v2/${name}/_strata/layers/${layer.digest}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
  const reply = await strata.send("GET", at, { headers });
  assert.equal(reply.status, range ? 206 : 200, `${path}: ${reply.body}`);
  assert.ok(reply.body.equals(part(layer.source(path), first, end)), `the bytes of ${path} differ`);
}

/** Returns a part of a file. */
export function part(file, first, end) {
  const bytes = Buffer.alloc(end - first);
  const opened = openSync(file);
  try {
    assert.equal(readSync(opened, bytes, 0, bytes.length, first), bytes.length);
  } finally {
    closeSync(opened);
  }
  return bytes;
}

/**
 * Reads the same bytes in the naive way: decompresses the layer from its start. Returns the number
 * of bytes decompressed.
 */
export async function naive({ file, source }, { path, first, end, offset }) {
  const inflated = createReadStream(file, { highWaterMark: MIB }).pipe(createGunzip({ chunkSize: MIB }));
  const bytes = Buffer.alloc(end - first);
  let length = 0;
  for await (const chunk of inflated) {
    if (length + chunk.length > offset) {
      const [from, to] = [Math.max(offset, length), Math.min(offset + bytes.length, length + chunk.length)];
      chunk.copy(bytes, from - offset, from - length, to - length);
    }
    length += chunk.length;
    if (length >= offset + bytes.length) break;
  }
  assert.ok(bytes.equals(part(source(path), first, end)), `the bytes of ${path} differ`);
  return length;
}

/** Returns the changes of an isolate's metrics about layers during a step. */
export async function changes(strata, step) {
  const before = await strata.metrics();
  await step();
  const after = await strata.metrics();
  const change = (name) => (after[name] ?? 0) - (before[name] ?? 0);
  const hits = (tier) => change(`strata_tier_hits_total{kind="span",tier="${tier}"}`);
  return {
    passes: change('strata_layer_passes_total{outcome="indexed"}'),
    pauses: change('strata_layer_passes_total{outcome="paused"}'),
    passed: change('strata_inflated_bytes_total{what="pass"}'),
    spans: change('strata_inflate_operations_total{what="span"}'),
    inflated: change('strata_inflated_bytes_total{what="span"}'),
    ranges: change("strata_layer_range_requests_total"),
    fetched: change("strata_layer_range_bytes_total"),
    hot: hits("hot"),
    warm: hits("warm"),
    cold: hits("cold"),
  };
}

/** The share of reads that the hot and the warm tier answered. */
export const hitRate = ({ hot, warm, cold }) => (hot + warm) / (hot + warm + cold);

/** Waits until `count` spans are warm. Returns `{ first, end }` of each in the archive. */
export async function warmed(strata, digest, count) {
  const prefix = `layers/${digest.replace(":", "/")}/archive/`;
  const namespace = await strata.namespace();
  for (let tries = 0; ; tries += 1) {
    const spans = [];
    let cursor;
    do {
      const page = await namespace.list({ prefix, cursor });
      spans.push(...page.keys.map(({ name }) => name.slice(prefix.length).split("-").map(Number)));
      cursor = page.list_complete ? undefined : page.cursor;
    } while (cursor);
    if (spans.length >= count) return spans.map(([first, end]) => ({ first, end }));
    assert.ok(tries < 200, `${spans.length} of ${count} spans are warm`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Yields `times` numbers below `count`, small ones more often (Zipf), and always the same ones. */
export function* zipf(count, times) {
  const weights = Array.from({ length: count }, (_, rank) => 1 / (rank + 1));
  const total = weights.reduce((sum, weight) => sum + weight);
  let state = 1n;
  for (let time = 0; time < times; time += 1) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    let left = (Number(state >> 11n) / 2 ** 53) * total;
    const rank = weights.findIndex((weight) => {
      left -= weight;
      return left < 0;
    });
    yield rank < 0 ? count - 1 : rank;
  }
}
