// The relay between a client and the built Worker, behind an edge that limits request bodies.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Files, identityOf, isNewer, Journal, proxyFor, Registry, serve, VERSION } from "../../relay/relay.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { basic, start } from "../edge/harness.mjs";
import { send } from "../edge/http.mjs";
import { startEdge } from "./edge.mjs";
import { spools } from "./spools.mjs";

const MIB = 1 << 20;
const LIMIT = 8 * MIB;
const CHUNK = 6 * MIB;

describe("the relay", { timeout: 240_000 }, () => {
  let strata;
  let edge;
  let relay;
  let folder;
  let said;
  before(async () => {
    strata = await start({ probe: false });
  });
  after(() => strata.stop());
  beforeEach(async () => {
    edge = await startEdge({ origin: strata.url, limit: LIMIT });
    folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"));
    said = [];
    relay = await begin();
  });
  afterEach(async () => {
    await relay.stop();
    await edge.stop();
    rmSync(folder, { recursive: true });
  });

  const begin = (options) =>
    serve({
      registry: new Registry(edge.url.origin, {}),
      journal: new Journal(folder),
      chunk: CHUNK,
      blobs: 4,
      port: 0,
      say: (line) => said.push(line),
      ...options,
    });
  const ask = (method, path, { headers, ...rest } = {}) =>
    send(new URL(path, `http://127.0.0.1:${relay.port}`), {
      method,
      headers: { authorization: basic(), ...headers },
      ...rest,
    });
  const stored = async (name, digest) => (await strata.send("GET", `/v2/${name}/blobs/${digest}`)).body;

  /** Pushes as docker does: POST, one PATCH without a length, PUT. */
  async function push(name, content, { pieces = [content] } = {}) {
    const begun = await ask("POST", `/v2/${name}/blobs/uploads/`);
    assert.equal(begun.status, 202, begun.body.toString());
    const patched = await ask("PATCH", begun.headers.location, {
      body: pieces,
      headers: { "transfer-encoding": "chunked" },
    });
    if (patched.status !== 202) return patched;
    const target = new URL(patched.headers.location, "http://relay");
    target.searchParams.set("digest", digestOf(content));
    return ask("PUT", target.pathname + target.search);
  }

  test("cuts one PATCH into chunks that the edge accepts", async () => {
    const content = buffer(20 * MIB + 123, "one patch");
    const pushed = await push("relay/patch", content);
    assert.equal(pushed.status, 201, pushed.body.toString());
    assert.ok((await stored("relay/patch", digestOf(content))).equals(content));
    assert.equal(edge.refusals, 0);
    assert.equal(edge.received, content.length);
    assert.ok(edge.requests.every(({ bytes }) => bytes <= CHUNK));
    assert.deepEqual(readdirSync(folder), []);
    assert.equal(pushed.headers.location, `/v2/relay/patch/blobs/${digestOf(content)}`);
  });

  test("cuts a blob that comes with one POST or PUT", async () => {
    for (const [index, name] of ["relay/post", "relay/put"].entries()) {
      const content = buffer(13 * MIB, name);
      const digest = digestOf(content);
      const target =
        index === 0
          ? `/v2/${name}/blobs/uploads/?digest=${digest}`
          : `${(await ask("POST", `/v2/${name}/blobs/uploads/`)).headers.location}?digest=${digest}`;
      const pushed = await ask(index === 0 ? "POST" : "PUT", target, { body: content });
      assert.equal(pushed.status, 201, pushed.body.toString());
      assert.ok((await stored(name, digest)).equals(content));
    }
    assert.equal(edge.refusals, 0);
  });

  test("says how far a blob is, of its size if the client tells it", async () => {
    await relay.stop();
    relay = await begin({ progress: 1 });
    const content = buffer(13 * MIB, "progress");
    const digest = digestOf(content);
    assert.equal((await push("relay/progress", content)).status, 201);
    assert.match(said.join("\n"), /^… relay\/progress \d+(\.\d)? MB$/m);
    const target = `/v2/relay/progress-post/blobs/uploads/?digest=${digest}`;
    assert.equal((await ask("POST", target, { body: content })).status, 201);
    const about = new RegExp(`^… relay/progress-post ${digest.slice(0, 19)} \\d+(\\.\\d)? MB of 13\\.6 MB$`, "m");
    assert.match(said.join("\n"), about);
    const { length } = said;
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(said.length, length);
  });

  test("sends a small blob with the request that closes it", async () => {
    const content = buffer(2000, "small");
    assert.equal((await push("relay/small", content)).status, 201);
    assert.deepEqual(
      edge.requests.map(({ method, bytes }) => [method, bytes]),
      [
        ["POST", 0],
        ["PUT", 2000],
      ],
    );
  });

  test("does not send a blob that the repository has", async () => {
    const content = buffer(9 * MIB, "there");
    const path = `/v2/relay/there/blobs/uploads/?digest=${digestOf(content)}`;
    assert.equal((await ask("POST", path, { body: content })).status, 201);
    const before = edge.received;
    assert.equal((await ask("POST", path, { body: content })).status, 201);
    assert.equal(edge.received, before);
  });

  test("goes on after cut connections and failures of the registry", async () => {
    const content = buffer(25 * MIB, "cut");
    edge.cut(9 * MIB);
    edge.fail(503, 2);
    const pushed = await push("relay/cut", content);
    assert.equal(pushed.status, 201, pushed.body.toString());
    assert.ok((await stored("relay/cut", digestOf(content))).equals(content));
    assert.deepEqual([edge.cuts, edge.failures], [1, 2]);
    assert.ok(edge.received <= content.length + CHUNK, `${edge.received} bytes for ${content.length}`);
  });

  test("finds a blob whose closing response was lost", async () => {
    for (const [name, size] of [
      ["relay/lost", 9 * MIB],
      ["relay/lost-small", 2000],
    ]) {
      const content = buffer(size, name);
      edge.lose("PUT");
      const pushed = await push(name, content);
      assert.equal(pushed.status, 201, pushed.body.toString());
      assert.ok((await stored(name, digestOf(content))).equals(content));
    }
    assert.deepEqual(readdirSync(folder), []);
  });

  test("sends chunks of the announced size", async () => {
    await relay.stop();
    const announcing = await start({ probe: false, vars: { STRATA_BODY_BYTES: String(8 * MIB) } });
    const before = edge;
    edge = await startEdge({ origin: announcing.url, limit: LIMIT });
    try {
      relay = await begin({ chunk: undefined });
      const content = buffer(20 * MIB, "announced");
      assert.equal((await push("relay/announced", content)).status, 201);
      assert.equal(edge.refusals, 0);
      const sent = edge.requests.filter(({ bytes }) => bytes > 0).map(({ bytes }) => bytes);
      assert.deepEqual(sent, [8 * MIB, 8 * MIB, 4 * MIB]);
    } finally {
      await edge.stop();
      edge = before;
      await announcing.stop();
    }
  });

  test("makes smaller chunks if the edge refuses its own", async () => {
    await relay.stop();
    relay = await begin({ chunk: 20 * MIB });
    const content = buffer(30 * MIB, "refused");
    const pushed = await push("relay/refused", content);
    assert.equal(pushed.status, 201, pushed.body.toString());
    assert.ok((await stored("relay/refused", digestOf(content))).equals(content));
    const shrunk = /(the edge refused|the connection broke twice in) a body of 21\.0 MB: chunks have 10\.5 MB/;
    assert.match(said.join("\n"), shrunk);
  });

  test("resumes at another relay, by the first chunk of the same layer", async () => {
    const content = buffer(26 * MIB, "resumed");
    const sent = content.subarray(0, 20 * MIB);
    await assert.rejects(
      push("relay/resumed", content, {
        pieces: (async function* () {
          yield sent;
          // The client dies with the relay.
          while (edge.received < 3 * CHUNK) await new Promise((resolve) => setTimeout(resolve, 10));
          await relay.stop();
          yield content.subarray(sent.length);
        })(),
      }),
    );
    assert.equal(readdirSync(folder).length, 1);
    assert.equal(statSync(join(folder, readdirSync(folder)[0])).mode & 0o777, 0o600);
    relay = await begin();
    const other = buffer(7 * MIB, "another layer");
    assert.equal((await push("relay/resumed", other)).status, 201);
    const before = edge.received;
    const pushed = await push("relay/resumed", content);
    assert.equal(pushed.status, 201, pushed.body.toString());
    assert.ok((await stored("relay/resumed", digestOf(content))).equals(content));
    assert.ok(edge.received - before <= content.length - 3 * CHUNK + CHUNK, `${edge.received - before} bytes again`);
    // The upload that the client began anew is cancelled.
    assert.ok(edge.requests.some(({ method }) => method === "DELETE"));
    assert.match(said.join("\n"), /resuming a layer of relay\/resumed at 1[89](\.\d)? MB/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("resumes after refused chunks, at the same relay and at a new one", async () => {
    await edge.stop();
    edge = await startEdge({ origin: strata.url, limit: 3 * MIB });
    const content = buffer(20 * MIB, "refused and resumed");
    const { length } = content;
    await relay.stop();
    for (const [index, chunk] of [4 * MIB, undefined, 4 * MIB, 6 * MIB].entries()) {
      if (chunk) relay = await begin({ chunk });
      const before = edge.received;
      const upTo = [8, 12, 16][index] * MIB;
      if (index === 3) {
        const pushed = await push("relay/resized", content);
        assert.equal(pushed.status, 201, pushed.body.toString());
      } else {
        const { headers } = await ask("POST", "/v2/relay/resized/blobs/uploads/");
        const socket = interrupted("PATCH", headers.location, content.subarray(0, upTo), length);
        while ((await ask("GET", headers.location)).headers.range !== `0-${upTo - 1}`)
          await new Promise((resolve) => setTimeout(resolve, 20));
        // The client goes away, and at a time the relay, too.
        socket.destroy();
        while (spools() > 0) await new Promise((resolve) => setTimeout(resolve, 20));
        if (index > 0) await relay.stop();
      }
      const most = index === 0 ? 8 * MIB + 4 * MIB : 4 * MIB + 4 * MIB;
      assert.ok(edge.received - before <= most, `${edge.received - before} bytes in push ${index}`);
    }
    assert.ok((await stored("relay/resized", digestOf(content))).equals(content));
    assert.equal(said.filter((line) => line.startsWith("resuming a layer")).length, 3, said.join("\n"));
    assert.deepEqual(readdirSync(folder), []);
  });

  test("resumes a chunk that is longer than the client's parts", async () => {
    const name = "relay/parts";
    const content = buffer(20 * MIB, "parts");
    const pushParts = async (blob, size) => {
      const { headers } = await ask("POST", `/v2/${name}/blobs/uploads/`);
      for (let at = 0; at < blob.length; at += size) {
        if (at === size) {
          // A part breaks off: the client goes on after the part before.
          const socket = interrupted("PATCH", headers.location, blob.subarray(at, at + size / 2), size);
          while ((await ask("GET", headers.location)).headers.range !== `0-${at + size / 2 - 1}`)
            await new Promise((resolve) => setTimeout(resolve, 20));
          socket.destroy();
          while ((await ask("GET", headers.location)).headers.range !== `0-${at - 1}`)
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        const patch = () => ask("PATCH", headers.location, { body: blob.subarray(at, at + size) });
        let patched = await patch();
        // The part that broke off may not have ended.
        for (let tries = 0; patched.status === 416 && tries < 50; tries += 1) patched = await patch();
        assert.equal(patched.status, 202, patched.body.toString());
      }
      const closed = await ask("PUT", `${headers.location}?digest=${digestOf(blob)}`);
      assert.equal(closed.status, 201, closed.body.toString());
      assert.ok((await stored(name, digestOf(blob))).equals(blob));
    };
    const { headers } = await ask("POST", `/v2/${name}/blobs/uploads/`);
    const first = interrupted("PATCH", headers.location, content.subarray(0, 14 * MIB), content.length);
    while ((await ask("GET", headers.location)).headers.range !== `0-${14 * MIB - 1}`)
      await new Promise((resolve) => setTimeout(resolve, 20));
    first.destroy();
    while (spools() > 0) await new Promise((resolve) => setTimeout(resolve, 20));

    // Another layer begins in another way, at once or after its first part.
    await pushParts(buffer(13 * MIB, "other parts"), 2 * MIB);
    await pushParts(Buffer.concat([content.subarray(0, 2 * MIB), buffer(3 * MIB, "short")]), 2 * MIB);
    const before = edge.received;
    await pushParts(content, 2 * MIB);
    assert.ok(edge.received - before <= 9 * MIB, `${edge.received - before} bytes again`);
    assert.equal(said.filter((line) => line.startsWith("resuming a layer")).length, 1, said.join("\n"));
    assert.deepEqual(readdirSync(folder), []);
  });

  /** Sends the head of a request with a body and some of its bytes. Returns the socket. */
  function interrupted(method, path, bytes, length) {
    const socket = net.connect(relay.port, "127.0.0.1").on("error", () => {});
    const lines = [`${method} ${path} HTTP/1.1`, `Host: localhost:${relay.port}`, `Authorization: ${basic()}`];
    socket.write(`${[...lines, `Content-Length: ${length}`].join("\r\n")}\r\n\r\n`);
    socket.write(bytes);
    return socket;
  }

  test("frees the slot of a silent client, and answers 408", { timeout: 30_000 }, async () => {
    await relay.stop();
    relay = await begin({ blobs: 1, clientTimeout: 500 });
    for (const [method, query] of [
      ["PATCH", ""],
      ["PUT", `?digest=${digestOf(Buffer.from("silent"))}`],
    ]) {
      const { headers } = await ask("POST", "/v2/relay/silent/blobs/uploads/");
      const socket = interrupted(method, headers.location + query, "", 100);
      let text = "";
      for await (const part of socket) text += part;
      assert.match(text, /^HTTP\/1\.1 408 /);
      assert.match(text, /the client sent no bytes for 0\.5 seconds/);
      assert.equal((await ask("GET", headers.location)).status, 204);
    }
    // A client that is slow, and not silent, keeps its slot.
    const content = buffer(6, "slow");
    const pieces = (async function* () {
      for (const byte of content) {
        yield Buffer.from([byte]);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    })();
    const pushed = await push("relay/slow", content, { pieces });
    assert.equal(pushed.status, 201, pushed.body.toString());
  });

  test("frees the file of a chunk whose client goes away", { timeout: 60_000 }, async () => {
    const content = buffer(9 * MIB, "gone");
    const { headers } = await ask("POST", "/v2/relay/gone/blobs/uploads/");
    const offset = async () => (await ask("GET", headers.location)).headers.range;
    const until = async (isDone) => {
      while (!(await isDone())) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    // A chunk is at the registry, and a part of the next one is here.
    const first = interrupted("PATCH", headers.location, content.subarray(0, 8 * MIB), content.length);
    await until(async () => (await offset()) === `0-${8 * MIB - 1}`);
    assert.equal(spools(), 1);
    first.destroy();
    await until(() => spools() === 0);
    assert.equal(await offset(), `0-${CHUNK - 1}`);

    // The client goes on: with a small part that it knows to be received, and one that breaks off.
    const known = CHUNK + 1000;
    const patched = await ask("PATCH", headers.location, { body: content.subarray(CHUNK, known) });
    assert.deepEqual([patched.status, patched.headers.range], [202, `0-${known - 1}`]);
    const second = interrupted("PATCH", headers.location, content.subarray(known, 8 * MIB), content.length - known);
    await until(async () => (await offset()) === `0-${8 * MIB - 1}`);
    second.destroy();
    await until(async () => (await offset()) === `0-${known - 1}`);
    const rest = await ask("PATCH", headers.location, { body: content.subarray(known) });
    assert.equal(rest.status, 202);
    const closed = await ask("PUT", `${headers.location}?digest=${digestOf(content)}`);
    assert.equal(closed.status, 201, closed.body.toString());
    assert.ok((await stored("relay/gone", digestOf(content))).equals(content));
    assert.equal(spools(), 0);
  });

  test("tells a client its offset, refuses another one, and cancels", async () => {
    const { headers } = await ask("POST", "/v2/relay/offset/blobs/uploads/");
    const body = buffer(5000, "offset");
    const patched = await ask("PATCH", headers.location, { body, headers: { "content-range": "0-4999" } });
    assert.deepEqual([patched.status, patched.headers.range], [202, "0-4999"]);
    const wrong = await ask("PATCH", headers.location, { body, headers: { "content-range": "0-4999" } });
    assert.deepEqual([wrong.status, wrong.headers.range], [416, "0-4999"]);
    assert.equal((await ask("GET", headers.location)).headers.range, "0-4999");
    assert.equal((await ask("DELETE", headers.location)).status, 204);
    assert.equal((await ask("GET", headers.location)).status, 404);
  });

  test("passes on all other requests, with the registry's own token realm", async () => {
    const { status, headers } = await ask("GET", "/v2/", { headers: { authorization: undefined } });
    assert.equal(status, 401);
    assert.match(headers["www-authenticate"], new RegExp(`^Bearer realm="${edge.url.origin}/v2/_strata/token"`));
    for (const tag of ["a", "b", "c"]) {
      const config = buffer(10, tag);
      await push("relay/passed", config);
      const manifest = JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf(config), size: 10 },
        layers: [],
      });
      const path = `/v2/relay/passed/manifests/${tag}`;
      const type = { "content-type": "application/vnd.oci.image.manifest.v1+json" };
      assert.equal((await ask("PUT", path, { body: manifest, headers: type })).status, 201);
      assert.equal((await ask("GET", path)).body.toString(), manifest);
    }
    const page = await ask("GET", "/v2/relay/passed/tags/list?n=2");
    const [, next] = /^<([^>]+)>; rel="next"$/.exec(page.headers.link);
    assert.deepEqual((await ask("GET", next)).json().tags, ["c"]);
    const wrong = await ask("POST", "/v2/relay/passed/blobs/uploads/", { headers: { authorization: basic("x", "y") } });
    assert.equal(wrong.status, 401);
  });

  test("gives the client the registry's refusal of a wrong digest", async () => {
    const content = buffer(9 * MIB, "wrong");
    const { headers } = await ask("POST", "/v2/relay/wrong/blobs/uploads/");
    const refused = await ask("PUT", `${headers.location}?digest=${digestOf(Buffer.from("other"))}`, { body: content });
    assert.equal(refused.status, 400);
    assert.match(refused.body.toString(), /DIGEST_INVALID/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("keeps the body of a request without a length apart from the next request", async () => {
    // The registry would take an unframed body for a request of its own.
    const hidden = `GET /v2/hidden HTTP/1.1\r\nHost: ${edge.url.host}\r\n\r\n`;
    const socket = net.connect(relay.port, "127.0.0.1");
    const lines = ["GET /v2/ HTTP/1.1", `Host: localhost:${relay.port}`, `Authorization: ${basic()}`];
    const chunk = `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`;
    socket.write(`${[...lines, "Transfer-Encoding: chunked", "Connection: close"].join("\r\n")}\r\n\r\n${chunk}`);
    for await (const _ of socket);
    assert.equal((await ask("GET", "/v2/")).status, 200);
    assert.ok(edge.requests.every(({ path }) => path === "/v2/"));
    assert.deepEqual(
      edge.requests.map(({ bytes }) => bytes),
      [hidden.length, 0],
    );
  });

  test("takes one body at a time for an upload, and goes on after odd responses", async () => {
    const { headers } = await ask("POST", "/v2/relay/twice/blobs/uploads/");
    let release;
    const held = new Promise((resolve) => (release = resolve));
    const body = (async function* () {
      yield buffer(3 * MIB, "twice");
      await held;
    })();
    const first = ask("PATCH", headers.location, { body, headers: { "transfer-encoding": "chunked" } });
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal((await ask("PATCH", headers.location, { body: buffer(10, "second") })).status, 416);
    release();
    assert.equal((await first).status, 202);
    for (const [name, value] of [
      ["location", "http://["],
      ["link", "<http://[>; rel=next"],
    ]) {
      const registry = http.createServer((_, response) => response.writeHead(403, { [name]: value }).end("{}"));
      await new Promise((resolve) => registry.listen(0, "127.0.0.1", resolve));
      const odd = await begin({ registry: new Registry(`http://127.0.0.1:${registry.address().port}`, {}) });
      const at = (path) => new URL(path, `http://127.0.0.1:${odd.port}`);
      assert.equal((await send(at("/v2/a/blobs/uploads/"), { method: "POST" })).status, 403);
      assert.equal((await send(at("/v2/"), {})).status, 403);
      await odd.stop();
      registry.closeAllConnections();
      registry.close();
    }
  });

  /** Runs work with a relay to a registry that answers as `answer` says. */
  async function withRegistry(answer, work) {
    const registry = http.createServer(answer);
    await new Promise((resolve) => registry.listen(0, "127.0.0.1", resolve));
    const other = await begin({ registry: new Registry(`http://127.0.0.1:${registry.address().port}`, {}) });
    try {
      await work(other.port);
    } finally {
      await other.stop();
      registry.closeAllConnections();
      registry.close();
    }
  }

  test("answers a refused body before its end, and closes the connection", async () => {
    const answer = async (request, response) => {
      if (request.method === "POST") return response.writeHead(202, { location: "/v2/a/blobs/uploads/1" }).end();
      for await (const _ of request);
      response.writeHead(request.method === "PATCH" ? 403 : 200).end("{}");
    };
    await withRegistry(answer, async (port) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ask = (method, path, body) =>
        new Promise((resolve, reject) => {
          const request = http.request({ agent, host: "127.0.0.1", port, method, path }, (response) => {
            response.resume().on("end", () => resolve([response.statusCode, response.headers]));
          });
          request.on("error", reject).end(body);
        });
      const [, { location }] = await ask("POST", "/v2/a/blobs/uploads/");
      const [status, headers] = await ask("PATCH", location, buffer(3 * CHUNK, "refused"));
      assert.deepEqual([status, headers.connection], [403, "close"]);
      assert.equal((await ask("GET", "/v2/"))[0], 200);
      agent.destroy();
    });
  });

  test("sends a chunk again by its offset, if the registry has kept the beginning of it", async () => {
    let kept = Buffer.alloc(0);
    const at = () => ({ location: "/v2/a/blobs/uploads/1", range: `0-${Math.max(0, kept.length - 1)}` });
    const answer = async (request, response) => {
      const [, from] = /^(\d+)-/.exec(request.headers["content-range"] ?? "") ?? [];
      const isElsewhere = from !== undefined && Number(from) !== kept.length;
      try {
        for await (const part of request) if (!isElsewhere) kept = Buffer.concat([kept, part]);
      } catch {
        return;
      }
      const { method } = request;
      const status = isElsewhere ? 416 : ({ GET: 204, PUT: 201 }[method] ?? 202);
      response.writeHead(status, at()).end();
    };
    await withRegistry(answer, async (port) => {
      const to = (path) => new URL(path, `http://127.0.0.1:${port}`);
      const begun = await send(to("/v2/a/blobs/uploads/"), { method: "POST" });
      const { location } = begun.headers;
      const content = buffer(4 * MIB, "kept");
      const headers = { host: `localhost:${port}`, "content-length": content.length };
      const first = http.request(to(location), { method: "PATCH", headers }).on("error", () => {});
      first.write(content.subarray(0, 3 * MIB));
      while (kept.length < 2 * MIB) await new Promise((resolve) => setTimeout(resolve, 20));
      first.destroy();
      const again = async () => send(to(location), { method: "PATCH", body: content });
      let patched = await again();
      // The relay has not seen the end of the first body yet.
      while (patched.status === 416) patched = await again();
      assert.equal(patched.status, 202, patched.body.toString());
      assert.equal((await send(to(`${location}?digest=${digestOf(content)}`), { method: "PUT" })).status, 201);
      assert.ok(kept.equals(content));
    });
  });

  test("answers to this machine only", async () => {
    for (const [host, status] of [
      [`localhost:${relay.port}`, 200],
      ["127.0.0.1", 200],
      [`[::1]:${relay.port}`, 403],
      ["evil.example", 403],
      ["localhost.evil.example", 403],
    ])
      assert.equal((await ask("GET", "/v2/", { headers: { host } })).status, status, host);
    for (const [origin, status] of [
      ["https://evil.example", 403],
      ["null", 403],
      [`http://localhost:${relay.port}`, 200],
    ])
      assert.equal((await ask("GET", "/v2/", { headers: { origin } })).status, status, origin);
  });
});

describe("the relay before a slow bucket that fails", { timeout: 120_000 }, () => {
  test("pushes a layer whole, with few bytes sent again", async () => {
    const strata = await start();
    const edge = await startEdge({ origin: strata.url, limit: LIMIT });
    const folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"));
    const relay = await serve({
      registry: new Registry(edge.url.origin, {}),
      journal: new Journal(folder),
      chunk: CHUNK,
      blobs: 4,
      port: 0,
      say: () => {},
    });
    try {
      for (const [call, nth] of [
        ["r2.uploadPart", 4],
        ["r2.complete", 2],
        ["r2.createMultipartUpload", 3],
      ])
        await strata.fail({ call, nth });
      for (const call of ["r2.head", "r2.get", "r2.list", "r2.put", "r2.uploadPart"])
        await strata.fail({ call, times: 1000, delay: 50, fails: false });
      const content = buffer(25 * MIB, "a failing bucket");
      const digest = digestOf(content);
      const url = new URL(`/v2/relay/failing/blobs/uploads/?digest=${digest}`, `http://127.0.0.1:${relay.port}`);
      const pushed = await send(url, { method: "POST", headers: { authorization: basic() }, body: content });
      assert.equal(pushed.status, 201, pushed.body.toString());
      assert.ok((await strata.send("GET", `/v2/relay/failing/blobs/${digest}`)).body.equals(content));
      const failed = (await strata.calls()).filter((call) => call.failed).length;
      assert.equal(failed, 3);
      assert.ok(edge.received <= content.length + 3 * CHUNK, `${edge.received} bytes for ${content.length}`);
    } finally {
      await relay.stop();
      await edge.stop();
      await strata.stop();
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the relay's parts", () => {
  test("the version is that of the project", () => {
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url)));
    assert.equal(VERSION, version);
    assert.ok(
      isNewer("0.10.0", "0.9.9") &&
        isNewer("1.0.0", "0.9.9") &&
        !isNewer("0.2.0", "0.2.0") &&
        !isNewer("0.1.9", "0.2.0"),
    );
  });

  test("a proxy is chosen by the usual variables", () => {
    const url = new URL("https://registry.example");
    assert.equal(proxyFor(url, {}), undefined);
    assert.equal(proxyFor(url, { HTTPS_PROXY: "http://proxy:3128" }).url.host, "proxy:3128");
    // An empty variable does not hide the other one.
    const { url: proxy, name } = proxyFor(url, { HTTPS_PROXY: "", https_proxy: "proxy:3128" });
    assert.deepEqual([proxy.host, name], ["proxy:3128", "https_proxy"]);
    assert.equal(proxyFor(url, { HTTP_PROXY: "http://proxy:3128" }), undefined);
    assert.equal(proxyFor(url, { HTTPS_PROXY: "http://proxy:3128", NO_PROXY: "a.example, .example" }), undefined);
    for (const HTTPS_PROXY of ["https://me:secret@proxy", "socks5://proxy:1080", "http://["])
      assert.throws(() => proxyFor(url, { HTTPS_PROXY }), /^Error: the proxy [^@]* is not http:\/\/HOST:PORT$/);
  });

  test("a registry without a scheme is https, and http on this machine", () => {
    for (const [to, origin] of [
      ["registry.example", "https://registry.example"],
      ["localhost:8787", "http://localhost:8787"],
      ["127.0.0.1:8787", "http://127.0.0.1:8787"],
      ["localhost.example", "https://localhost.example"],
      ["https://localhost:8787", "https://localhost:8787"],
    ])
      assert.equal(new Registry(to, {}).origin, origin);
    assert.throws(
      () => new Registry("registry.example/a", {}),
      /^Error: --to registry\.example\/a: use https:\/\/HOST alone$/,
    );
  });

  test("requests to a plain registry go through a proxy", async () => {
    const seen = [];
    const proxy = http.createServer((request, response) => {
      seen.push([request.url, request.headers.host, request.headers["proxy-authorization"]]);
      response.end("{}");
    });
    await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    try {
      const env = { HTTP_PROXY: `http://me:secret@127.0.0.1:${proxy.address().port}` };
      const registry = new Registry("http://registry.example", env);
      assert.equal((await registry.ask("GET", "/v2/")).body, "{}");
      assert.deepEqual(seen, [["http://registry.example/v2/", "registry.example", `Basic ${btoa("me:secret")}`]]);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  });

  test("a tar tells sizes in octal, in binary or by pax", async () => {
    const header = (name, type, size) => {
      const bytes = Buffer.alloc(512);
      bytes.write(name);
      bytes.write(type, 156);
      bytes.write("ustar", 257);
      size(bytes.subarray(124, 136));
      return bytes;
    };
    const octal = (size) => (field) => field.write(size.toString(8).padStart(11, "0"));
    const binary = (size) => (field) => field.writeBigUInt64BE(BigInt(size), 4) && field.writeUInt8(0x80, 0);
    const data = (text) => Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)]);
    const file = join(mkdtempSync(join(tmpdir(), "strata-relay-test-")), "sizes.tar");
    const parts = [
      [header("octal", "0", octal(5)), data("octal")],
      [header("binary", "0", binary(6)), data("binary")],
      [header("pax", "x", octal(9)), data("9 size=3\n"), header("by-pax", "0", octal(0)), data("pax")],
      [Buffer.alloc(1024)],
    ];
    writeFileSync(file, Buffer.concat(parts.flat()));
    const files = await Files.open(file);
    try {
      for (const [name, content] of Object.entries({ octal: "octal", binary: "binary", "by-pax": "pax" }))
        assert.equal((await files.read(name)).toString(), content);
    } finally {
      await files.close();
      rmSync(dirname(file), { recursive: true });
    }
  });

  test("two relays with one journal do not resume the same upload", () => {
    const folder = mkdtempSync(join(tmpdir(), "strata-relay-test-"));
    const about = { registry: "r", repository: "a", identity: "user ann" };
    const first = new Journal(folder);
    first.write({ id: "one", ...about, chunks: [] });
    // The lock is of another process that runs, and then of one that does not.
    assert.deepEqual(new Journal(folder).candidates(about), []);
    writeFileSync(join(folder, "one.lock"), "999999999");
    const second = new Journal(folder);
    const [found] = second.candidates(about);
    assert.equal(found.id, "one");
    assert.ok(second.claim(found));
    assert.ok(!new Journal(folder).claim(found));
    second.remove(found);
    assert.deepEqual(readdirSync(folder), []);
    rmSync(folder, { recursive: true });
  });

  test("an identity is the user, by a password or a token", () => {
    const token = ["{}", JSON.stringify({ sub: "ann" }), ""]
      .map((part) => Buffer.from(part).toString("base64url"))
      .join(".");
    assert.equal(identityOf(`Bearer ${token}`), "user ann");
    assert.equal(identityOf(basic("ann", "secret")), "user ann");
    assert.equal(identityOf(), "anonymous");
    assert.equal(identityOf("Bearer x"), `credential ${crypto.createHash("sha256").update("Bearer x").digest("hex")}`);
  });
});
