// Puts simulated R2, KV and Cache API before a built Worker, in its isolate: with latencies,
// failures, limits of the platform, and a record of every call.
import { AsyncLocalStorage } from "node:async_hooks";
import { WorkerEntrypoint, env } from "cloudflare:workers";
import { now, until } from "./clock.mjs";
import { memories } from "./memories.mjs";
import play from "./play.mjs";
import worker from "./index.js";

/** The requests and triggers since the last reset, in the order of their start. */
let invocations = [];
/** Their calls of R2, KV and the Cache API, in the order of their start. */
let calls = [];
/** The chosen faults that are left. */
let faults = [];
const current = new AsyncLocalStorage();

export default class extends WorkerEntrypoint {
  fetch(request) {
    const { pathname, search } = new URL(request.url);
    return invoke(`${request.method} ${pathname}${search}`, () => worker.fetch(request, bound, this.ctx));
  }

  scheduled(controller) {
    return invoke("trigger", () => worker.scheduled(controller, bound, this.ctx));
  }
}

/** The interface for the harness. */
export class Probe extends WorkerEntrypoint {
  read() {
    const wasm = [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
    return { invocations: invocations.map(({ report }) => report), calls, wasm, faults: faults.length };
  }

  reset() {
    invocations = [];
    calls = [];
    faults = [];
  }

  /** Changes options of the play. */
  set(changes) {
    Object.assign(play, changes);
  }

  fail(fault) {
    faults.push({ call: "", key: "", nth: 1, times: 1, kind: "10001", kept: false, ...fault });
  }
}

/** One request or trigger: its connections and its count of sub-requests. */
class Invocation {
  #free = play.connections;
  #queue = [];

  constructor(what) {
    this.report = { id: crypto.randomUUID(), what, began: now(), replied: null, subrequests: 0 };
    invocations.push(this);
  }

  /** Takes a connection, or returns the promise of the first that is free. */
  connect() {
    if (this.#free === 0) return new Promise((resolve) => this.#queue.push(resolve));
    this.#free -= 1;
    return undefined;
  }

  disconnect() {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free += 1;
  }
}

/** Calls that no invocation is known for: none, or the simulation has lost track. */
const stray = () => new Invocation("stray");

async function invoke(what, work) {
  const invocation = new Invocation(what);
  try {
    return await current.run(invocation, work);
  } finally {
    invocation.report.replied = now();
  }
}

/** Numbers from 0 to 1, the same for the same seed. */
const random = (() => {
  let state = play.seed;
  // mulberry32
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
})();

const among = (list) => list[Math.floor(random() * list.length)];

/** Draws a latency: that of the call, or else that of its store. */
function latencyOf(name) {
  const latency = play.latency[name] ?? play.latency[name.split(".")[0]] ?? 0;
  const [least, most] = [latency].flat();
  const times = play.slow.share > random() ? play.slow.times : 1;
  return times * (most === undefined ? least : least + (most - least) * random());
}

/** The kinds of failures, and their messages from R2. A call that hangs fails in the end. */
const MESSAGES = {
  10001: "We encountered an internal error. Please try again. (10001)",
  10043: "Service temporarily unavailable. Please try again. (10043)",
  hang: "Network connection lost.",
};

function messageOf(name, kind) {
  const [store, method] = name.split(".");
  if (store === "cache") return MESSAGES.hang;
  return store === "r2"
    ? `${method}: ${MESSAGES[kind]}`
    : `KV ${method.toUpperCase()} failed: 500 Internal Server Error`;
}

/** Draws the failure of a call: `{ kind, kept }`, or undefined. A kept one takes effect. */
function failureOf(name, key) {
  for (const fault of faults) {
    if (!name.startsWith(fault.call) || !key.startsWith(fault.key)) continue;
    fault.nth -= 1;
    if (fault.nth > 0) continue;
    fault.times -= 1;
    if (fault.times <= 0) faults = faults.filter((other) => other !== fault);
    return fault;
  }
  const { rate = 0, kinds = Object.keys(MESSAGES), only = "", bursts = [] } = play.failures;
  if (!name.startsWith(only)) return undefined;
  const burst = bursts.find(({ from, to }) => from <= now() && now() < to);
  if (random() >= (burst ? (burst.rate ?? 1) : rate)) return undefined;
  return { kind: among(burst?.kinds ?? kinds), kept: random() < 0.5 };
}

/**
 * Makes a call: takes a connection, waits for half of the latency, takes effect, and waits for the
 * other half. `effect` gets false if the call must not take effect, and is then to read its body.
 */
async function call(name, key, bytes, effect) {
  const invocation = current.getStore() ?? stray();
  const record = { call: name, key, bytes, invocation: invocation.report.id, asked: now() };
  calls.push(record);
  invocation.report.subrequests += 1;
  if (invocation.report.subrequests > play.subrequests) {
    Object.assign(record, { began: record.asked, ended: record.asked, failed: "Too many subrequests." });
    throw new Error(record.failed);
  }
  const connection = invocation.connect();
  if (connection) await connection;
  record.began = connection ? now() : record.asked;
  try {
    const failure = failureOf(name, key);
    // How long a read of KV takes depends on its outcome, so all of its latency comes after it.
    const latency = name === "kv.get" ? 0 : latencyOf(name);
    record.due = record.began + latency + (failure?.kind === "hang" ? play.hang : 0);
    await until(record.began + latency / 2);
    const value = !failure || failure.kept ? await effect(true) : await effect(false);
    const rest = name === "kv.get" ? latencyOf(value?.hit ? "kv.hit" : "kv.miss") : latency;
    if (value?.bytes !== undefined && name !== "kv.get") record.bytes = value.bytes;
    record.due += rest - latency;
    await until(record.due);
    if (failure) throw new Error(messageOf(name, failure.kind));
    return value;
  } catch (error) {
    record.failed = error.message;
    throw error;
  } finally {
    record.ended = now();
    invocation.disconnect();
  }
}

/** Takes the answer of the store apart. */
function opened(method, { value, error, length }) {
  if (length) throw new TypeError(error);
  if (error) throw new Error(`${method}: ${error}`);
  return value;
}

/** Makes a call of the store that has a body or gets one. */
const ask = (args, body) =>
  env.STORE.fetch("http://store/", {
    method: "PUT",
    headers: { play: encodeURIComponent(JSON.stringify(args)) },
    body,
  });

const send = async (method, args, body) => opened(method, await (await ask({ call: method, ...args }, body)).json());

/** Reads a body to its end: an unread one would reset the client's connection. */
async function drain(body) {
  if (body instanceof ReadableStream) await body.pipeTo(new WritableStream());
}

/** Fails for options that are not played, so that none is ignored. */
function only(options, names) {
  for (const [name, value] of Object.entries(options ?? {}))
    if (value !== undefined && !names.includes(name)) throw new TypeError(`the simulated edge has no ${name}`);
  return options ?? {};
}

class R2Object {
  constructor(found) {
    Object.assign(this, found);
    this.uploaded = new Date(found.uploaded);
    this.httpEtag = `"${found.etag}"`;
    this.checksums = {};
    this.storageClass = "Standard";
  }
}

class R2ObjectBody extends R2Object {
  #response;

  constructor(found, response) {
    super(found);
    this.#response = response;
  }

  get body() {
    return this.#response.body;
  }

  get bodyUsed() {
    return this.#response.bodyUsed;
  }

  arrayBuffer() {
    return this.#response.arrayBuffer();
  }
}

const objectOf = (found) => found && new R2Object(found);

/** The `worker` crate takes the name of the class for the kind of the binding. */
class R2Bucket {
  head(key) {
    return call("r2.head", key, 0, async (works) => works && objectOf(opened("head", await env.STORE.head(key))));
  }

  async get(key, options) {
    const { range } = only(options, ["range"]);
    const response = await call("r2.get", key, 0, async (works) => {
      if (!works) return undefined;
      const response = await ask({ call: "get", key, range });
      const found = response.headers.get("play");
      if (!found) return { value: opened("get", await response.json()) };
      const object = JSON.parse(decodeURIComponent(found));
      return { value: new R2ObjectBody(object, response), bytes: object.range.length };
    });
    return response.value;
  }

  async put(key, value, options) {
    const names = ["onlyIf", "customMetadata", "sha256", "sha512"];
    const { onlyIf, customMetadata, sha256, sha512 } = only(options, names);
    only(onlyIf, ["etagMatches", "etagDoesNotMatch"]);
    const checksum =
      (sha256 && { algorithm: "SHA-256", hash: hex(sha256) }) ||
      (sha512 && { algorithm: "SHA-512", hash: hex(sha512) }) ||
      undefined;
    const stored = await call("r2.put", key, 0, async (works) => {
      if (!works) return drain(value);
      const found = objectOf(await send("put", { key, onlyIf, customMetadata, checksum }, value));
      return { found, bytes: found?.size ?? 0 };
    });
    return stored.found;
  }

  list(options) {
    const { prefix = "", ...others } = only(options, ["prefix", "limit", "cursor", "startAfter", "include"]);
    return call("r2.list", prefix, 0, async (works) => {
      if (!works) return undefined;
      const { empty = 0, short = 0 } = play.pages;
      const drawn = random();
      const limit = others.limit ?? 1000;
      const most = drawn < empty ? 0 : drawn < empty + short ? Math.ceil(limit * random()) : limit;
      const page = opened("list", await env.STORE.list({ ...others, prefix, most }));
      return { ...page, objects: page.objects.map(objectOf), delimitedPrefixes: [] };
    });
  }

  delete(keys) {
    const listed = [keys].flat();
    if (listed.length > 1000) throw new TypeError("delete: at most 1000 keys");
    return call("r2.delete", listed.join(" "), 0, async (works) => {
      if (works) opened("delete", await env.STORE.delete(listed));
    });
  }

  createMultipartUpload(key, options) {
    const { customMetadata } = only(options, ["customMetadata"]);
    return call("r2.createMultipartUpload", key, 0, async (works) => {
      if (!works) return undefined;
      const created = await env.STORE.createMultipartUpload(key, customMetadata);
      return new R2MultipartUpload(key, opened("createMultipartUpload", created));
    });
  }

  resumeMultipartUpload(key, uploadId) {
    return new R2MultipartUpload(key, uploadId);
  }
}

class R2MultipartUpload {
  constructor(key, uploadId) {
    this.key = key;
    this.uploadId = uploadId;
  }

  uploadPart(partNumber, value) {
    const { key, uploadId } = this;
    return call("r2.uploadPart", key, value.byteLength ?? 0, async (works) =>
      works ? send("uploadPart", { key, uploadId, partNumber }, value) : drain(value),
    );
  }

  complete(parts) {
    const { key, uploadId } = this;
    return call("r2.complete", key, 0, async (works) => {
      if (!works) return undefined;
      return objectOf(opened("complete", await env.STORE.complete(key, uploadId, parts)));
    });
  }

  abort() {
    const { key, uploadId } = this;
    return call("r2.abort", key, 0, async (works) => {
      if (works) opened("abort", await env.STORE.abort(key, uploadId));
    });
  }
}

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const MIB = 1 << 20;

class KvNamespace {
  async get(key, options) {
    const { type } = only(options, ["type", "cacheTtl"]);
    if (type !== "stream") throw new TypeError("the simulated KV gives streams only");
    const found = await call("kv.get", key, 0, async (works) =>
      works ? opened("KV GET failed", await env.STORE.getValue(key, play.location)) : undefined,
    );
    return found.bytes ? new Response(found.bytes).body : null;
  }

  getWithMetadata() {
    throw new TypeError("the simulated KV has no metadata");
  }

  list() {
    throw new TypeError("the simulated KV has no lists");
  }

  put(key, value, options) {
    const { expirationTtl } = only(options, ["expirationTtl"]);
    if (expirationTtl < 60) throw new Error("KV PUT failed: 400 Invalid expiration_ttl, at least 60");
    if (new TextEncoder().encode(key).length > 512) throw new Error("KV PUT failed: 414 UTF-8 encoded length of key");
    if (value.byteLength > 25 * MIB) throw new Error("KV PUT failed: 413 Value length exceeds the limit");
    // Only the view is sent, not all memory behind it.
    const bytes = new Uint8Array(value).slice();
    return call("kv.put", key, bytes.length, async (works) => {
      if (!works) return;
      opened("KV PUT failed", await env.STORE.putValue(key, bytes, expirationTtl, play.location));
    });
  }

  delete(key) {
    return call("kv.delete", key, 0, async (works) => {
      if (works) opened("KV DELETE failed", await env.STORE.deleteValue(key, play.location));
    });
  }
}

/**
 * The Cache API of the location. The host of an address is not part of its key: only the harness
 * gives each isolate another one.
 */
const cache = {
  async match(request) {
    const { url, headers } = new Request(request);
    const key = new URL(url).pathname;
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "") ?? [];
    const range = first && { offset: Number(first), length: last - first + 1 };
    const found = await call("cache.match", key, 0, async (works) => {
      if (!works) return undefined;
      const response = await ask({ call: "match", key, range, location: play.location });
      return response.ok ? { response, bytes: Number(response.headers.get("content-length")) } : undefined;
    });
    return found?.response;
  },

  async put(request, response) {
    const key = new URL(new Request(request).url).pathname;
    const { body, headers } = response;
    const control = headers.get("cache-control");
    await call("cache.put", key, Number(headers.get("content-length")), async (works) => {
      if (!works) return drain(body);
      await send("keep", { key, control, location: play.location }, body);
    });
  },
};

Object.defineProperty(globalThis, "caches", { value: { open: async () => cache, default: cache } });

const { STORE: _, ...others } = env;
const bound = { ...others, BUCKET: new R2Bucket(), WARM: new KvNamespace() };
