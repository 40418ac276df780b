// Uploads on the real runtime: bytes are written once, memory is bounded, and digests are verified.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, bytes, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin, close, patch, pull, received, whole } from "./push.mjs";

const MIB = 1 << 20;
// The objects of a session, its grant, its record and its link are small.
const SMALL = 64 << 10;
const WASM = 16 * MIB;

let strata;

before(async () => {
  strata = await start();
});
after(() => strata.stop());
beforeEach(() => strata.reset());

const written = async () => {
  const counts = await strata.counts();
  return (counts["r2.put"]?.bytes ?? 0) + (counts["r2.uploadPart"]?.bytes ?? 0);
};
const read = async () => (await strata.counts())["r2.get"]?.bytes ?? 0;
const blobs = () => strata.objects("blobs/");
const code = (reply) => reply.json().errors[0].code;

describe("256 MiB by one PATCH of unknown length", () => {
  const size = 256 * MIB;
  const name = "large/one-patch";
  let digest;

  test("is written once, never read back, and leaves wasm small", async (t) => {
    const location = await begin(strata, name);
    const idle = strata.memory().resident;
    strata.resetPeak();
    const sent = hashing(bytes(size));
    const patched = await patch(strata, location, sent);
    assert.equal(patched.status, 202, patched.body.toString());
    assert.equal(patched.headers.range, `0-${size - 1}`);
    digest = sent.digest();
    const closed = await close(strata, patched.headers.location, digest);
    assert.equal(closed.status, 201, closed.body.toString());
    assert.equal(closed.headers["docker-content-digest"], digest);

    const stored = await written();
    assert.ok(stored >= size && stored <= size + SMALL, `${stored} bytes written for ${size}`);
    const reread = await read();
    assert.ok(reread <= SMALL, `${reread} bytes read back`);
    const wasm = await strata.wasm();
    assert.ok(wasm < WASM, `${wasm} bytes of wasm memory`);
    const { resident, peak } = strata.memory();
    t.diagnostic(`workerd grew by ${mib(peak - idle)} at most, ${mib(resident - idle)} in the end; wasm ${mib(wasm)}`);
  });

  test("comes back whole", async () => {
    assert.deepEqual(await pull(strata, name, digest), { status: 200, size, digest });
    assert.ok((await strata.wasm()) < WASM);
  });

  test("comes back in part, and reads only that part", async () => {
    const first = 100 * MIB - 3;
    const headers = { range: `bytes=${first}-${first + 7}` };
    const reply = await strata.send("GET", `/v2/${name}/blobs/${digest}`, { headers });
    assert.equal(reply.status, 206);
    assert.equal(reply.headers["content-range"], `bytes ${first}-${first + 7}/${size}`);
    assert.deepEqual(reply.body, buffer(101 * MIB).subarray(first, first + 8));
    assert.ok((await read()) <= SMALL);
  });
});

test("a blob in chunks of any size is one blob, whole and across its seams", async () => {
  const name = "chunks/uneven";
  const content = buffer(12 * MIB + 12, "uneven");
  // One small extent, one of several parts with a short last part, and the last bytes in the
  // closing PUT.
  const cuts = [0, 7, 11 * MIB + 3, content.length];
  let location = await begin(strata, name);
  for (const [index, from] of cuts.slice(0, -2).entries()) {
    const to = cuts[index + 1];
    const headers = { "content-range": `${from}-${to - 1}` };
    const reply = await patch(strata, location, content.subarray(from, to), headers);
    assert.equal(reply.status, 202, reply.body.toString());
    location = reply.headers.location;
    assert.equal(await received(strata, location), to);
  }
  const digest = digestOf(content);
  const closed = await close(strata, location, digest, content.subarray(cuts.at(-2)));
  assert.equal(closed.status, 201, closed.body.toString());

  const path = `/v2/${name}/blobs/${digest}`;
  const got = await strata.send("GET", path);
  assert.ok(got.body.equals(content));
  for (const seam of cuts.slice(1, -1)) {
    const part = await strata.send("GET", path, { headers: { range: `bytes=${seam - 2}-${seam + 2}` } });
    assert.equal(part.status, 206);
    assert.deepEqual(part.body, content.subarray(seam - 2, seam + 3));
  }
});

test("an algorithm first named at the end is checked like any other", async () => {
  const content = buffer(6 * MIB, "sha512");
  const location = (await patch(strata, await begin(strata, "late/sha512"), [content])).headers.location;
  const digest = digestOf(content, "sha512");
  const closed = await close(strata, location, digest);
  assert.equal(closed.status, 201, closed.body.toString());
  assert.deepEqual(await pull(strata, "late/sha512", digest), { status: 200, size: content.length, digest });
});

describe("a wrong digest is refused and names nothing", () => {
  // Larger than a part, so that each way of storing is used.
  const content = buffer(6 * MIB, "wrong");
  const wrong = digestOf(Buffer.from("something else"));
  const ways = {
    "POST with its length": (name) => whole(strata, name, wrong, content),
    "POST of unknown length": (name) => whole(strata, name, wrong, [content]),
    "POST, PUT with its length": async (name) => close(strata, await begin(strata, name), wrong, content),
    "POST, PUT of unknown length": async (name) => close(strata, await begin(strata, name), wrong, [content]),
    "POST, PATCH, PUT": async (name) => {
      const patched = await patch(strata, await begin(strata, name), [content]);
      return close(strata, patched.headers.location, wrong);
    },
  };
  for (const [index, [way, push]] of Object.entries(ways).entries()) {
    test(way, async () => {
      const before = await blobs();
      const reply = await push(`wrong/way${index}`);
      assert.equal(reply.status, 400, reply.body.toString());
      assert.equal(code(reply), "DIGEST_INVALID");
      assert.deepEqual(await blobs(), before);
      for (const digest of [wrong, digestOf(content)]) {
        assert.equal((await strata.send("HEAD", `/v2/wrong/way${index}/blobs/${digest}`)).status, 404);
      }
    });
  }
});

describe("a whole blob in one request comes back", () => {
  const ways = {
    "POST with its length": whole,
    "POST of unknown length": (_, name, digest, content) => whole(strata, name, digest, [content]),
    "POST, PUT with its length": async (_, name, digest, content) =>
      close(strata, await begin(strata, name), digest, content),
    "POST, PUT of unknown length": async (_, name, digest, content) =>
      close(strata, await begin(strata, name), digest, [content]),
  };
  for (const [index, [way, push]] of Object.entries(ways).entries()) {
    test(way, async () => {
      // Bytes of its own for each way: otherwise the second would only find the first's blob.
      const content = buffer(6 * MIB, way);
      const digest = digestOf(content);
      const name = `whole/way${index}`;
      const reply = await push(strata, name, digest, content);
      assert.equal(reply.status, 201, reply.body.toString());
      assert.deepEqual(await pull(strata, name, digest), { status: 200, size: content.length, digest });
    });
  }
});

test("8 uploads at once are stored intact, in bounded wasm memory", async (t) => {
  const size = 32 * MIB;
  const idle = strata.memory().resident;
  strata.resetPeak();
  const upload = async (_, index) => {
    const sent = hashing(bytes(size, `parallel ${index}`));
    const patched = await patch(strata, await begin(strata, `parallel/${index}`), sent);
    assert.equal(patched.status, 202, patched.body.toString());
    const digest = sent.digest();
    const closed = await close(strata, patched.headers.location, digest);
    assert.equal(closed.status, 201, closed.body.toString());
    return digest;
  };
  const digests = await Promise.all(Array.from({ length: 8 }, upload));
  const wasm = await strata.wasm();
  assert.ok(wasm < WASM, `${wasm} bytes of wasm memory`);
  t.diagnostic(`workerd grew by ${mib(strata.memory().peak - idle)} at most; wasm ${mib(wasm)}`);

  for (const [index, digest] of digests.entries()) {
    assert.deepEqual(await pull(strata, `parallel/${index}`, digest), { status: 200, size, digest });
  }
});

/** Returns an iterable of the same bytes. Its `digest` is known once they have passed. */
function hashing(source) {
  const hash = createHash("sha256");
  return {
    digest: () => `sha256:${hash.digest("hex")}`,
    *[Symbol.iterator]() {
      for (const chunk of source) {
        hash.update(chunk);
        yield chunk;
      }
    },
  };
}

const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;
