// Bindings of the Worker, in cases that the crate `worker` handles badly or not at all.
// suite.test.mjs checks on the stores that R2 keeps its conditions and checksums (an etag that does
// not match, a write if absent, a wrong checksum), and that a locked stream ends no instance.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { begin, close, manifestOf, patch, pull, whole } from "./push.mjs";

const MIB = 1 << 20;

const expect = (reply, status) => assert.equal(reply.status, status, reply.body.toString());

/** Returns the lines of a Worker's log with this message, as objects. */
const lines = (strata, wanted) =>
  strata
    .log()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .filter(({ message }) => message === wanted);

async function until(holds) {
  for (let tries = 0; !(await holds()); tries += 1) {
    assert.ok(tries < 1000, "the condition did not hold in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Waits until the log has a line, which the runtime prints after the response. */
const logged = (strata, line) => until(() => line.test(strata.log()));

/** Starts a Worker, runs a step with it, and stops it. */
async function within(options, step) {
  const strata = await start(options);
  try {
    return await step(strata);
  } finally {
    await strata.stop();
  }
}

describe("R2", () => {
  let strata;
  before(async () => {
    strata = await start();
  });
  after(() => strata.stop());
  beforeEach(() => strata.reset());

  const calls = async (name, prefix) =>
    (await strata.calls()).filter(({ call, key }) => call === name && key.startsWith(prefix));

  test("writes a blob once if two clients create it, each on condition that it is absent", async () => {
    const content = buffer(MIB, "twice");
    const digest = digestOf(content);
    let open;
    const opened = new Promise((resolve) => (open = resolve));
    const body = async function* () {
      yield content.subarray(0, -500);
      await opened;
      yield content.subarray(-500);
    };
    const pushes = ["one", "other"].map((name) => whole(strata, `absent/${name}`, digest, body(), content.length));
    await until(async () => (await calls("r2.put", "blobs/")).length === 2);
    open();
    const replies = await Promise.all(pushes);
    assert.deepEqual(
      (await calls("r2.put", "blobs/"))
        .slice(0, 2)
        .map(({ idle }) => idle)
        .sort(),
      [false, true],
    );
    assert.ok(replies.some(({ status }) => status === 201));
    for (const name of ["one", "other"]) expect(await whole(strata, `absent/${name}`, digest, content), 201);
    assert.deepEqual(await pull(strata, "absent/other", digest), { status: 200, size: content.length, digest });
  });

  for (const algorithm of ["sha256", "sha512"]) {
    test(`refuses a stream with another ${algorithm}, and the client gets 400`, async () => {
      const content = buffer(MIB, algorithm);
      const wrong = digestOf(Buffer.from("something else"), algorithm);
      const reply = await whole(strata, `wrong/${algorithm}`, wrong, content);
      expect(reply, 400);
      assert.equal(reply.json().errors[0].code, "DIGEST_INVALID");
      const [put] = await calls("r2.put", "blobs/");
      assert.deepEqual(
        [put.bytes, await strata.objects("blobs/").then((all) => all.filter(({ key }) => put.key === key))],
        [0, []],
      );
      const right = digestOf(content, algorithm);
      expect(await whole(strata, `wrong/${algorithm}`, right, content), 201);
    });
  }

  for (const call of ["r2.uploadPart", "r2.complete"]) {
    test(`gets an abort of the multipart upload if ${call} fails each time`, async () => {
      const name = `abort/${call.toLowerCase().replace(".", "-")}`;
      // Three parts, the last one short.
      const content = buffer(11 * MIB, call);
      const location = await begin(strata, name);
      await strata.reset();
      // All attempts: six of the completion, or of two parts.
      await strata.fail({ call, key: "extents/", ...(call === "r2.complete" ? { times: 6 } : { nth: 2, times: 12 }) });
      const reply = await patch(strata, location, [content]).catch((error) => error);
      assert.ok(reply.status === 503 || ["ECONNRESET", "EPIPE"].includes(reply.code), reply.body?.toString() ?? reply);
      await until(async () => (await calls("r2.abort", "extents/")).length > 0);
      const [created] = await calls("r2.createMultipartUpload", "extents/");
      assert.deepEqual(
        (await calls("r2.abort", "extents/")).map(({ key, failed }) => [key, failed]),
        [[created.key, false]],
      );
      assert.deepEqual(
        (await strata.objects("extents/")).filter(({ key }) => key === created.key),
        [],
      );
      const again = await patch(strata, await begin(strata, name), [content]);
      expect(again, 202);
      expect(await close(strata, again.headers.location, digestOf(content)), 201);
    });
  }

  test("has 64 clients wait on timers for one slow read of a cold manifest", async () => {
    const config = buffer(100, "crowd");
    expect(await whole(strata, "crowd/image", digestOf(config), config), 201);
    const manifest = manifestOf({ digest: digestOf(config), size: config.length }, []);
    const headers = { "content-type": manifest.mediaType };
    expect(await strata.send("PUT", "/v2/crowd/image/manifests/latest", { body: manifest.body, headers }), 201);
    await strata.reset();
    // The leader retries after the failure. Meanwhile the others poll for its answer.
    await strata.fail({ call: "r2.get", key: "repositories/", delay: 500 });
    const path = `/v2/crowd/image/manifests/${manifest.digest}`;
    const replies = await Promise.all(Array.from({ length: 64 }, () => strata.send("GET", path)));
    for (const reply of replies) {
      expect(reply, 200);
      assert.ok(reply.body.equals(manifest.body));
    }
    assert.equal((await calls("r2.get", "repositories/")).length, 2);
  });
});

describe("a missing or wrong binding", () => {
  const digest = digestOf(Buffer.from("nothing"));
  const path = `/v2/un/bound/blobs/${digest}`;

  for (const [what, options, said] of [
    ["no bucket", { buckets: [] }, /no R2 bucket is bound to BUCKET \(nothing is\): bind one in wrangler\.toml/],
    [
      "a namespace for a bucket",
      { buckets: [], namespaces: ["WARM", "BUCKET"] },
      /no R2 bucket is bound to BUCKET \(Binding cannot be cast to the type R2Bucket from KvNamespace\): bind one in wrangler\.toml/,
    ],
  ]) {
    test(`${what}: its uses fail and are logged, and other requests succeed`, async () => {
      await within(options, async (strata) => {
        expect(await strata.send("GET", "/v2/"), 200);
        assert.doesNotMatch(strata.log(), /BUCKET/);
        for (let time = 0; time < 2; time += 1) {
          const reply = await strata.send("GET", path);
          expect(reply, 503);
          assert.ok(!reply.body.toString().includes("BUCKET"));
        }
        await logged(strata, said);
      });
    });
  }

  test("no namespace: the bucket answers, and the log says so", async () => {
    await within({ namespaces: [] }, async (strata) => {
      const config = buffer(100, "unbound");
      expect(await whole(strata, "un/bound", digestOf(config), config), 201);
      const manifest = manifestOf({ digest: digestOf(config), size: config.length }, []);
      const headers = { "content-type": manifest.mediaType };
      expect(await strata.send("PUT", "/v2/un/bound/manifests/latest", { body: manifest.body, headers }), 201);
      const reply = await strata.send("GET", `/v2/un/bound/manifests/${manifest.digest}`);
      expect(reply, 200);
      assert.ok(reply.body.equals(manifest.body));
      await logged(strata, /no KV namespace is bound to WARM \(nothing is\): bind one in wrangler\.toml/);
    });
  });

  test("no rate limiter: nothing is limited, and nothing is logged", async () => {
    await within({}, async (strata) => {
      expect(await strata.send("GET", "/v2/"), 200);
      expect(await strata.send("GET", "/v2/", { headers: { authorization: basic("nobody", "guess") } }), 401);
      assert.doesNotMatch(strata.log(), /limiter|SIGN_INS/);
    });
  });

  test("null, or JSON with another constructor: no instance ends", async () => {
    const vars = { SIGN_INS: null, SIGN_INS_OF_ADDRESS: { constructor: null }, BUCKET: null, WARM: null };
    await within({ vars, buckets: [], namespaces: [] }, async (strata) => {
      expect(await strata.send("GET", "/v2/"), 200);
      expect(await strata.send("GET", "/v2/a/manifests/latest"), 503);
      assert.deepEqual(
        lines(strata, "binding is no rate limiter").map(({ binding, error }) => [binding, error]),
        [["SIGN_INS_OF_ADDRESS", "its constructor is no function"]],
      );
      assert.match(strata.log(), /no R2 bucket is bound to BUCKET \(nothing is\)/);
    });
  });

  test("a variable for a rate limiter: nothing is limited, and each is an error in the log", async () => {
    await within({ vars: { SIGN_INS: "20 a minute", SIGN_INS_OF_ADDRESS: ["60"] } }, async (strata) => {
      expect(await strata.send("GET", "/v2/"), 200);
      assert.deepEqual(
        lines(strata, "binding is no rate limiter").map(({ binding, error }) => [binding, error]),
        [
          ["SIGN_INS", "Binding cannot be cast to the type Ratelimit from String"],
          ["SIGN_INS_OF_ADDRESS", "Binding cannot be cast to the type Ratelimit from Array"],
        ],
      );
    });
  });
});

test("a request to a silent upstream times out, and the client gets 504", { timeout: 60_000 }, async () => {
  const asked = [];
  const silent = createServer((request) => asked.push(request));
  await once(silent.listen(0, "127.0.0.1"), "listening");
  const address = `http://127.0.0.1:${silent.address().port}`;
  try {
    const upstreams = JSON.stringify([{ name: "up.example", address, insecure: true }]);
    await within({ vars: { STRATA_UPSTREAMS: upstreams } }, async (strata) => {
      const reply = await strata.send("GET", "/v2/up.example/an/image/manifests/latest");
      expect(reply, 504);
      assert.match(reply.body.toString(), /took too long/);
      assert.ok(asked.length > 0);
      // The Worker must close the connection, because an isolate may have only six.
      for (const { socket } of asked) if (!socket.destroyed) await once(socket, "close");
      expect(await strata.send("GET", "/v2/"), 200);
    });
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});
