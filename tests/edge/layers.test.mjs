// Reads of layers on the real runtime: which bytes they decompress, how often, and how much memory
// they take.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { createGzip, gzipSync } from "node:zlib";
import { archive, END, header, padding } from "./archive.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { open } from "./http.mjs";
import { changes, entriesOf, hitRate, look, naive, push, realLayer, spread, warmed, zipf } from "./looks.mjs";
import { manifestOf, whole } from "./push.mjs";

const MIB = 1 << 20;
const WASM = 48 * MIB;
const name = "layers/image";

const mib = (bytes) => `${Math.round(bytes / MIB)} MiB`;
const boundedWasm = async (strata) => {
  const wasm = await strata.wasm();
  assert.ok(wasm < WASM, `${wasm} bytes of wasm memory`);
  return wasm;
};

describe("a layer of 100 MB", () => {
  let strata;
  let folder;
  let layer;
  let entries;
  let reads;
  let spans;
  const times = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "strata-layers-"));
    layer = await realLayer(folder);
    strata = await start({ isolates: 3 });
    await push(strata, name, layer);
  });
  after(async () => {
    await strata?.stop();
    if (folder) await rm(folder, { recursive: true });
  });

  test("is large enough", () => assert.ok(layer.size >= 100e6, `${layer.size} bytes`));

  test("is decompressed once for concurrent first requests", async (t) => {
    const path = `/v2/${name}/_strata/layers/${layer.digest}`;
    strata.resetPeak();
    const idle = strata.memory().resident;
    const order = [];
    const ask = async (path) => {
      const reply = await strata.send("GET", path);
      assert.equal(reply.status, 200, reply.body.toString());
      order.push(path);
    };
    const seen = await changes(strata, async () => {
      const looks = [ask(path), ask(path)];
      // The pass gives turns to short requests.
      await setTimeout(200);
      for (let ping = 0; ping < 3; ping += 1) await ask("/v2/");
      await Promise.all(looks);
    });
    assert.deepEqual(order, ["/v2/", "/v2/", "/v2/", path, path]);
    assert.deepEqual([seen.passes, seen.pauses, seen.passed, seen.spans], [1, 0, layer.archive, 0]);
    const wasm = await boundedWasm(strata);
    t.diagnostic(
      `${mib(layer.size)} of ${mib(layer.archive)}: wasm ${mib(wasm)}, workerd grew by ${mib(strata.memory().peak - idle)} at most`,
    );
  });

  test("lists the files that it was made of", async () => {
    entries = await entriesOf(strata, name, layer.digest);
    const found = entries.filter(({ type }) => type === "file" || type === "hardlink").map(({ path }) => path);
    const expected = [];
    for (const top of ["node_modules", "lib/rustlib/wasm32-unknown-unknown"]) {
      for (const entry of await readdir(layer.source(`${top}/`), { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const path = join(entry.parentPath ?? entry.path, entry.name);
        if (!path.includes("/.cache/") && !path.includes("/@biomejs/"))
          expected.push(join(top, path.slice(layer.source(`${top}/`).length)));
      }
    }
    assert.deepEqual(found.sort(), expected.sort());
  });

  test("serves 50 files spread over it, and decompresses their spans only", async (t) => {
    reads = spread(entries, layer.archive, 50);
    assert.equal(new Set(reads.map(({ path, first }) => `${path} ${first}`)).size, 50);
    const seen = await changes(strata, async () => {
      for (const read of reads) {
        const begun = performance.now();
        await look(strata, name, layer, read);
        times.push(performance.now() - begun);
      }
    });
    spans = await warmed(strata, layer.digest, seen.spans);
    // Each decompressed span has a part of a file that was read, and was decompressed once.
    for (const span of spans) {
      const touched = reads.some(({ offset, first, end }) => offset < span.end && offset + end - first > span.first);
      assert.ok(touched, `${span.first}-${span.end} was decompressed for nothing`);
    }
    assert.equal(seen.passed, 0);
    assert.equal(seen.spans, spans.length);
    assert.equal(
      seen.inflated,
      spans.reduce((sum, { first, end }) => sum + end - first, 0),
    );
    assert.ok(seen.fetched <= seen.inflated, `${seen.fetched} bytes fetched`);

    const ours = layer.archive + seen.inflated;
    const theirs = reads.reduce((sum, { offset, first, end }) => sum + offset + end - first, 0);
    t.diagnostic(
      `decompressed ${mib(ours)} with the pass, ${mib(seen.inflated)} of it in ${seen.spans} spans; from the start each: ${mib(theirs)}, ${(theirs / ours).toFixed(1)} times as much`,
    );
    assert.ok(theirs > 10 * ours);
  });

  test("serves the same files again, and decompresses nothing", async () => {
    const seen = await changes(strata, async () => {
      for (const read of reads) await look(strata, name, layer, read);
    });
    assert.deepEqual([seen.passed, seen.spans, seen.inflated, seen.ranges], [0, 0, 0, 0]);
    assert.equal(hitRate(seen), 1);
  });

  test("serves the same files in another isolate, and decompresses nothing", async () => {
    const other = strata.isolate(1);
    const seen = await changes(other, async () => {
      for (const read of reads) await look(other, name, layer, read);
    });
    assert.deepEqual([seen.passes, seen.passed, seen.spans, seen.inflated, seen.ranges], [0, 0, 0, 0, 0]);
    assert.equal(hitRate(seen), 1);
    // The spans decompressed there are not in this isolate's memory.
    assert.ok(seen.warm >= spans.length, `${seen.warm} spans came from the warm tier`);
  });

  test("is not decompressed again if its index is in R2 only", async () => {
    const namespace = await strata.namespace();
    await namespace.delete(`layers/${layer.digest.replace(":", "/")}/index`);
    const last = strata.isolate(2);
    const seen = await changes(last, () => look(last, name, layer, reads[0]));
    assert.deepEqual([seen.passes, seen.passed, seen.spans], [0, 0, 0]);
    assert.equal((await last.metrics())['strata_tier_hits_total{kind="index",tier="cold"}'], 1);
  });

  test("serves 95 of 100 reads of the same and other files from the hot or the warm tier", async (t) => {
    const others = spread(entries, layer.archive, 83).filter((_, index) => index % 3 === 0);
    const all = [...reads, ...others];
    const seen = await changes(strata, async () => {
      for (const rank of zipf(all.length, 600)) await look(strata, name, layer, all[rank]);
    });
    const rate = hitRate(seen);
    t.diagnostic(`${(100 * rate).toFixed(1)} %: ${seen.hot} hot, ${seen.warm} warm, ${seen.cold} cold`);
    assert.ok(rate >= 0.95, `${rate}`);
    assert.ok(seen.cold > 0, "nothing new was read");
    await boundedWasm(strata);
  });

  test("makes a naive reader decompress all bytes before each file", async (t) => {
    const some = [5, 15, 25, 35, 45];
    const begun = performance.now();
    let inflated = 0;
    for (const index of some) inflated += await naive(layer, reads[index]);
    const theirs = performance.now() - begun;
    const ours = some.reduce((sum, index) => sum + times[index], 0);
    t.diagnostic(
      `${some.length} of the 50, cold: ${ours.toFixed(0)} ms; naively: ${theirs.toFixed(0)} ms, ${(theirs / ours).toFixed(0)} times as long, and ${mib(inflated)} decompressed`,
    );
    const last = reads[some.at(-1)];
    assert.ok(inflated > last.offset + last.end - last.first);
  });
});

describe("a layer that takes several requests", () => {
  // The cost of a step is at least three times the compressed bytes it reads.
  const content = buffer(24 * MIB, "steps");
  const blob = gzipSync(
    archive([
      { path: "before", content: Buffer.from("before\n") },
      { path: "large", content },
      { path: "after", content: Buffer.from("after\n") },
    ]),
    { level: 1 },
  );
  const digest = digestOf(blob);
  const at = `/v2/${name}/_strata/layers/${digest}`;
  let strata;

  const begin = (vars) => async () => {
    strata = await start({
      isolates: 2,
      vars: { STRATA_INDEX_STEP_BYTES: String(8 * MIB), STRATA_SCRUB_DAYS: "0", ...vars },
    });
    assert.equal((await whole(strata, name, digest, blob)).status, 201);
  };
  const end = () => strata.stop();
  const isWhole = async (isolate) => {
    for (const [path, expected] of [
      ["before", "before\n"],
      ["after", "after\n"],
    ]) {
      const reply = await isolate.send("GET", `${at}/files/${path}`);
      assert.equal(reply.status, 200, reply.body.toString());
      assert.equal(reply.body.toString(), expected);
    }
    const reply = await isolate.send("GET", `${at}/files/large`);
    assert.ok(reply.body.equals(content));
    // The pass leaves nothing but the index.
    assert.deepEqual(await strata.objects("indexing/"), []);
    assert.equal((await strata.objects(`layers/${digest.replace(":", "/")}/`)).length, 1);
  };

  test("reports its progress, in each of two isolates, until it is indexed", async () => {
    await begin()();
    try {
      const isolates = [strata, strata.isolate(1)];
      let [read, asked] = [0, 0];
      const seen = [];
      for (const isolate of isolates) seen.push(await isolate.metrics());
      for (;;) {
        // Each isolate resumes where the other one stopped.
        const reply = await isolates[asked % 2].send("GET", at);
        asked += 1;
        if (reply.status === 200) break;
        assert.equal(reply.status, 202, reply.body.toString());
        assert.equal(reply.headers["retry-after"], "1");
        const body = reply.json();
        assert.deepEqual([body.state, body.digest, body.size], ["indexing", digest, blob.length]);
        assert.ok(body.read > read && body.read < body.size, `${body.read} after ${read}`);
        assert.equal(body.fraction, body.read / body.size);
        read = body.read;
      }
      assert.ok(asked >= 6, `${asked} requests`);
      const sum = async (metric) => {
        const all = await Promise.all(isolates.map((isolate) => isolate.metrics()));
        return all.reduce((total, metrics) => total + metrics[metric], 0);
      };
      assert.equal(await sum('strata_layer_passes_total{outcome="indexed"}'), 1);
      assert.equal(await sum('strata_layer_passes_total{outcome="paused"}'), asked - 1);
      // No byte is decompressed twice.
      assert.equal(
        await sum('strata_inflated_bytes_total{what="pass"}'),
        archive([]).length + 3 * 512 + 512 + 512 + content.length,
      );
      await isWhole(strata);
    } finally {
      await end();
    }
  });

  test("is resumed by the clock", async () => {
    await begin()();
    try {
      assert.equal((await strata.send("GET", at)).status, 202);
      let ticks = 0;
      while ((await strata.objects("indexing/")).length > 0) {
        await strata.tick();
        ticks += 1;
        assert.ok(ticks < 50, "indexing did not finish in 50 ticks");
      }
      assert.ok(ticks >= 5, `${ticks} ticks`);
      const seen = await changes(strata, () => isWhole(strata));
      assert.equal(seen.passes, 0);
      // An idle tick costs one listing, and one read of the sweep's cursor.
      await strata.reset();
      await strata.tick();
      const calls = (await strata.calls()).map(({ call, key }) => `${call} ${key}`);
      assert.deepEqual(calls, ["r2.get sweep/cursor", "r2.list indexing/"]);
    } finally {
      await end();
    }
  });

  test("is begun by a push if STRATA_INDEX_ON_PUSH is set", async () => {
    await begin({ STRATA_INDEX_ON_PUSH: "true" })();
    try {
      const config = Buffer.from(
        JSON.stringify({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } }),
      );
      assert.equal((await whole(strata, name, digestOf(config), config)).status, 201);
      const { body, mediaType } = manifestOf({ digest: digestOf(config), size: config.length }, [
        { digest, size: blob.length },
      ]);
      const reply = await strata.send("PUT", `/v2/${name}/manifests/latest`, {
        body,
        headers: { "content-type": mediaType },
      });
      assert.equal(reply.status, 201, reply.body.toString());
      for (let tries = 0; (await strata.objects("indexing/"))[0]?.size === 0 || tries === 0; tries += 1) {
        assert.ok(tries < 100, "indexing did not start in time");
        await setTimeout(50);
      }
      for (let ticks = 0; (await strata.objects("indexing/")).length > 0; ticks += 1) {
        await strata.tick();
        assert.ok(ticks < 50, "indexing did not finish in 50 ticks");
      }
      const seen = await changes(strata.isolate(1), () => isWhole(strata.isolate(1)));
      assert.equal(seen.passes, 0);
    } finally {
      await end();
    }
  });
});

describe("a file of 500 MB", () => {
  const size = 500_000_000;
  const expected = createHash("sha256");
  const path = "var/log/large.txt";
  let strata;
  let at;

  const pushBlob = async (strata, digest, content) => {
    const reply = await whole(strata, name, digest, content);
    assert.equal(reply.status, 201, reply.body.toString());
  };

  before(async () => {
    const blob = [];
    const gzip = createGzip({ level: 1, chunkSize: MIB }).on("data", (chunk) => blob.push(chunk));
    const ended = new Promise((resolve, reject) => gzip.on("end", resolve).on("error", reject));
    const write = async (chunk) => gzip.write(chunk) || new Promise((resolve) => gzip.once("drain", resolve));
    await write(header({ path, size }));
    for (const lines of text(size)) {
      expected.update(lines);
      await write(lines);
    }
    gzip.end(Buffer.concat([padding(size), END]));
    await ended;
    const content = Buffer.concat(blob);
    strata = await start();
    const digest = digestOf(content);
    await pushBlob(strata, digest, content);
    at = `/v2/${name}/_strata/layers/${digest}/files/${path}`;
    const indexed = await strata.send("GET", `/v2/${name}/_strata/layers/${digest}`);
    assert.equal(indexed.status, 200, indexed.body.toString());
  });
  after(() => strata?.stop());

  const ask = (options = {}) =>
    open(new URL(at, strata.url), { ...options, headers: { authorization: basic(), ...options.headers } });

  test("is served whole, in bounded memory", async (t) => {
    strata.resetPeak();
    const idle = strata.memory().resident;
    const hash = createHash("sha256");
    let length = 0;
    const seen = await changes(strata, async () => {
      const reply = await ask();
      assert.equal(reply.status, 200);
      assert.equal(Number(reply.headers["content-length"]), size);
      for await (const chunk of reply.stream) {
        hash.update(chunk);
        length += chunk.length;
      }
    });
    assert.equal(length, size);
    assert.equal(hash.digest("hex"), expected.copy().digest("hex"));
    // Each span is decompressed once, and none is cached.
    assert.ok(seen.inflated >= size && seen.inflated <= size + 4 * MIB, `${seen.inflated} bytes decompressed`);
    assert.deepEqual([seen.hot, seen.warm, seen.cold], [0, 0, 0]);
    const wasm = await boundedWasm(strata);
    const { peak, resident } = strata.memory();
    t.diagnostic(
      `wasm ${mib(wasm)}; workerd grew by ${mib(peak - idle)} at most, ${mib(resident - idle)} in the end; ${seen.ranges} ranges of the layer`,
    );
    assert.ok(!(peak - idle > 256 * MIB), `workerd grew by ${peak - idle} bytes`);
  });

  test("does not block other requests while it is served", async () => {
    const order = [];
    const whole = async () => {
      const reply = await ask();
      for await (const _ of reply.stream);
      order.push("whole");
    };
    const coming = whole();
    for (let ping = 0; ping < 3; ping += 1) {
      await setTimeout(50);
      assert.equal((await strata.send("GET", "/v2/")).status, 200);
      order.push("ping");
    }
    await coming;
    assert.deepEqual(order, ["ping", "ping", "ping", "whole"]);
  });

  test("answers HEAD and If-None-Match, and decompresses nothing", async () => {
    const seen = await changes(strata, async () => {
      const reply = await strata.send("HEAD", at);
      assert.equal(reply.status, 200);
      assert.equal(reply.body.length, 0);
      assert.equal(Number(reply.headers["content-length"]), size);
      assert.equal(reply.headers["accept-ranges"], "bytes");
      assert.equal(reply.headers["content-type"], "text/plain; charset=utf-8");
      const again = await strata.send("GET", at, { headers: { "if-none-match": reply.headers.etag } });
      assert.equal(again.status, 304);
    });
    assert.deepEqual([seen.spans, seen.inflated, seen.ranges], [0, 0, 0]);
  });

  test("is served in ranges, and decompresses their spans only", async () => {
    const lines = (first, end) =>
      Buffer.from(Array.from({ length: end - first }, (_, index) => line(first + index)).join(""));
    const cases = [
      ["bytes=0-63", 0, 64],
      [`bytes=${200_000_000}-${200_000_127}`, 200_000_000, 200_000_128],
      ["bytes=-128", size - 128, size],
      [`bytes=${size - 64}-`, size - 64, size],
    ];
    for (const [range, first, end] of cases) {
      const seen = await changes(strata, async () => {
        const reply = await strata.send("GET", at, { headers: { range } });
        assert.equal(reply.status, 206, reply.body.toString());
        assert.equal(reply.headers["content-range"], `bytes ${first}-${end - 1}/${size}`);
        assert.deepEqual(reply.body, lines(first / 64, end / 64));
      });
      assert.ok(
        seen.spans <= 2 && seen.inflated < 8 * MIB,
        `${seen.inflated} bytes decompressed in ${seen.spans} spans`,
      );
    }
    const several = await strata.send("GET", at, { headers: { range: "bytes=0-63,128-191" } });
    assert.equal(several.status, 206);
    const [, boundary] = /^multipart\/byteranges; boundary=(.+)$/.exec(several.headers["content-type"]);
    assert.deepEqual(
      several.body
        .toString()
        .split(`--${boundary}`)
        .slice(1, 3)
        .map((part) => part.split("\r\n\r\n")[1]),
      [`${line(0)}\r\n`, `${line(2)}\r\n`],
    );
    const beyond = await strata.send("GET", at, { headers: { range: `bytes=${size}-` } });
    assert.equal(beyond.status, 416);
    assert.equal(beyond.headers["content-range"], `bytes */${size}`);
  });

  test("is decompressed no further when its client disconnects", async () => {
    const seen = await changes(strata, async () => {
      for (let client = 0; client < 8; client += 1) {
        const reply = await ask();
        for await (const _ of reply.stream) break;
        await setTimeout((client % 4) * 20);
        reply.stream.destroy();
      }
      // Wait until nothing more is decompressed.
      for (
        let [last, now] = [-1, 0];
        last !== now;
        [last, now] = [now, (await strata.metrics())['strata_inflated_bytes_total{what="span"}']]
      ) {
        await setTimeout(300);
      }
    });
    assert.ok(seen.inflated < size / 2, `${seen.inflated} bytes decompressed for 8 clients that disconnected`);
    await boundedWasm(strata);
    assert.equal((await strata.send("HEAD", at)).status, 200);
  });

  test("is served to four clients at once, in bounded memory", async (t) => {
    const part = 100_000_032;
    const replies = await Promise.all(
      [0, 1, 2, 3].map(async (index) => {
        const first = index * 64;
        const reply = await ask({ headers: { range: `bytes=${first}-${first + part - 1}` } });
        assert.equal(reply.status, 206);
        let length = 0;
        for await (const chunk of reply.stream) length += chunk.length;
        return length;
      }),
    );
    assert.deepEqual(replies, [part, part, part, part]);
    t.diagnostic(`wasm ${mib(await boundedWasm(strata))}`);
  });
});

/** Returns the line of 64 bytes with this number. */
function line(number) {
  const digits = String(number).padStart(12, "0");
  const words = `${digits} the line of this number ends with what is left ${(number * 7919) % 997}`;
  return `${words.padEnd(63).slice(0, 63)}\n`;
}

/** Yields `size` bytes of lines that all differ. */
function* text(size) {
  const count = Math.ceil(size / 64);
  for (let first = 0; first < count; first += 16_384) {
    const lines = Array.from({ length: Math.min(16_384, count - first) }, (_, index) => line(first + index)).join("");
    yield Buffer.from(lines, "latin1").subarray(0, size - first * 64);
  }
}
