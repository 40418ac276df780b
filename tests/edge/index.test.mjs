// docs/layer-index.md is enough to read an index: tests/index/reader.py was written from it alone,
// and reads the objects that the Worker stores.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { linkSync, lstatSync, mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync } from "node:fs";
import { symlinkSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { ROOT } from "../../scripts/command.mjs";
import { archive } from "./archive.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { entriesOf } from "./looks.mjs";
import { whole } from "./push.mjs";

const name = "index/image";
const SPAN = 65_536;
const READER = join(ROOT, "tests/index/reader.py");
const MAX_BUFFER = 1 << 28;

/** Returns text that compresses by half, with near and far matches: blocks of deflate are short. */
function text(length) {
  const words = buffer(4096, "words").toString("hex").match(/.{8}/g);
  const picks = buffer(length, "picks");
  let out = "";
  for (let at = 0; out.length < length; at += 4) {
    const pick = picks.readUInt32LE(at);
    out += pick & 1 ? words[(pick >>> 8) % words.length] : `${pick.toString(36)} `;
  }
  return Buffer.from(out.slice(0, length));
}

/** Writes a tree with entries of each type that needs no root. Returns the paths of its files. */
function plant(tree) {
  mkdirSync(join(tree, "usr/lib"), { recursive: true });
  const files = {
    "a-text": text(300_000),
    empty: Buffer.alloc(0),
    // Noise is in stored blocks, which begin at byte boundaries.
    "usr/noise": buffer(250_000, "noise"),
    "usr/lib/words": text(700_000),
    "usr/lib/zeros": Buffer.alloc(400_000),
    "usr/späte": Buffer.from("late\n"),
    last: text(100_000),
  };
  for (const [path, content] of Object.entries(files)) writeFileSync(join(tree, path), content, { mode: 0o640 });
  linkSync(join(tree, "usr/noise"), join(tree, "usr/same-noise"));
  symlinkSync("lib/../noise", join(tree, "usr/link"));
  execFileSync("mkfifo", [join(tree, "usr/pipe")]);
  const sparse = openSync(join(tree, "z-sparse"), "w");
  writeSync(sparse, text(9000), 0, 9000, 300_000);
  writeSync(sparse, "end", 700_000);
  closeSync(sparse);
  truncateSync(join(tree, "z-sparse"), 900_000);
  writeFileSync(Buffer.concat([Buffer.from(join(tree, "usr/")), Buffer.from([0xff])]), "not UTF-8");
  execFileSync("find", [tree, "-exec", "touch", "-h", "-d", "@1700000000.123456789", "{}", "+"]);
  execFileSync("touch", ["-d", "@-12.5", join(tree, "a-text")]);
  return [...Object.keys(files), "z-sparse", "usr/same-noise"];
}

/**
 * Options of tar. The same tree gives the same archive, but for a sparse file: its entry has the id
 * of the process.
 */
const TAR = [
  ...["-c", "-S", "--format=posix", "--sort=name", "--owner=someone:4242", "--group=some:2121"],
  "--pax-option=exthdr.name=x,atime:=1700000001.25,ctime:=1600000002.5,SCHILY.xattr.user.note:=a=b%",
];

/** Cuts bytes into pieces, and compresses each by itself. */
const pieces = (bytes, length, compress) =>
  Buffer.concat(
    Array.from({ length: Math.ceil(bytes.length / length) }, (_, at) =>
      compress(bytes.subarray(at * length, (at + 1) * length)),
    ),
  );

const through =
  (program, ...options) =>
  (input) =>
    execFileSync(program, options, { input, maxBuffer: MAX_BUFFER });

const gzip = through("gzip", "-9n");
const zstd = through("zstd", "-q", "-c", "-3");

/** Returns an environment where Python has zstd: before Python 3.14, by the zstd program. */
function withZstd(folder) {
  if (spawnSync("python3", ["-c", "import compression.zstd"]).status === 0) return process.env;
  mkdirSync(join(folder, "modules/compression"), { recursive: true });
  const run = `subprocess.run(["zstd", "-q", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout`;
  const module = `import subprocess\ndef decompress(data):\n    return ${run}\n`;
  writeFileSync(join(folder, "modules/compression/zstd.py"), module);
  return { ...process.env, PYTHONPATH: join(folder, "modules") };
}

describe("a reader in another language", () => {
  let folder;
  let tree;
  let files;
  let tar;
  let strata;
  let env;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "strata-index-"));
    tree = join(folder, "tree");
    files = plant(tree);
    tar = execFileSync("tar", [...TAR, "-C", tree, "."], { maxBuffer: MAX_BUFFER });
    env = withZstd(folder);
    strata = await start({ vars: { STRATA_SPAN_BYTES: String(SPAN) } });
  });
  after(async () => {
    await strata?.stop();
    if (folder) rmSync(folder, { recursive: true });
  });

  /**
   * Pushes a layer, indexes it, and copies its objects from the bucket. Returns the reader's
   * inputs.
   */
  async function indexed(layer, status = 200) {
    const digest = digestOf(layer);
    assert.equal((await whole(strata, name, digest, layer)).status, 201);
    const reply = await strata.send("GET", `/v2/${name}/_strata/layers/${digest}`);
    assert.equal(reply.status, status, reply.body.toString());
    const kept = mkdtempSync(join(folder, "kept-"));
    mkdirSync(join(kept, "spans"));
    writeFileSync(join(kept, "layer"), layer);
    const prefix = `layers/${digest.replace(":", "/")}/`;
    const bucket = await strata.bucket();
    const keys = (await strata.objects(prefix)).map(({ key }) => key.slice(prefix.length));
    for (const key of keys) {
      const object = await bucket.get(prefix + key);
      writeFileSync(join(kept, key), Buffer.from(await object.arrayBuffer()));
    }
    return { digest, kept, keys, body: reply.json() };
  }

  /** Runs the reader. */
  function run({ kept, keys }, ...command) {
    const pages = keys.includes("pages") ? ["--pages", join(kept, "pages")] : [];
    // A path may begin with a dash.
    const files = ["--", join(kept, "index"), join(kept, "layer")];
    const options = [READER, ...pages, "--spans", join(kept, "spans"), ...files];
    return spawnSync("python3", [...options, ...command], { env, maxBuffer: MAX_BUFFER });
  }

  function read(index, ...command) {
    const { status, stdout, stderr } = run(index, ...command);
    assert.equal(status, 0, stderr.toString());
    return stdout;
  }

  const listed = (index) => read(index, "list").toString().trimEnd().split("\n").map(JSON.parse);

  /** Asserts that the reader's entries are the Worker's, which leaves out empty fields. */
  async function listsWhatTheWorkerLists(index) {
    const list = listed(index);
    const seconds = (time) =>
      time.includes(".") ? `${time}000000000`.replace(/(\.\d{9}).*/, "$1") : `${time}.000000000`;
    const theirs = (await entriesOf(strata, name, index.digest)).map(({ whiteout, ...entry }) => {
      for (const time of ["modified", "accessed", "changed"]) if (entry[time]) entry[time] = seconds(entry[time]);
      return { user: "", group: "", ...entry };
    });
    assert.deepEqual(list, theirs);
    assert.equal(list.length, index.body.entryCount);
    return list;
  }

  /** Asserts that the reader has the entries of the tree, and the bytes of its files. */
  async function readsTheTree(index) {
    const list = await listsWhatTheWorkerLists(index);
    const paths = ["", "usr", "usr/lib", "usr/link", "usr/pipe", "usr/\ufffd", ...files];
    assert.deepEqual(new Set(list.map(({ path }) => path)), new Set(paths));
    for (const { path, type, mode, size, modified, link, ...entry } of list) {
      if (entry.pathEncoded) {
        assert.deepEqual([entry.pathEncoded, type, size], ["usr/%FF", "file", 9]);
        continue;
      }
      const original = lstatSync(join(tree, path), { bigint: true });
      assert.equal(BigInt(mode), original.mode & 0o7777n, path);
      assert.deepEqual([entry.uid, entry.user, entry.gid, entry.group], [4242, "someone", 2121, "some"]);
      assert.deepEqual([entry.accessed, entry.changed], ["1700000001.250000000", "1600000002.500000000"]);
      // Seconds are rounded down, before the epoch too.
      const [seconds, nanoseconds] = modified.split(".").map(BigInt);
      assert.equal(seconds * 1_000_000_000n + nanoseconds, original.mtimeNs, path);
      if (type === "file") assert.equal(BigInt(size), original.size, path);
      if (type === "symlink") assert.equal(link, "lib/../noise");
      assert.deepEqual(entry.attributes, [{ name: "user.note", value: "a%3Db%25" }]);
    }
    const types = new Set(list.map(({ type }) => type));
    assert.deepEqual(types, new Set(["directory", "file", "hardlink", "symlink", "fifo"]));
    assert.equal(list.find(({ path }) => path === "z-sparse").segments.length > 1, true);
    for (const path of files) {
      assert.ok(read(index, "cat", path).equals(readFileSync(join(tree, path))), `${path} has other bytes`);
    }
    const { diffId, starts, bits } = JSON.parse(read(index, "verify"));
    assert.equal(`sha256:${diffId}`, index.body.diffId);
    assert.equal(diffId, digestOf(tar).slice("sha256:".length));
    assert.equal(starts.length, index.body.spans);
    return { starts: new Set(starts), bits: new Set(bits) };
  }

  test("reads a layer of gzip from checkpoints between bytes", async (t) => {
    const index = await indexed(gzip(tar));
    const { starts, bits } = await readsTheTree(index);
    assert.deepEqual(starts, new Set([1, 2]));
    t.diagnostic(`${index.body.spans} spans, bits ${[...bits].sort()}`);
    assert.ok(
      [...bits].some((count) => count % 2 === 1) && [...bits].some((count) => count && count % 2 === 0),
      "bits",
    );
  });

  test("reads no byte of a layer before the checkpoint", async () => {
    const layer = gzip(tar);
    const index = await indexed(layer);
    const { offset, size } = listed(index).find(({ path }) => path === "usr/lib/words");
    assert.ok(offset > 4 * SPAN && size > 4 * SPAN);
    writeFileSync(join(index.kept, "layer"), Buffer.from(layer).fill(0, 0, SPAN));
    assert.ok(read(index, "cat", "usr/lib/words").equals(readFileSync(join(tree, "usr/lib/words"))));
    assert.match(run(index, "cat", "a-text").stderr.toString(), /incorrect header check/);
  });

  test("reads a layer of several gzip members", async () => {
    const { starts } = await readsTheTree(await indexed(pieces(tar, 150_000, gzip)));
    assert.ok(starts.has(1) && starts.has(2));
  });

  test("reads a layer that is not compressed", async () => {
    const { starts } = await readsTheTree(await indexed(tar));
    assert.deepEqual(starts, new Set([0]));
  });

  test("reads a layer of one frame of zstd from the stored spans", async () => {
    const index = await indexed(zstd(tar));
    assert.ok(index.keys.includes("spans/00000"), index.keys.join());
    const { starts } = await readsTheTree(index);
    assert.deepEqual(starts, new Set([4]));
  });

  test("reads a layer of many frames of zstd, some to be skipped, from the frames", async () => {
    const skipped = Buffer.from("502a4d1803000000616263", "hex");
    const index = await indexed(pieces(tar, 50_000, (piece) => Buffer.concat([zstd(piece), skipped])));
    assert.deepEqual(index.keys, ["index"]);
    const { starts } = await readsTheTree(index);
    assert.deepEqual(starts, new Set([3]));
  });

  test("reads an index in two objects, and of its contents only the blocks of a path", async () => {
    const names = buffer(32_000 * 72, "names")
      .toString("base64url")
      .match(/.{96}/g);
    const entries = names.map((path) => ({ path, content: Buffer.from(path.slice(0, 9)) }));
    // A second entry of a path replaces the first, but not for the link before.
    entries.push({ path: "link", type: "1", link: names[1000] });
    entries.push({ path: names[1000], content: Buffer.from("replaced") });
    const index = await indexed(gzipSync(archive(entries), { level: 1 }));
    assert.deepEqual(index.keys.sort(), ["index", "pages"]);
    await listsWhatTheWorkerLists(index);
    for (const at of [0, 999, 12_345, names.length - 1]) {
      assert.equal(read(index, "cat", names[at]).toString(), names[at].slice(0, 9));
    }
    assert.equal(read(index, "cat", names[1000]).toString(), "replaced");
    assert.equal(read(index, "cat", "link").toString(), names[1000].slice(0, 9));
    const missing = run(index, "cat", "missing");
    assert.equal(missing.status, 1);
    assert.match(missing.stderr.toString(), /is not in the layer/);
    // Damage the first blocks.
    const pages = join(index.kept, "pages");
    const bad = readFileSync(pages);
    writeFileSync(pages, bad.fill(0, 0, bad.length / 4));
    const last = names.toSorted().at(-1);
    assert.equal(read(index, "cat", last).toString(), last.slice(0, 9));
    assert.match(run(index, "cat", names.toSorted()[0]).stderr.toString(), /block 0 is damaged/);
  });

  test("reads empty layers", async () => {
    for (const layer of [Buffer.alloc(0), gzip(Buffer.alloc(0)), zstd(Buffer.alloc(0))]) {
      const index = await indexed(layer);
      assert.equal(read(index, "list").toString(), "");
      assert.deepEqual(JSON.parse(read(index, "verify")).starts, []);
    }
  });

  test("tells why there is no index", async () => {
    const index = await indexed(buffer(5000, "no archive"), 422);
    const { status, stderr } = run(index, "list");
    assert.equal(status, 1);
    const [, reason] = /^reader\.py: the layer was refused: (.+)$/m.exec(stderr.toString());
    assert.ok(index.body.errors[0].message.includes(reason), `${index.body.errors[0].message} / ${reason}`);
  });

  test("finds damage in each part", async () => {
    /**
     * Runs a command `count` times, each with another byte of a file changed. Returns the exit
     * codes.
     */
    const damaged = (index, key, count, ...command) => {
      const file = join(index.kept, key);
      const good = readFileSync(file);
      const results = Array.from({ length: count }, (_, at) => {
        const bad = Buffer.from(good);
        bad[Math.floor(((at + 0.5) * good.length) / count)] ^= 4;
        writeFileSync(file, bad);
        return run(index, ...command).status;
      });
      writeFileSync(file, good);
      return results;
    };
    // Without windows, a checksum covers each byte of the index.
    const plain = await indexed(tar);
    const { offset } = listed(plain).find(({ path }) => path === "usr/noise");
    const bad = Buffer.from(tar);
    bad[offset + 1000] ^= 4;
    writeFileSync(join(plain.kept, "layer"), bad);
    assert.match(run(plain, "cat", "usr/noise").stderr.toString(), /span \d+ is damaged/);
    writeFileSync(join(plain.kept, "layer"), tar);
    assert.deepEqual(damaged(plain, "index", 24, "list"), Array(24).fill(1));
    assert.deepEqual(damaged(plain, "layer", 4, "verify"), Array(4).fill(1));
    assert.deepEqual(damaged(await indexed(gzip(tar)), "layer", 4, "verify"), Array(4).fill(1));
    assert.deepEqual(damaged(await indexed(zstd(tar)), "spans/00000", 4, "verify"), Array(4).fill(1));
  });
});
