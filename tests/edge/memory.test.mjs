// The memory that strangers can make the isolate hold. Each case has an instance of its own,
// because wasm memory never shrinks.
import assert from "node:assert/strict";
import { pbkdf2Sync } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { gzip, gzipSync } from "node:zlib";
import { archive, END, header, padding } from "./archive.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, password, start, user } from "./harness.mjs";
import { open } from "./http.mjs";
import { begin, manifestOf, whole } from "./push.mjs";

const MIB = 1 << 20;
/**
 * The most bytes that wasm memory may grow by. Part buffers and the hot tier take the rest of the
 * isolate's memory.
 */
const MOST = 64 * MIB;
const AT_ONCE = 32;
const name = "memory/image";
/**
 * The layers of an image, and how many of them differ: more make the test longer. A run by hand
 * with STRATA_MEMORY_LAYERS=500 has all layers different.
 */
const LAYERS = 500;
const DIFFERENT = Number(process.env.STRATA_MEMORY_LAYERS ?? 100);
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;

/** The content of the file in the lowest layer, or a page of the directory in all layers. */
const LOOKED = /^the lowest layer's$|^\{"children"/;

/**
 * The cases. `prepare` stores the data of a case and returns `ask`. `ask(n)` sends the request of
 * that number, which is one of several at once, and returns the reply. `says` has the expected
 * status and text. Any request may get a 503 with the reason instead. `settings` go to the Worker.
 * `most` replaces `MOST` for a case with a lower limit.
 */
const ways = [
  {
    name: "60 entries of one path, each with 1 MB of attributes",
    prepare: (strata) => layers(strata, ownAttributes(60)),
    says: [422, /bytes of entries at one path/],
  },
  {
    name: "5,000 entries of one path below global attributes",
    prepare: (strata) =>
      layers(
        strata,
        globalAttributes(5_000, () => "a"),
      ),
    says: [422, /table of contents is too large/],
  },
  {
    name: "20,000 paths below global attributes",
    prepare: (strata) =>
      layers(
        strata,
        globalAttributes(20_000, (number) => `${number}`),
      ),
    says: [422, /table of contents is too large/],
  },
  {
    name: "900 paths below global attributes",
    prepare: (strata) =>
      layers(
        strata,
        globalAttributes(900, (number) => `${number}`),
      ),
    says: [200, /"attributes"/],
  },
  {
    name: "20 referrers with 600 KB of annotations each",
    prepare: referrers,
    says: [200, /"annotations"/],
  },
  {
    name: "a manifest of 3.3 MB of nested annotations",
    prepare: nested,
    says: [400, /annotations: invalid type: sequence, expected a string/],
  },
  {
    name: "files of 8 MiB in layers",
    prepare: files,
    says: [200, /^[^{]/],
  },
  {
    // The head of each index takes 50 KiB, which no ledger counts. A cache for each request would
    // take 32 MiB.
    name: `${LAYERS} layers, ${DIFFERENT} of them different, with heads of 50 KiB`,
    prepare: (strata) => image(strata, { different: DIFFERENT, paths: 48 }),
    says: [200, LOOKED],
    most: 24 * MIB,
  },
  {
    // The head of each index takes 1.6 MiB. Opening them for a page is more work than a request may
    // do.
    name: `${LAYERS} layers with heads of 1.6 MiB`,
    prepare: (strata) => image(strata, { different: 8, paths: 400, attributes: 1300, ask: () => "z" }),
    says: [200, LOOKED],
  },
  {
    // A listing has the next name of each layer, which would take 8 MiB for each request here.
    name: `a page of ${LAYERS} layers with names of 16 KB`,
    prepare: (strata) => image(strata, { different: 20, paths: 0, name: 16_000, ask: () => "y/?n=1" }),
    says: [422, /bytes of memory for directories/],
  },
];

for (const way of ways) {
  test(`${way.name}: one, and ${AT_ONCE} at once`, async (t) => {
    const strata = await start({ vars: way.settings });
    try {
      assert.equal((await strata.send("GET", "/v2/")).status, 200);
      const idle = await strata.wasm();
      strata.resetPeak();
      const resident = strata.memory().resident;
      const ask = await way.prepare(strata);
      const prepared = await strata.wasm();
      const [status, text] = way.says;
      const first = await ask(0);
      assert.equal(first.status, status, first.body.toString().slice(0, 500));
      assert.match(first.body.toString("latin1"), text);
      const one = await strata.wasm();
      const replies = await Promise.all(Array.from({ length: AT_ONCE }, (_, number) => ask(number + 1)));
      const tally = {};
      for (const reply of replies) {
        const said = reply.body.toString("latin1");
        tally[reply.status] = (tally[reply.status] ?? 0) + 1;
        if (reply.status === 503) {
          assert.match(said, /needs \d+ KiB of memory, and .* in use|use \d+ of your/);
          assert.ok(Number(reply.headers["retry-after"]) > 0);
        } else {
          assert.equal(reply.status, status, said.slice(0, 500));
          assert.match(said, text);
        }
      }
      const all = await strata.wasm();
      t.diagnostic(
        `wasm above an idle ${mib(idle)}: ${mib(prepared - idle)} prepared, ${mib(one - idle)} one, ${mib(all - idle)} at once; ` +
          `workerd grew by ${mib(strata.memory().peak - resident)}; ${JSON.stringify(tally)}`,
      );
      assert.ok(all - idle < (way.most ?? MOST), `${all - idle} bytes of wasm memory above an idle isolate`);
    } finally {
      await strata.stop();
    }
  });
}

describe("64 bodies of one user", () => {
  let strata;
  const stop = new AbortController();

  before(async () => {
    const plain = (bytes) => bytes.toString("base64").replaceAll("=", "");
    const salt = Buffer.alloc(16, "salt");
    const entry = `pbkdf2-sha256$1000$${plain(salt)}$${plain(pbkdf2Sync(password, salt, 1000, 32, "sha256"))}`;
    strata = await start({ vars: { STRATA_USERS: JSON.stringify({ users: { [user]: entry, other: entry } }) } });
  });
  after(async () => {
    stop.abort();
    await strata?.stop();
  });

  test("leave buffers for another user", async (t) => {
    const resident = strata.memory().resident;
    strata.resetPeak();
    const slow = [];
    for (let number = 0; number < 64; number += 1) {
      const location = await begin(strata, `memory/slow-${number}`);
      const body = async function* () {
        yield Buffer.alloc(1024);
        await setTimeout(60_000, undefined, { signal: stop.signal }).catch(() => {});
      };
      const headers = { authorization: basic(), "content-type": "application/octet-stream" };
      slow.push(
        open(new URL(location, strata.url), { method: "PATCH", headers, body: body(), signal: stop.signal }).catch(
          () => {},
        ),
      );
    }
    await setTimeout(1_000);
    const content = buffer(12 * MIB, "another user's");
    const headers = { authorization: basic("other") };
    const begun = await strata.send("POST", "/v2/memory/other/blobs/uploads/", { headers });
    const body = async function* () {
      yield content;
    };
    const url = new URL(begun.headers.location, strata.url);
    url.searchParams.set("digest", digestOf(content));
    const closed = await strata.send("PUT", url, { headers, body: body() });
    assert.equal(closed.status, 201, closed.body.toString());
    t.diagnostic(`workerd grew by ${mib(strata.memory().peak - resident)} at most; wasm ${mib(await strata.wasm())}`);
    stop.abort();
    await Promise.all(slow);
  });
});

/** Returns a record of a pax header. */
function record(key, value) {
  const rest = key.length + value.length + 3;
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return Buffer.from(`${length} ${key}=${value}\n`);
}

/** Returns the end of an archive: entries of one path, each with a megabyte of attributes. */
function ownAttributes(count) {
  const value = "a".repeat(1000);
  const records = Buffer.concat(
    Array.from({ length: 1000 }, (_, number) => record(`SCHILY.xattr.user.${String(number).padStart(4, "0")}`, value)),
  );
  const entry = Buffer.concat([
    header({ path: "pax", type: "x", size: records.length }),
    records,
    padding(records.length),
    header({ path: "a" }),
  ]);
  return Buffer.concat([...Array.from({ length: count }, () => entry), END]);
}

/** Returns the end of an archive: entries after a global header with 31 KiB of attributes. */
function globalAttributes(count, path) {
  const value = "a".repeat(1000);
  const records = Buffer.concat(
    Array.from({ length: 31 }, (_, number) => record(`SCHILY.xattr.user.${number}`, value)),
  );
  const begin = [header({ path: "pax", type: "g", size: records.length }), records, padding(records.length)];
  return Buffer.concat([
    ...begin,
    ...Array.from({ length: count }, (_, number) => header({ path: path(number) })),
    END,
  ]);
}

/**
 * Pushes layers that differ in their first file only. Returns a function that reads the contents of
 * one.
 */
async function layers(strata, end) {
  const rest = gzipSync(end, { level: 9 });
  const digests = [];
  for (let number = 0; number <= AT_ONCE; number += 1) {
    const layer = Buffer.concat([gzipSync(archive([{ path: `first-${number}` }]).subarray(0, -END.length)), rest]);
    digests.push(await blob(strata, layer));
  }
  return (number) => looked(strata, `/v2/${name}/_strata/layers/${digests[number]}?n=100`);
}

/** Pushes layers with files that don't compress. Returns a function that reads one of the files. */
async function files(strata) {
  const digests = [];
  for (let number = 0; number < 4; number += 1) {
    digests.push(
      await blob(
        strata,
        gzipSync(archive([{ path: "file", content: buffer(8 * MIB, `file ${number}`) }]), { level: 1 }),
      ),
    );
  }
  for (const digest of digests) await looked(strata, `/v2/${name}/_strata/layers/${digest}`);
  return (number) => looked(strata, `/v2/${name}/_strata/layers/${digests[number % 4]}/files/file`);
}

/**
 * Pushes an image whose layers repeat after `different` ones, and indexes these. Returns a function
 * that by turns reads a file and a page, each of which needs all layers.
 */
async function image(strata, { different, ask = (number) => (number % 2 === 0 ? "z" : "y/?n=1"), ...shape }) {
  const descriptors = [];
  for (let number = 0; number < different; number += 1) {
    const content = await layerOfLongPaths(number, shape);
    descriptors.push({ digest: await blob(strata, content), size: content.length });
  }
  // An isolate indexes two layers at a time.
  for (let at = 0; at < different; at += 2) {
    const pair = descriptors
      .slice(at, at + 2)
      .map(({ digest }) => looked(strata, `/v2/${name}/_strata/layers/${digest}?prefix=z`));
    for (const reply of await Promise.all(pair)) assert.equal(reply.status, 200, reply.body.toString().slice(0, 500));
  }
  const config = Buffer.from("{}");
  const stacked = Array.from({ length: LAYERS }, (_, number) => descriptors[number % different]);
  const manifest = manifestOf({ digest: await blob(strata, config), size: config.length }, stacked);
  const reply = await put(strata, manifest.body);
  assert.equal(reply.status, 201, reply.body.toString());
  return (number) => looked(strata, `/v2/${name}/_strata/images/${manifest.digest}/files/${ask(number)}`);
}

const pack = promisify(gzip);

/**
 * Returns a layer of `paths` paths of 16 KB, which compress to nearly nothing. The head of an index
 * has the first path of each block. A block ends with its 16th such path, or with its fourth if
 * each entry has 1,300 `attributes`. The paths of the lookups come after them in a small block of
 * their own, so that work does not end a lookup before its memory is full. These are `z` in the
 * lowest layer, and in all layers `y/` with `a` and one `name`.
 */
function layerOfLongPaths(number, { paths, attributes = 0, name = 1 }) {
  const parts = [];
  const meta = (type, records) =>
    parts.push(header({ path: "pax", type, size: records.length }), records, padding(records.length));
  const at = (path) => {
    meta("x", record("path", path));
    parts.push(header({ path: "path" }));
  };
  if (attributes > 0)
    meta("g", Buffer.concat(Array.from({ length: attributes }, (_, one) => record(`SCHILY.xattr.${one}`, ""))));
  for (let entry = 0; entry < paths; entry += 1)
    at(`!${String(entry).padStart(3, "0")}-${number}/`.padEnd(16_200, "a"));
  for (const path of ["#", `${number}`, "y/a", `y/${"b".repeat(name)}`]) at(path);
  if (number === 0)
    parts.push(archive([{ path: "z", content: Buffer.from("the lowest layer's") }]).subarray(0, -END.length));
  return pack(Buffer.concat([...parts, END]));
}

/** Sends a GET, and repeats it while a layer is being indexed. */
async function looked(strata, path) {
  for (;;) {
    const reply = await strata.send("GET", path);
    if (reply.status !== 202) return reply;
    await setTimeout(200);
  }
}

async function blob(strata, content) {
  const digest = digestOf(content);
  const reply = await whole(strata, name, digest, content);
  assert.equal(reply.status, 201, reply.body.toString());
  return digest;
}

function put(strata, body, reference = digestOf(body)) {
  return strata.send("PUT", `/v2/${name}/manifests/${reference}`, { body, headers: { "content-type": MANIFEST } });
}

async function referrers(strata) {
  const config = Buffer.from("{}");
  const descriptor = { digest: await blob(strata, config), size: config.length };
  const subject = manifestOf(descriptor, []);
  const annotations = Object.fromEntries(
    Array.from({ length: 60_000 }, (_, number) => [String(number).padStart(5, "x"), ""]),
  );
  for (let number = 0; number < 20; number += 1) {
    const manifest = JSON.parse(manifestOf(descriptor, [], subject).body);
    const reply = await put(
      strata,
      Buffer.from(JSON.stringify({ ...manifest, artifactType: `application/${number}`, annotations })),
    );
    assert.equal(reply.status, 201, reply.body.toString());
  }
  return () => strata.send("GET", `/v2/${name}/referrers/${subject.digest}`);
}

async function nested(strata) {
  const config = Buffer.from("{}");
  const manifest = manifestOf({ digest: await blob(strata, config), size: config.length }, []);
  const text = manifest.body.toString().replace(/}$/, `,"annotations":{"a":[${"[],".repeat(1_100_000)}0]}}`);
  return (number) => put(strata, Buffer.from(`${text}${" ".repeat(number)}`));
}
