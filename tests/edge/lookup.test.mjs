// The limits of one lookup in an image, on the real runtime. A lookup ends with a reply that gives
// the reason, others are answered meanwhile, and memory stays bounded.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { archive } from "./archive.mjs";
import { digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { manifestOf, whole } from "./push.mjs";

const MIB = 1 << 20;
const name = "lookup/image";
const nested = (depth) => Array(depth).fill("d").join("/");

/**
 * Returns entries for paths and targets of any length. GNU's entries for long names come before the
 * entries that they name.
 */
const long = (entries) =>
  entries.flatMap(({ path, link = "", ...entry }) => [
    ...(path.length > 99 ? [{ path: "././@LongLink", type: "L", content: Buffer.from(`${path}\0`) }] : []),
    ...(link.length > 99 ? [{ path: "././@LongLink", type: "K", content: Buffer.from(`${link}\0`) }] : []),
    { path: path.slice(0, 99), link: link.slice(0, 99), ...entry },
  ]);

/** Returns a gzipped layer of entries. */
const layerOf = (entries) => gzipSync(archive(long(entries)));

/** Returns an entry with `size` bytes of extended attributes, for all entries that follow. */
function attributes(size) {
  const text = ` SCHILY.xattr.user.x=${"x".repeat(size)}\n`;
  let length = text.length + 5;
  length = text.length + String(length).length;
  return { path: "pax_global_header", type: "g", content: Buffer.from(`${length}${text}`) };
}

describe("a lookup", () => {
  let strata;

  before(async () => {
    strata = await start();
  });
  after(() => strata?.stop());

  /** Pushes an image of layers, and indexes each of them. Returns the address of its files. */
  async function pushImage(tag, layers) {
    const put = async (bytes) => {
      const digest = digestOf(bytes);
      const reply = await whole(strata, name, digest, bytes, bytes.length);
      assert.equal(reply.status, 201, reply.body.toString());
      return { digest, size: bytes.length };
    };
    const known = new Map();
    for (const layer of layers) {
      if (known.has(layer)) continue;
      known.set(layer, await put(layer));
      await get(`/v2/${name}/_strata/layers/${known.get(layer).digest}?n=1`);
    }
    const { body, mediaType } = manifestOf(
      await put(Buffer.from("{}")),
      layers.map((layer) => known.get(layer)),
    );
    const reply = await strata.send("PUT", `/v2/${name}/manifests/${tag}`, {
      body,
      headers: { "content-type": mediaType },
    });
    assert.equal(reply.status, 201, reply.body.toString());
    return `/v2/${name}/_strata/images/${tag}/files/`;
  }

  async function get(path) {
    for (;;) {
      const reply = await strata.send("GET", path);
      if (reply.status !== 202) return reply;
    }
  }

  /**
   * Sends a request, and others meanwhile. Returns the reply to `path`, and the order of all
   * replies.
   */
  async function between(path) {
    const order = [];
    const asked = strata.send("GET", path).then((reply) => {
      order.push("lookup");
      return reply;
    });
    await setTimeout(100);
    for (let ping = 0; ping < 2; ping += 1) {
      assert.equal((await strata.send("GET", "/v2/")).status, 200);
      order.push("ping");
    }
    return { reply: await asked, order };
  }

  const refused = (reply, words) => {
    assert.equal(reply.status, 422, `${reply.body}`.slice(0, 300));
    const [{ code, message }] = reply.json().errors;
    assert.equal(code, "FILE_UNKNOWN");
    assert.match(message, words);
    return message;
  };

  test("of a heavy image holds little memory, alone and 32 times at once", async (t) => {
    const steps = (from) => Array.from({ length: 100 }, (_, index) => `${from + index}/../`).join("");
    const directories = Array.from({ length: 3900 }, (_, index) => ({ path: `${index}/`, type: "5" }));
    const links = Array.from({ length: 39 }, (_, index) => ({
      path: `l${index}`,
      type: "2",
      link: `${steps(index * 100)}l${index + 1}`,
    }));
    // As large as a layer's table of contents may be.
    const heavy = layerOf([attributes(8 << 10), ...directories]);
    const files = await pushImage("heavy", [heavy, layerOf(links)]);
    const path = `${files}l0`;
    const idle = await strata.wasm();
    const resident = strata.memory().resident;
    strata.resetPeak();
    const alone = await get(path);
    assert.equal(alone.json().errors[0].code, "FILE_UNKNOWN", alone.body.toString());
    const once = (await strata.wasm()) - idle;
    const all = await Promise.all(Array.from({ length: 32 }, () => get(path)));
    // Blocks that other requests have unpacked cost nothing, so some lookups reach the end.
    for (const reply of all) assert.equal(reply.json().errors[0].code, "FILE_UNKNOWN", reply.body.toString());
    const together = (await strata.wasm()) - idle;
    const { peak } = strata.memory();
    t.diagnostic(
      `${heavy.length} bytes: wasm grew by ${(once / MIB).toFixed(1)} MiB, 32 at once ${(together / MIB).toFixed(1)} MiB; workerd by ${((peak - resident) / MIB).toFixed(1)} MiB`,
    );
    assert.ok(once < 32 * MIB, `${once}`);
    assert.ok(together < 64 * MIB, `${together}`);
  });

  /**
   * Pushes an image whose links lead through directories of the lowest layer. Each step asks the
   * 499 layers above first. Returns the address of the first link.
   */
  async function deep() {
    const at = nested(25);
    const steps = Array.from({ length: 120 }, (_, index) => `x${index}/../`).join("");
    const lowest = layerOf([
      ...Array.from({ length: 120 }, (_, index) => ({ path: `${at}/x${index}/`, type: "5" })),
      ...Array.from({ length: 39 }, (_, index) => ({
        path: `${at}/l${index}`,
        type: "2",
        link: `${steps}l${index + 1}`,
      })),
    ]);
    const others = ["a", "b", "c"].map((name) => layerOf([{ path: `${at}/${name}` }]));
    const files = await pushImage("deep", [lowest, ...Array.from({ length: 499 }, (_, index) => others[index % 3])]);
    return `${files}${at}/l0`;
  }

  test("above its budget is refused, and other requests are answered meanwhile", async (t) => {
    const { reply, order } = await between(await deep());
    t.diagnostic(refused(reply, /more than \d+ /));
    assert.deepEqual(order, ["ping", "ping", "lookup"]);
  });

  test("of a path of thousands of components is refused at once", async () => {
    const layer = layerOf([{ path: "a", content: Buffer.from("a") }]);
    const files = await pushImage("many", Array(50).fill(layer));
    refused(await get(`${files}${nested(4000)}`), /256 components/);
    assert.equal((await get(`${files}a`)).body.toString(), "a");
  });

  test("through a link with thousands of parents is refused at once", async () => {
    const entries = Array.from({ length: 300 }, (_, index) => ({ path: `${nested(index + 1)}/`, type: "5" }));
    const layer = layerOf([...entries, { path: "link", type: "2", link: "a/../".repeat(3000) }]);
    const files = await pushImage("parents", [layer]);
    refused(await get(`${files}link`), /15000 bytes/);
  });

  test("of a directory with 60,000 hidden entries continues page by page", async (t) => {
    const names = Array.from({ length: 60_000 }, (_, index) => String(index).padStart(5, "0"));
    const lower = layerOf([...names, "~"].map((name) => ({ path: `d/${name}` })));
    const upper = layerOf(names.map((name) => ({ path: `d/.wh.${name}` })));
    const files = await pushImage("hidden", [lower, upper]);
    const found = [];
    let pages = 0;
    for (let path = `${files}d/`; path; pages += 1) {
      const reply = await get(path);
      assert.equal(reply.status, 200, reply.body.toString());
      found.push(...reply.json().children.map(({ name }) => name));
      [, path] = /<(.*)>; rel="next"/.exec(reply.headers.link ?? "") ?? [];
    }
    assert.deepEqual(found, ["~"]);
    assert.ok(pages > 1);
    t.diagnostic(`${pages} pages`);
  });
});
