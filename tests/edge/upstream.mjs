// Upstreams for a mirror: distribution as Debian packages it, a token server for it, and a proxy
// that causes trouble.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createPublicKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { unpacked } from "../clients/tools.mjs";
import { blobPath } from "../images/layout.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { open, send } from "./http.mjs";
import { manifestOf } from "./push.mjs";

const distribution = await unpacked("docker-registry", "docker-registry");

/** Why distribution can't be run here, or undefined. */
export const { missing } = distribution;

/** The credentials for upstreams that require some. */
export const credentials = { user: "puller", password: "correct horse" };

// The same password by bcrypt, which distribution requires and Node can't make.
const HTPASSWD = `${credentials.user}:$2b$05$stratamirrorstratamireakS6GrFIhar83fWIvBZGZMBhuY46ZAm\n`;

const SERVICE = "distribution";

/**
 * Starts distribution on a free loopback port. Its blobs are below a folder that others may serve,
 * too. Returns `{ url, stop }`.
 *
 * @param {string} folder
 * @param {{ name?: string, basic?: boolean, tokens?: Awaited<ReturnType<typeof startTokens>> }}
 *   [options] `name` is that of its files in the folder; it requires Basic, tokens, or nothing
 */
export async function startDistribution(folder, { name = "open", basic = false, tokens } = {}) {
  const file = (extension) => join(folder, `${name}.${extension}`);
  await writeFile(file("htpasswd"), HTPASSWD);
  if (tokens) await writeFile(file("pem"), tokens.certificate);
  const auth = {
    ...(basic && { htpasswd: { realm: "upstream", path: file("htpasswd") } }),
    ...(tokens && {
      token: { realm: `${tokens.url}token`, service: SERVICE, issuer: ISSUER, rootcertbundle: file("pem") },
    }),
  };
  // JSON is YAML.
  const config = {
    version: "0.1",
    log: { accesslog: { disabled: true }, level: "info" },
    storage: { filesystem: { rootdirectory: join(folder, "registry") }, delete: { enabled: true } },
    http: { addr: "127.0.0.1:0", secret: "of the tests" },
    ...(Object.keys(auth).length > 0 && { auth }),
  };
  await writeFile(file("yml"), JSON.stringify(config));
  const running = spawn(distribution.program, ["serve", file("yml")], { stdio: ["ignore", "pipe", "pipe"] });
  const stop = async () => {
    if (running.exitCode !== null) return;
    const ended = once(running, "exit");
    running.kill();
    await ended;
  };
  let printed = "";
  const port = await new Promise((resolve, reject) => {
    const look = (text) => {
      printed += text;
      const [, port] = /listening on 127\.0\.0\.1:(\d+)/.exec(printed) ?? [];
      if (port) resolve(port);
    };
    for (const stream of [running.stdout, running.stderr]) stream.setEncoding("utf8").on("data", look);
    running.on("exit", (code) => reject(new Error(`docker-registry ended with ${code}: ${printed}`)));
  });
  return { url: new URL(`http://127.0.0.1:${port}/`), stop };
}

/**
 * Starts a token server for distribution, for all clients that know the password. Returns
 * `{ url, certificate, requests, stop }`; `requests` has the status of each.
 */
export async function startTokens() {
  const { certificate, key } = certify();
  const requests = [];
  const expected = `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString("base64")}`;
  const server = http.createServer((request, response) => {
    const known = request.headers.authorization === expected;
    const status = known ? 200 : 401;
    requests.push(status);
    response.writeHead(status, { "content-type": "application/json" });
    if (!known) return response.end(JSON.stringify({ details: "authentication required" }));
    const query = new URL(request.url, "http://tokens.invalid").searchParams;
    const access = query.getAll("scope").map((scope) => {
      const [, type, name, actions] = /^(\w+):(.+):([\w,*]+)$/.exec(scope);
      return { type, name, actions: actions.split(",") };
    });
    response.end(JSON.stringify({ token: tokenFor(access, query.get("service"), certificate, key), expires_in: 300 }));
  });
  const url = await listen(server);
  const pem = `-----BEGIN CERTIFICATE-----\n${certificate.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
  return { url, certificate: pem, requests, stop: () => close(server) };
}

const ISSUER = "token server";

/** Returns a token for distribution: a JWT (RFC 7519) with the certificate of its key. */
function tokenFor(access, service, certificate, key) {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: ISSUER,
    sub: credentials.user,
    aud: service,
    iat: now,
    nbf: now - 10,
    exp: now + 300,
    jti: randomUUID(),
    access,
  };
  const header = { typ: "JWT", alg: "ES256", x5c: [certificate.toString("base64")] };
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

/**
 * Returns a key and its self-signed certificate (RFC 5280). It is encoded here, because Node makes
 * none.
 */
function certify() {
  const { privateKey: key } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const der = (tag, ...contents) => {
    const content = Buffer.concat(contents);
    const { length: size } = content;
    const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
    return Buffer.concat([Buffer.from([tag, ...length]), content]);
  };
  const sequence = (...parts) => der(0x30, ...parts);
  const time = (date) => der(0x17, Buffer.from(date.toISOString().replace(/^..|[-:T]|\.\d+/g, "")));
  const [day, now] = [86_400_000, Date.now()];
  const algorithm = sequence(der(0x06, Buffer.from("2a8648ce3d040302", "hex")));
  const common = sequence(der(0x06, Buffer.from("550403", "hex")), der(0x0c, Buffer.from("tokens")));
  const name = sequence(der(0x31, common));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    algorithm,
    name,
    sequence(time(new Date(now - day)), time(new Date(now + day))),
    name,
    createPublicKey(key).export({ type: "spki", format: "der" }),
  );
  return { certificate: sequence(body, algorithm, der(0x03, Buffer.from([0]), sign("sha256", body, key))), key };
}

/**
 * The trouble with a request. Without a `status` or a `redirect`, the target answers.
 *
 * @typedef {object} Trouble
 * @property {number} [status] the status of a reply in place of the target's
 * @property {string | Buffer} [body] the body of that reply
 * @property {string} [redirect] the address of a redirect; if it ends with a slash, the request's
 *   path follows
 * @property {Record<string, string>} [headers] headers that are added
 * @property {number} [delay] milliseconds before the head
 * @property {number} [rate] bytes a second
 * @property {number} [flip] the offset of a byte that is changed
 * @property {number} [grow] the bytes added to the end, or removed if negative; the length follows
 * @property {number | null} [length] the announced length, whatever the body's; `null` announces
 *   none
 * @property {number} [cut] the bytes after which the connection breaks
 * @property {boolean} [whole] requests everything from the target, whatever the range
 */

/** Starts a proxy in front of a target, without any trouble yet. */
export async function startProxy(target) {
  const proxy = new CountingProxy(target);
  await proxy.accept();
  return proxy;
}

class CountingProxy {
  #target;
  #server;
  #rules = [];
  #requests = [];

  constructor(target) {
    this.#target = target;
  }

  /** The address for the settings of an upstream. */
  get address() {
    return this.url.origin;
  }

  /**
   * Returns the requests since the last call, in their order:
   * `{ method, path, status, range, authorization }`.
   */
  requests() {
    return this.#requests.splice(0);
  }

  /** Returns them as lines: `GET /v2/… 200`. */
  asked() {
    return this.requests().map(({ method, path, status }) => `${method} ${path} ${status}`);
  }

  /**
   * Causes trouble for the next `times` requests whose line, `GET /v2/…`, matches. The rule that
   * was added last wins.
   *
   * @param {RegExp} line
   * @param {Trouble} trouble
   */
  trouble(line, trouble, times = Infinity) {
    this.#rules.unshift({ line, trouble, times });
  }

  /** Ends all trouble. */
  calm() {
    this.#rules = [];
  }

  /** Accepts connections, at the same port each time. */
  async accept() {
    this.#server = http.createServer((request, response) =>
      this.#answer(request, response).catch(() => response.destroy()),
    );
    this.url = await listen(this.#server, this.url?.port);
  }

  /** Refuses connections. */
  refuse() {
    return close(this.#server);
  }

  stop() {
    return close(this.#server);
  }

  async #answer(request, response) {
    const { method, url, headers } = request;
    const path = url.split("?")[0];
    const asked = { method, path, status: "broken", range: headers.range, authorization: headers.authorization };
    this.#requests.push(asked);
    const rule = this.#rules.find(({ line, times }) => times > 0 && line.test(`${method} ${path}`));
    if (rule) rule.times -= 1;
    const trouble = rule?.trouble ?? {};
    if (trouble.delay) await sleep(trouble.delay);
    const { status, headers: all, body } = await this.#reply(request, trouble);
    Object.assign(all, trouble.headers);
    if (trouble.grow) all["content-length"] = Number(all["content-length"]) + trouble.grow;
    if (trouble.length !== undefined) all["content-length"] = trouble.length ?? undefined;
    const given = Object.entries(all).filter(([, value]) => value !== undefined);
    asked.status = status;
    response.writeHead(status, Object.fromEntries([...given, ["connection", "close"]]));
    if (method === "HEAD") return response.end();
    await pipeline(worsen(body, trouble), response, { end: false });
    // Break the connection when all that was written is on its way. Otherwise a client would wait
    // for announced bytes that never come.
    if (trouble.cut !== undefined) response.write("", () => response.destroy());
    else if (trouble.length) response.end(() => response.destroy());
    else response.end();
  }

  async #reply(request, { status, body = "", redirect, whole }) {
    const { method, url, headers } = request;
    if (redirect)
      return {
        status: 307,
        headers: { location: redirect.endsWith("/") ? redirect + url.slice(1) : redirect },
        body: [],
      };
    if (status) return { status, headers: { "content-length": Buffer.byteLength(body) }, body: [Buffer.from(body)] };
    // Forward the host: the target names its token server by it.
    const asking = { ...headers, connection: "close", ...(whole && { range: undefined }) };
    const reply = await open(new URL(url, this.#target), { method, headers: asking });
    const { connection, "transfer-encoding": coding, ...rest } = reply.headers;
    return { status: reply.status, headers: rest, body: reply.stream };
  }
}

/** Yields a body with its trouble. */
async function* worsen(body, { flip = Infinity, cut = Infinity, grow = 0, rate }) {
  let at = 0;
  // Hold back the bytes to remove: the end is only known when it has come.
  let held = Buffer.alloc(0);
  const pieces = async function* () {
    for await (const chunk of body) {
      held = Buffer.concat([held, chunk]);
      const ready = grow < 0 ? Math.max(0, held.length + grow) : held.length;
      yield held.subarray(0, ready);
      held = held.subarray(ready);
    }
    if (grow > 0) yield Buffer.alloc(grow, "more");
  };
  for await (const piece of pieces()) {
    const chunk = Buffer.from(piece.subarray(0, Math.max(0, cut - at)));
    if (flip >= at && flip < at + chunk.length) chunk[flip - at] ^= 1;
    at += chunk.length;
    if (!rate) yield chunk;
    else {
      const step = Math.ceil(rate / 20);
      for (let sent = 0; sent < chunk.length; sent += step) {
        const part = chunk.subarray(sent, sent + step);
        yield part;
        await sleep((part.length / rate) * 1000);
      }
    }
    if (at >= cut) return;
  }
}

async function listen(server, port = 0) {
  server.listen(Number(port), "127.0.0.1");
  await once(server, "listening");
  return new URL(`http://127.0.0.1:${server.address().port}/`);
}

async function close(server) {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}

/**
 * Returns an image of a configuration of 2 KiB and layers of these sizes: `{ manifest, blobs }`,
 * each with its `digest` and `content`.
 */
export function imageOf(seed, ...sizes) {
  const blobs = [2 << 10, ...sizes].map((size, index) => {
    const content = buffer(size, `${seed} ${index}`);
    return { digest: digestOf(content), size, content };
  });
  const [config, ...layers] = blobs.map(({ digest, size }) => ({ digest, size }));
  const { body, digest, mediaType } = manifestOf(config, layers);
  return { manifest: { digest, mediaType, content: Buffer.from(body) }, blobs };
}

/** Returns a referrer of an image in the same form: a manifest with the same blobs. */
export function referrerOf({ manifest, blobs }) {
  const [config, ...layers] = blobs.map(({ digest, size }) => ({ digest, size }));
  const { body, digest, mediaType } = manifestOf(config, layers, {
    mediaType: manifest.mediaType,
    digest: manifest.digest,
    body: manifest.content,
  });
  return { manifest: { digest, mediaType, content: Buffer.from(body) }, blobs };
}

/** Reads an image from a layout, in the same form. */
export async function imageIn({ layout, manifest, blobs }) {
  const read = async (descriptor) => ({ ...descriptor, content: await readFile(blobPath(layout, descriptor.digest)) });
  return { manifest: await read(manifest), blobs: await Promise.all(blobs.map(read)) };
}

/** Pushes an image to a registry that is open to everybody, or accepts this `authorization`. */
export async function fill(url, name, tag, { manifest, blobs }, authorization) {
  for (const { digest, content } of blobs) await fillBlob(url, name, digest, content, authorization);
  const headers = { "content-type": manifest.mediaType, authorization };
  const put = await send(new URL(`/v2/${name}/manifests/${tag}`, url), {
    method: "PUT",
    headers,
    body: manifest.content,
  });
  assert.equal(put.status, 201, put.body.toString());
}

/** Pushes a blob. If `content` is an iterable, `size` is its length. */
export async function fillBlob(url, name, digest, content, authorization, size) {
  const begun = await send(new URL(`/v2/${name}/blobs/uploads/`, url), { method: "POST", headers: { authorization } });
  assert.equal(begun.status, 202, begun.body.toString());
  const location = new URL(begun.headers.location, url);
  location.searchParams.set("digest", digest);
  const headers = { authorization, "content-length": size, "content-type": "application/octet-stream" };
  const closed = await send(location, { method: "PUT", headers, body: content });
  assert.equal(closed.status, 201, closed.body.toString());
}
