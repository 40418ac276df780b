// The one store behind the simulated R2, KV and Cache API of all isolates, in the memory of a
// Worker of its own. Each change is made without an await, so it is atomic.
import { WorkerEntrypoint } from "cloudflare:workers";
import { now } from "./clock.mjs";
import play from "./play.mjs";

const MIB = 1 << 20;
const SECOND = 1000;
/** For so long a location of KV answers from its cache, also that nothing is there. */
const CACHED = 60 * SECOND;
const MIN_PART = 5 * MIB;

/** Objects by key: `{ key, size, etag, version, uploaded, customMetadata, bytes }`. */
let objects = new Map();
/** The keys in order, until one is added or removed. */
let sorted;
/** Multipart uploads by id: `{ key, customMetadata, parts }`. */
let uploads = new Map();
/** Values of KV by key: `{ bytes, expires }`. */
let values = new Map();
/** What the locations of KV have cached, by location and key: `{ value, until }`. */
let caches = new Map();
/** Entries of the Cache API by location and key: `{ size, bytes, expires }`. */
let entries = new Map();
/** When a key was last written, by store and key. */
let writes = new Map();

export default class extends WorkerEntrypoint {
  /** Runs a call that has a body, or whose answer has one. Its arguments are in a header. */
  async fetch(request) {
    const { call, ...args } = JSON.parse(decodeURIComponent(request.headers.get("play")));
    try {
      if (call === "get") return read(args, this.ctx);
      if (call === "match") return match(args, this.ctx);
      const value = await { put, uploadPart, keep }[call](args, request);
      return Response.json({ value });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return Response.json({ error: error.message, length: error.length });
    }
  }

  head(key) {
    return { value: described(objects.get(key)) };
  }

  list(options) {
    return answer(() => list(options));
  }

  delete(keys) {
    for (const key of keys) if (objects.delete(key)) sorted = undefined;
    return { value: undefined };
  }

  createMultipartUpload(key, customMetadata) {
    const uploadId = crypto.randomUUID();
    uploads.set(uploadId, { key, customMetadata, parts: new Map() });
    return { value: uploadId };
  }

  complete(key, uploadId, parts) {
    return answer(() => complete(key, uploadId, parts));
  }

  abort(key, uploadId) {
    return answer(() => {
      uploadOf(key, uploadId);
      uploads.delete(uploadId);
    });
  }

  /** Returns the bytes of a value, and whether the location's cache had the answer. */
  getValue(key, location) {
    const cache = cacheOf(location);
    const cached = cache.get(key);
    const hit = cached?.until > now();
    if (!hit) cache.set(key, { value: values.get(key), until: now() + CACHED });
    const { value } = cache.get(key);
    return { value: { hit, bytes: value?.expires > now() ? value.bytes : undefined } };
  }

  putValue(key, bytes, ttl, location) {
    return answer(() => {
      written(`kv ${key}`, "429 Too Many Requests");
      setValue(key, { bytes, expires: now() + ttl * SECOND }, location);
    });
  }

  deleteValue(key, location) {
    return answer(() => {
      written(`kv ${key}`, "429 Too Many Requests");
      setValue(key, undefined, location);
    });
  }
}

/** The interface for the harness. */
export class Probe extends WorkerEntrypoint {
  /** Returns the objects without their bytes, the keys of values and entries, and the uploads. */
  read() {
    return {
      objects: keys().map((key) => described(objects.get(key))),
      values: [...values.keys()],
      entries: [...entries.keys()],
      uploads: [...uploads.values()].map(({ key, parts }) => ({ key, parts: parts.size })),
    };
  }

  /** Changes options of the play. */
  set(changes) {
    Object.assign(play, changes);
  }

  /** Forgets everything. */
  clear() {
    objects = new Map();
    uploads = new Map();
    values = new Map();
    caches = new Map();
    entries = new Map();
    writes = new Map();
    sorted = undefined;
  }
}

/** An error that the caller sees, with R2's code at its end. */
class Refusal extends Error {
  /** Whether a stream without a known length was refused. The platform does that in the caller. */
  length = false;
}

function answer(work) {
  try {
    return { value: work() };
  } catch (error) {
    if (error instanceof Refusal) return { error: error.message };
    throw error;
  }
}

function described(object) {
  if (!object) return null;
  const { bytes: _, ...described } = object;
  return described;
}

/** Refuses the second write of a key within a second. */
function written(key, refusal) {
  const last = writes.get(key);
  if (play.throttle && now() - last < SECOND) throw new Refusal(refusal);
  writes.set(key, now());
}

const THROTTLED = "Reduce your concurrent request rate for the same object. (10058)";

async function put({ key, onlyIf, customMetadata, checksum }, request) {
  const { size, bytes, hash, etag } = await take(request, checksum?.algorithm ?? "MD5");
  if (checksum && hash !== checksum.hash)
    throw new Refusal(`The ${checksum.algorithm} checksum you specified did not match what we received. (10037)`);
  if (onlyIf && !holds(onlyIf, objects.get(key))) return null;
  written(key, THROTTLED);
  return store({ key, size, bytes, etag, customMetadata });
}

function holds({ etagMatches, etagDoesNotMatch }, object) {
  const is = (etag) => object !== undefined && (etag === "*" || etag === object.etag);
  return (etagMatches === undefined || is(etagMatches)) && (etagDoesNotMatch === undefined || !is(etagDoesNotMatch));
}

function store({ key, size, bytes, etag, customMetadata = {} }) {
  if (!objects.has(key)) sorted = undefined;
  const version = crypto.randomUUID();
  objects.set(key, { key, size, etag, version, uploaded: Math.floor(now()), customMetadata, bytes });
  return described(objects.get(key));
}

function uploadOf(key, uploadId) {
  const upload = uploads.get(uploadId);
  if (upload?.key !== key) throw new Refusal("The specified multipart upload does not exist. (10024)");
  return upload;
}

async function uploadPart({ key, uploadId, partNumber }, request) {
  const { size, bytes, etag } = await take(request);
  uploadOf(key, uploadId).parts.set(partNumber, { size, bytes, etag });
  return { partNumber, etag };
}

function complete(key, uploadId, listed) {
  const { parts: stored, customMetadata } = uploadOf(key, uploadId);
  const parts = listed.map(({ partNumber, etag }) => {
    const part = stored.get(partNumber);
    if (part?.etag !== etag) throw new Refusal("One or more of the specified parts could not be found. (10025)");
    return part;
  });
  const [first] = parts;
  for (const { size } of parts.slice(0, -1)) {
    if (!play.smallParts && size < MIN_PART)
      throw new Refusal("Your proposed upload is smaller than the minimum allowed object size. (10011)");
    if (size !== first.size) throw new Refusal("There was a problem with the multipart upload. (10048)");
  }
  if (parts.at(-1)?.size > first?.size) throw new Refusal("There was a problem with the multipart upload. (10048)");
  written(key, THROTTLED);
  uploads.delete(uploadId);
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  const bytes = parts.every((part) => part.bytes) && size <= play.keep ? new Uint8Array(size) : null;
  let offset = 0;
  for (const part of bytes ? parts : []) {
    bytes.set(part.bytes, offset);
    offset += part.size;
  }
  return store({ key, size, bytes, etag: `${crypto.randomUUID()}-${parts.length}`, customMetadata });
}

/**
 * Reads a body of known length: `{ size, bytes, hash, etag }`. Bytes above `play.keep` are counted,
 * hashed if the caller asks for it, and dropped: `bytes` is null.
 */
async function take(request, algorithm) {
  const size = Number(request.headers.get("content-length") ?? (request.body ? Number.NaN : 0));
  if (Number.isNaN(size)) {
    await request.body.cancel();
    const refusal = new Refusal(
      "Provided readable stream must have a known length (request/response body or readable half of FixedLengthStream)",
    );
    refusal.length = true;
    throw refusal;
  }
  const kept = size <= play.keep;
  const hashed = algorithm !== undefined && (kept || algorithm !== "MD5");
  const digest = hashed ? new crypto.DigestStream(algorithm) : undefined;
  const writer = digest?.getWriter();
  const bytes = kept ? new Uint8Array(size) : null;
  let taken = 0;
  if (request.body) {
    const reader = request.body.getReader({ mode: "byob" });
    let buffer = new Uint8Array(Math.min(Math.max(size, 1), MIB));
    for (;;) {
      const { value, done } = await reader.readAtLeast(buffer.length, buffer);
      if (value?.length > 0) {
        await writer?.write(value);
        bytes?.set(value, taken);
        taken += value.length;
      }
      if (done || taken === size) break;
      buffer = new Uint8Array(value.buffer);
    }
  }
  if (taken !== size) throw new Error(`a body of ${size} bytes had ${taken}`);
  await writer?.close();
  const hash = digest && hex(await digest.digest);
  return { size, bytes, hash, etag: algorithm === "MD5" && hash ? hash : crypto.randomUUID() };
}

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Answers with an object's bytes, or those of a range. Bytes that were dropped are zeros. */
function read({ key, range = {} }, context) {
  const object = objects.get(key);
  if (!object) return Response.json({ value: null });
  const { size, bytes } = object;
  const offset = range.offset ?? (range.suffix === undefined ? 0 : Math.max(0, size - range.suffix));
  const length = Math.min(range.length ?? size, size - offset);
  if (offset < 0 || length < 0 || (length === 0 && size > 0))
    throw new Refusal("The requested range is not satisfiable (10039)");
  const found = { ...described(object), range: { offset, length } };
  const headers = { play: encodeURIComponent(JSON.stringify(found)) };
  return new Response(part(bytes, offset, length, context), { headers });
}

const part = (bytes, offset, length, context) =>
  bytes ? bytes.subarray(offset, offset + length) : zeros(length, context);

/** Writes an entry of the Cache API. */
async function keep({ key, control, location }, request) {
  const { size, bytes } = await take(request);
  const seconds = Number(/max-age=(\d+)/.exec(control)?.[1]);
  entries.set(`${location} ${key}`, { size, bytes, expires: now() + seconds * SECOND });
}

/** Answers with an entry, or a range of it, or 404. */
function match({ key, range, location }, context) {
  const entry = entries.get(`${location} ${key}`);
  if (!(entry?.expires > now())) return new Response(null, { status: 404 });
  const { offset, length } = range ?? { offset: 0, length: entry.size };
  const headers = { "content-length": length, "content-type": "application/octet-stream" };
  const body = part(entry.bytes, offset, length, context);
  return new Response(body, { status: range ? 206 : 200, headers });
}

function zeros(length, context) {
  const { readable, writable } = new globalThis.FixedLengthStream(length);
  const writer = writable.getWriter();
  const chunk = new Uint8Array(MIB);
  const write = async () => {
    for (let left = length; left > 0; left -= MIB) await writer.write(chunk.subarray(0, Math.min(left, MIB)));
    await writer.close();
  };
  // A reader that goes away ends it.
  context.waitUntil(write().catch(() => {}));
  return readable;
}

function keys() {
  sorted ??= [...objects.keys()].sort();
  return sorted;
}

/** Lists a page. `most` bounds it below the caller's limit: with 0 it is empty and truncated. */
function list({ prefix = "", startAfter = "", cursor, limit = 1000, include = [], most = limit }) {
  if (!(limit >= 1 && limit <= 1000)) throw new Refusal("MaxKeys params must be positive integer <= 1000. (10022)");
  // A cursor is the last key before the page, behind a letter that makes it never empty.
  const after = cursor === undefined ? startAfter : cursor.slice(1);
  const left = keys().filter((key) => key.startsWith(prefix) && key > after);
  const page = left.slice(0, Math.min(limit, most));
  const truncated = page.length < left.length;
  return {
    objects: page.map((key) => {
      const { customMetadata, ...object } = described(objects.get(key));
      return include.includes("customMetadata") ? { ...object, customMetadata } : object;
    }),
    truncated,
    cursor: truncated ? `>${page.at(-1) ?? after}` : undefined,
  };
}

function cacheOf(location) {
  if (!caches.has(location)) caches.set(location, new Map());
  return caches.get(location);
}

/** Writes a value, or deletes it. Only the location of the writer sees that at once. */
function setValue(key, value, location) {
  if (value) values.set(key, value);
  else values.delete(key);
  cacheOf(location).set(key, { value, until: now() + CACHED });
}
