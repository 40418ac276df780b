// Stands in front of a built Worker, in its isolate: counts what it asks of R2 and KV, fails chosen calls, measures its wasm memory.
import { WorkerEntrypoint } from "cloudflare:workers";
import { crossings, memories } from "./memories.mjs";
import worker from "./index.js";

/**
 * Calls since the last reset, in the order they began: `{ call: "r2.put", key, bytes, idle, failed }`, where `idle` says
 * that a condition kept it from changing anything, and `failed` that it was made to fail.
 */
let calls = [];
/** Calls still to be failed. */
let faults = [];

export default class extends WorkerEntrypoint {
  fetch(request) {
    return worker.fetch(request, watched(this.env), this.ctx);
  }

  scheduled(controller) {
    return worker.scheduled(controller, watched(this.env), this.ctx);
  }
}

/** What the harness asks for; an entrypoint of its own, so no route of the Worker can collide with it. */
export class Probe extends WorkerEntrypoint {
  read() {
    const wasm = [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
    return { calls, wasm, faults: faults.length, crossings: Object.fromEntries(crossings) };
  }

  reset() {
    calls = [];
    faults = [];
    crossings.clear();
  }

  fail(fault) {
    faults.push({ key: "", nth: 1, times: 1, kept: false, delay: 0, ...fault });
  }
}

/** The same environment, with buckets and namespaces that report. */
function watched(env) {
  const copy = { ...env };
  for (const [name, binding] of Object.entries(env)) {
    const kind = binding?.constructor?.name;
    if (kind === "R2Bucket") copy[name] = wrap(binding, bucket);
    if (kind === "KvNamespace") copy[name] = wrap(binding, namespace);
  }
  return copy;
}

/** Methods of a bucket: how to name the key of a call, and what its bytes are. */
const bucket = {
  head: { name: "r2.head" },
  // The bytes that R2 was asked for, read or not: the stream itself is left alone.
  get: { name: "r2.get", bytes: (object) => (object?.body ? (object.range?.length ?? object.size) : 0) },
  // R2 says how large the object became, so a stream's bytes need not pass through here.
  put: { name: "r2.put", bytes: (object) => object?.size ?? 0, idle: (object) => object === null },
  list: { name: "r2.list", key: (args) => args[0]?.prefix ?? "" },
  delete: { name: "r2.delete", key: (args) => [args[0]].flat().join(" ") },
  createMultipartUpload: { name: "r2.createMultipartUpload", result: (upload) => wrap(upload, multipart(upload.key)) },
  // Asks nothing of R2 by itself.
  resumeMultipartUpload: { result: (upload) => wrap(upload, multipart(upload.key)) },
};

const multipart = (key) => ({
  uploadPart: { name: "r2.uploadPart", key: () => key, sent: (args) => sizeOf(args[1]) },
  complete: { name: "r2.complete", key: () => key },
  abort: { name: "r2.abort", key: () => key },
});

const namespace = {
  get: { name: "kv.get" },
  getWithMetadata: { name: "kv.get" },
  put: { name: "kv.put", sent: (args) => sizeOf(args[1]) },
  delete: { name: "kv.delete" },
  list: { name: "kv.list", key: (args) => args[0]?.prefix ?? "" },
};

/** Bindings check who calls them, so methods run on the true object and properties are read from it. */
function wrap(target, methods) {
  return new Proxy(target, {
    get(_, property) {
      const value = target[property];
      if (typeof value !== "function" || property === "constructor") return value;
      const method = Object.hasOwn(methods, property) ? methods[property] : {};
      return (...args) => (method.name ? watch(target, property, method, args) : pass(target, property, method, args));
    },
  });
}

function pass(target, property, { result = (value) => value }, args) {
  return result(target[property](...args));
}

async function watch(target, property, method, args) {
  const { name, key = () => String(args[0]), sent, bytes = () => 0, idle = () => false } = method;
  // What is sent is measured before the call: the Worker may take its buffer back while a part is being stored.
  const call = { call: name, key: key(args), bytes: sent?.(args) ?? 0, idle: false, failed: false };
  calls.push(call);

  const fault = due(call);
  if (fault?.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay));
  if (fault && !fault.kept) {
    call.failed = true;
    // A store that fails has taken what it was sent: a body left unread would reset the client's connection.
    for (const body of args) if (body instanceof ReadableStream) await body.pipeTo(new WritableStream());
    throw new Error(`${property}: made to fail before it was kept (10001)`);
  }
  const value = await target[property](...args);
  if (!sent) call.bytes = bytes(value);
  call.idle = idle(value);
  if (fault) {
    call.failed = true;
    throw new Error(`${property}: made to fail after it was kept (10001)`);
  }
  return method.result ? method.result(value) : value;
}

/** The fault that this call meets, if any. */
function due({ call, key }) {
  for (const fault of faults) {
    if (fault.call !== call || !key.startsWith(fault.key)) continue;
    fault.nth -= 1;
    if (fault.nth > 0) continue;
    fault.times -= 1;
    if (fault.times <= 0) faults = faults.filter((other) => other !== fault);
    return fault;
  }
  return undefined;
}

/** Bytes of a value given whole; a stream's can't be known from here, and would make the sum a lie. */
function sizeOf(value) {
  if (typeof value === "string") return new TextEncoder().encode(value).byteLength;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value.byteLength;
  if (value instanceof Blob) return value.size;
  throw new TypeError("the probe can't tell the size of a stream");
}
