// Concurrent requests: one wins, the other gets the current state, and nothing half-written is ever
// served.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin, close, manifestOf, patch, pull, received, whole } from "./push.mjs";

const MIB = 1 << 20;
// The bytes that the Worker sends to R2 at once. A longer body is partly stored before it ends.
const PART = 5 * MIB;

let strata;

before(async () => {
  strata = await start();
});
after(() => strata.stop());
beforeEach(() => strata.reset());

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());
const extentsOf = (location) => strata.objects(`extents/${location.split("/").at(-1).split("?")[0]}/`);
const blobKey = (digest) => {
  const [algorithm, encoded] = digest.split(":");
  return `blobs/${algorithm}/${encoded.slice(0, 2)}/${encoded}`;
};

describe("16 clients that push one blob at once", () => {
  const byPatch = async (name, digest, content) => {
    const patched = await patch(strata, await begin(strata, name), [content]);
    expect(patched, 202);
    return close(strata, patched.headers.location, digest);
  };
  const ways = {
    whole: () => (name, digest, content) => whole(strata, name, digest, content),
    "by PATCH": () => byPatch,
    "in either way": (client) => (client % 2 ? ways.whole() : byPatch),
  };
  for (const [index, [way, pushOf]] of Object.entries(ways).entries()) {
    test(`${way}: all are served and one blob is stored`, async () => {
      const content = buffer(MIB, way);
      const digest = digestOf(content);
      const extents = (await strata.objects("extents/")).length;
      // Some share a repository, some have one of their own.
      const names = Array.from({ length: 16 }, (_, client) => `crowd${index}/${client % 12}`);
      const replies = await Promise.all(names.map((name, client) => pushOf(client)(name, digest, content)));
      for (const reply of replies) expect(reply, 201);

      assert.equal((await strata.objects(blobKey(digest))).length, 1);
      assert.ok((await strata.objects("extents/")).length <= extents + 1, "the losers' extents are left");
      for (const name of new Set(names)) {
        assert.deepEqual(await pull(strata, name, digest), { status: 200, size: content.length, digest });
      }
    });
  }
});

test("of two PATCHes for one offset, one is accepted, and the other gets the upload's offset", async () => {
  const first = buffer(MIB, "offset");
  const started = await patch(strata, await begin(strata, "race/patch"), first);
  expect(started, 202);
  const { location } = started.headers;
  const bodies = [buffer(PART + 1000, "one"), buffer(PART + 2000, "other")];

  const gates = bodies.map((body) => gate(body));
  const answers = gates.map(({ body }) => patch(strata, location, body));
  // Both requests have read the state of the upload by now.
  await underWay(2);
  for (const { open } of gates) open();
  const replies = await Promise.all(answers);

  assert.deepEqual(replies.map(({ status }) => status).sort(), [202, 416]);
  const winner = replies.findIndex(({ status }) => status === 202);
  const content = Buffer.concat([first, bodies[winner]]);
  for (const { headers } of replies) assert.equal(headers.range, `0-${content.length - 1}`);
  assert.deepEqual(
    (await extentsOf(location)).map(({ size }) => size).sort(),
    [first.length, bodies[winner].length].sort(),
  );

  // The loser can resume at the offset in its reply.
  const loser = replies[1 - winner].headers.location;
  assert.equal(await received(strata, loser), content.length);
  const digest = digestOf(content);
  expect(await close(strata, loser, digest), 201);
  assert.deepEqual(await pull(strata, "race/patch", digest), { status: 200, size: content.length, digest });
});

describe("a closing PUT while a PATCH is under way", () => {
  const head = buffer(MIB, "head");
  const tail = buffer(PART + 1000, "tail");
  const both = Buffer.concat([head, tail]);

  /** Starts an upload with the head, and a PATCH of the tail that pauses in the middle. */
  async function meanwhile(name, seed) {
    const own = Buffer.concat([Buffer.from(seed), head]);
    const started = await patch(strata, await begin(strata, name), own);
    expect(started, 202);
    const { body, open } = gate(tail);
    const { location } = started.headers;
    await strata.reset();
    const answer = patch(strata, location, body);
    await underWay(1);
    return { location, own, answer, open };
  }

  /** Asserts that the blob comes back whole or not at all, and comes back after another push. */
  async function endsRight(name, content) {
    const digest = digestOf(content);
    const seen = await pull(strata, name, digest);
    if (seen.status !== 404) assert.deepEqual(seen, { status: 200, size: content.length, digest });
    expect(await close(strata, await begin(strata, name), digest, content), 201);
    assert.deepEqual(await pull(strata, name, digest), { status: 200, size: content.length, digest });
  }

  test("that names the bytes before the PATCH: it closes, and the PATCH is too late", async () => {
    const name = "race/close-early";
    const { location, own, answer, open } = await meanwhile(name, "early");
    expect(await close(strata, location, digestOf(own)), 201);
    open();
    expect(await answer, 404);
    assert.deepEqual(
      (await extentsOf(location)).map(({ size }) => size),
      [own.length],
    );
    await endsRight(name, own);
  });

  test("that names the bytes of the PATCH: it is refused, and the PATCH goes on", async () => {
    const name = "race/close-late";
    const { location, own, answer, open } = await meanwhile(name, "late");
    const content = Buffer.concat([own, tail]);
    expect(await close(strata, location, digestOf(content)), 400);
    assert.equal((await strata.send("HEAD", `/v2/${name}/blobs/${digestOf(content)}`)).status, 404);
    open();
    const patched = await answer;
    expect(patched, 202);
    expect(await close(strata, patched.headers.location, digestOf(content)), 201);
    assert.deepEqual(await strata.objects(blobKey(digestOf(own))), []);
    await endsRight(name, content);
  });

  test("that sends the same bytes: it closes, and the PATCH is too late", async () => {
    const name = "race/close-with-body";
    const { location, own, answer, open } = await meanwhile(name, "body");
    const content = Buffer.concat([own, tail]);
    expect(await close(strata, location, digestOf(content), tail), 201);
    open();
    expect(await answer, 404);
    assert.equal((await extentsOf(location)).length, 2);
    await endsRight(name, content);
  });

  test("at the same moment: whichever wins, no half-written blob", async () => {
    for (let round = 0; round < 8; round += 1) {
      const name = `race/moment${round}`;
      const { location, own, answer, open } = await meanwhile(name, `moment ${round}`);
      open();
      const [patched, closed] = await Promise.all([answer, close(strata, location, digestOf(own))]);
      assert.ok([202, 404].includes(patched.status), patched.body.toString());
      assert.ok(
        [201, 416].includes(closed.status) || (closed.status === 400 && patched.status === 202),
        closed.body.toString(),
      );
      assert.notEqual(closed.status === 201, patched.status === 202);
      await endsRight(name, own);
    }
  });

  test("the blob is absent until its upload is closed", async () => {
    const digest = digestOf(both);
    const name = "race/whole";
    const started = await patch(strata, await begin(strata, name), head);
    const { body, open } = gate(tail);
    await strata.reset();
    const answer = patch(strata, started.headers.location, body);
    await underWay(1);
    assert.equal((await pull(strata, name, digest)).status, 404);
    open();
    const patched = await answer;
    assert.equal((await pull(strata, name, digest)).status, 404);
    expect(await close(strata, patched.headers.location, digest), 201);
    assert.deepEqual(await pull(strata, name, digest), { status: 200, size: both.length, digest });
  });
});

describe("a mount stays whole when its source is deleted", () => {
  const pushes = {
    "pushed whole": (name, digest, content) => whole(strata, name, digest, content),
    "pushed by PATCH": async (name, digest, content) => {
      const patched = await patch(strata, await begin(strata, name), [content]);
      return close(strata, patched.headers.location, digest);
    },
  };
  for (const [index, [way, push]] of Object.entries(pushes).entries()) {
    test(way, async () => {
      const [source, target] = [`mount${index}/source`, `mount${index}/target`];
      const content = buffer(MIB, way);
      const digest = digestOf(content);
      expect(await push(source, digest, content), 201);
      const manifest = manifestOf({ digest, size: content.length }, []);
      const at = `/v2/${source}/manifests/${manifest.digest}`;
      expect(
        await strata.send("PUT", at, { body: manifest.body, headers: { "content-type": manifest.mediaType } }),
        201,
      );

      await strata.reset();
      expect(await strata.send("POST", `/v2/${target}/blobs/uploads/?mount=${digest}&from=${source}`), 201);
      const stored = (await strata.calls()).filter(({ key }) => /^(blobs|extents)\//.test(key));
      assert.deepEqual(
        stored.filter(({ call }) => /put|upload|complete/i.test(call)),
        [],
      );

      expect(await strata.send("DELETE", at), 202);
      expect(await strata.send("DELETE", `/v2/${source}/blobs/${digest}`), 202);
      expect(await strata.send("GET", `/v2/${source}/blobs/${digest}`), 404);
      assert.deepEqual(await pull(strata, target, digest), { status: 200, size: content.length, digest });

      // It can't be mounted from there any more, either.
      const again = await strata.send("POST", `/v2/mount${index}/late/blobs/uploads/?mount=${digest}&from=${source}`);
      expect(again, 202);
    });
  }
});

/** Returns a body that pauses after more than a part, until `open` is called. */
function gate(content) {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  const body = (async function* () {
    yield content.subarray(0, -500);
    await opened;
    yield content.subarray(-500);
  })();
  return { body, open };
}

/** Waits until a part of each of so many bodies is being stored. */
async function underWay(bodies) {
  const stored = async () => {
    const calls = await strata.calls();
    return calls.filter(({ call, key }) => call === "r2.uploadPart" && key.startsWith("extents/")).length;
  };
  for (const deadline = Date.now() + 20_000; (await stored()) < bodies; ) {
    assert.ok(Date.now() < deadline, "no part was stored in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
