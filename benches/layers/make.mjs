// Layers to read: files of this machine, packed by common tools, and archives that no tool would
// write.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream, statSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip, gzipSync } from "node:zlib";
import { find, ROOT, run } from "../../scripts/command.mjs";
import { Failure, tail, task } from "../../scripts/terminal.mjs";

const GO = join(ROOT, "benches/layers/gzip.go");

/** The commands that compress a tar, by the names of the layers. */
export const COMPRESSORS = {
  "gzip -6": `gzip -6 -n -c "$1" > "$2"`,
  "Go's gzip": `go run "${GO}" < "$1" > "$2"`,
  "zstd -3": `zstd -q -3 -c "$1" > "$2"`,
};

/** Makes a tar of about this many bytes from whole folders of packages, always the same ones. */
export function archive(path, bytes) {
  return task(`a tar of ${bytes >> 20} MiB`, async () => {
    const found = await must("find", [
      "/usr/bin",
      "/usr/lib",
      "/usr/share",
      "-xdev",
      "(",
      "-type",
      "f",
      "-o",
      "-type",
      "l",
      ")",
      "-printf",
      "%s\\t%h\\t%P\\t%H\\n",
    ]);
    const folders = new Map();
    for (const line of found.stdout.split("\n").filter(Boolean)) {
      const [size, within, path, start] = line.split("\t");
      if (path === undefined) continue;
      const files = folders.get(within) ?? [];
      folders.set(within, [
        ...files,
        { path: `${start}/${path}`.slice(1), size: 512 + Math.ceil(Number(size) / 512) * 512 },
      ]);
    }
    const order = [...folders.keys()].sort((one, other) => (rank(one) < rank(other) ? -1 : 1));
    let [sum, chosen] = [0, []];
    for (const name of order) {
      if (sum >= bytes) break;
      const size = folders.get(name).reduce((all, { size }) => all + size, 0);
      // A folder of more than a tenth of the archive would dominate the figures.
      if (size > bytes / 10) continue;
      chosen.push(...folders.get(name).map(({ path }) => path));
      sum += size;
    }
    const list = `${path}.list`;
    writeFileSync(
      list,
      chosen
        .sort()
        .map((path) => `${path}\0`)
        .join(""),
    );
    await must("tar", ["-C", "/", "-c", "--null", "-T", list, "-f", path]);
    return { path, size: statSync(path).size, entries: chosen.length };
  });
}

/** Compresses a file with one of the above. Returns undefined for Go's gzip if Go is missing. */
export function compress(name, from, to) {
  if (name.startsWith("Go") && !find("go")) return undefined;
  return task(name, async () => {
    await must("sh", ["-ec", COMPRESSORS[name], "sh", from, to]);
    return to;
  });
}

/** Generators of archives that are expensive to read, in pieces. */
export const ODD = { headers, zeros, members };

/** Writes pieces to a file, compressed by gzip if asked. Resolves with its path. */
export function write(name, pieces, path, { gzip = false } = {}) {
  return task(name, async () => {
    await pipeline(pieces, ...(gzip ? [createGzip()] : []), createWriteStream(path));
    return path;
  });
}

/** Yields headers of empty files, with paths as in node_modules, or with hashes as names. */
function* headers(count, isShuffled) {
  let gathered = [];
  for (let index = 0; index < count; index += 1) {
    const path = isShuffled
      ? createHash("sha1").update(String(index)).digest("hex")
      : `usr/lib/node_modules/package-${Math.floor(index / 500)}/dist/part-${Math.floor(index / 20) % 25}/file-${index % 20}.js`;
    gathered.push(header(path, 0, 1_700_000_000 + (index % 1000)));
    if (gathered.length === 2048) {
      yield Buffer.concat(gathered);
      gathered = [];
    }
  }
  yield Buffer.concat([...gathered, Buffer.alloc(1024)]);
}

/** Yields a tar of one file with this many zeros. */
function* zeros(size) {
  yield header("zeros", size, 0);
  const piece = Buffer.alloc(1 << 20);
  for (let left = size; left > 0; left -= piece.length) yield piece;
  yield Buffer.alloc(1024);
}

/** Yields a tar in about `count` members of gzip, of some 100 bytes each. */
function* members(count) {
  const size = count * 100;
  const tar = Buffer.concat([
    header("members", size, 0),
    Buffer.alloc(size, "strata "),
    Buffer.alloc(1024 + ((512 - (size % 512)) % 512)),
  ]);
  const length = Math.ceil(tar.length / count);
  for (let at = 0; at < tar.length; at += length) yield gzipSync(tar.subarray(at, at + length));
}

/** Returns the header of a file (POSIX.1-1988). */
function header(path, size, modified) {
  const bytes = Buffer.alloc(512);
  const octal = (value, at, length) => bytes.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
  bytes.write(path, 0, 100);
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  if (size < 8 ** 11) octal(size, 124, 12);
  else {
    bytes[124] = 0x80;
    bytes.writeBigUInt64BE(BigInt(size), 128);
  }
  octal(modified, 136, 12);
  bytes.fill(" ", 148, 156);
  bytes.write("0", 156);
  bytes.write("ustar\u000000", 257, "latin1");
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}

/** Streams the output of a command. Kills the command if the reader stops early. */
export async function* printed(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
  try {
    yield* child.stdout;
  } finally {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

async function must(program, args) {
  const ended = await run(program, args);
  if (ended.code !== 0) throw new Failure(`${program} failed`, tail(ended.output, 40));
  return ended;
}

function rank(text) {
  return createHash("sha1").update(text).digest("hex");
}
