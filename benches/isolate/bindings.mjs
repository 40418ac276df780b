// R2 and KV in the isolate's memory, with the platform's class names. They cost little, and the
// same for every build.

const bytesOf = async (value) =>
  new Uint8Array(
    value instanceof ReadableStream || value instanceof ArrayBuffer
      ? await new Response(value).arrayBuffer()
      : value.slice(),
  );

class Stored {
  constructor(key, bytes, customMetadata, etag) {
    Object.assign(this, { key, bytes, customMetadata, etag, size: bytes.length, uploaded: new Date() });
  }
}

class Read extends Stored {
  constructor({ key, bytes, customMetadata, etag }, { offset = 0, length = bytes.length } = {}) {
    super(key, bytes, customMetadata, etag);
    this.body = new Response(bytes.subarray(offset, offset + length)).body;
    this.bodyUsed = false;
  }
}

export class R2Bucket {
  #objects = new Map();
  #kept = new Set();
  #written = 0;

  async head(key) {
    return this.#objects.get(key) ?? null;
  }

  async get(key, { range } = {}) {
    const found = this.#objects.get(key);
    return found ? new Read(found, range) : null;
  }

  async put(key, value, { onlyIf = {}, customMetadata = {} } = {}) {
    const bytes = await bytesOf(value);
    const { etag } = this.#objects.get(key) ?? {};
    if (onlyIf.etagDoesNotMatch === "*" && etag !== undefined) return null;
    if (onlyIf.etagMatches !== undefined && onlyIf.etagMatches !== etag) return null;
    this.#written += 1;
    const stored = new Stored(key, bytes, customMetadata, `etag ${this.#written}`);
    this.#objects.set(key, stored);
    return stored;
  }

  async list({ prefix = "", limit = 1000, startAfter = "" } = {}) {
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > startAfter).sort();
    return { objects: keys.slice(0, limit).map((key) => this.#objects.get(key)), truncated: keys.length > limit };
  }

  async delete(keys) {
    for (const key of [keys].flat()) this.#objects.delete(key);
  }

  /** Marks the current objects as kept. `rollback` deletes all others. */
  keep() {
    this.#kept = new Set(this.#objects.keys());
  }

  rollback() {
    for (const key of this.#objects.keys()) if (!this.#kept.has(key)) this.#objects.delete(key);
  }
}

export class KvNamespace {
  #values = new Map();

  async get(key, options) {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    return (options?.type ?? options) === "stream" ? new Response(value).body : value.slice().buffer;
  }

  async put(key, value) {
    this.#values.set(key, await bytesOf(value));
  }

  async delete(key) {
    this.#values.delete(key);
  }
}
