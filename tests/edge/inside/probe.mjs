// Wraps a built Worker in its isolate: counts its calls of R2 and KV, fails chosen calls, and
// measures its wasm memory.
import { WorkerEntrypoint } from "cloudflare:workers";
import { crossings, memories } from "./memories.mjs";
import worker from "./index.js";

/**
 * The calls since the last reset, in the order of their start:
 * `{ call: "r2.put", key, bytes, idle, failed, beside }`. `idle` says that a condition prevented
 * any change, `failed` that a fault was injected, and `beside` how many calls of that name and key
 * were in flight at its start.
 */
let calls = [];
/** The calls in flight, by name and key. */
const inFlight = new Map();
/** The faults that are left. */
let faults = [];

export default class extends WorkerEntrypoint {
  fetch(request) {
    return worker.fetch(request, watched(this.env), this.ctx);
  }

  scheduled(controller) {
    return worker.scheduled(controller, watched(this.env), this.ctx);
  }
}

/**
 * The interface for the harness. It is an entrypoint of its own, so that it shares no route with
 * the Worker.
 */
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
    faults.push({ key: "", nth: 1, times: 1, kept: false, fails: true, delay: 0, breaks: false, ...fault });
  }
}

/** Returns the environment, with buckets and namespaces that record their calls. */
function watched(env) {
  const copy = { ...env };
  for (const [name, binding] of Object.entries(env)) {
    const kind = binding?.constructor?.name;
    if (kind === "R2Bucket") copy[name] = wrap(binding, bucket);
    if (kind === "KvNamespace") copy[name] = wrap(binding, namespace);
  }
  return copy;
}

/** The methods of a bucket: the names of their calls, their keys and their bytes. */
const bucket = {
  head: { name: "r2.head" },
  // The bytes requested from R2, read or not: the probe does not touch the stream.
  get: { name: "r2.get", bytes: (object) => (object?.body ? (object.range?.length ?? object.size) : 0) },
  // R2 reports the size of the object, so the stream need not pass through the probe.
  put: { name: "r2.put", bytes: (object) => object?.size ?? 0, idle: (object) => object === null },
  list: { name: "r2.list", key: (args) => args[0]?.prefix ?? "" },
  delete: { name: "r2.delete", key: (args) => [args[0]].flat().join(" ") },
  createMultipartUpload: { name: "r2.createMultipartUpload", result: (upload) => wrap(upload, multipart(upload.key)) },
  // This sends no request to R2.
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

/**
 * Wraps a binding. Bindings check their receiver, so methods and properties use the original
 * object.
 */
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
  const { name, key = () => String(args[0]), sent } = method;
  // Measure before the call: the Worker may take its buffer back while a part is being stored.
  const call = { call: name, key: key(args), bytes: sent?.(args) ?? 0, idle: false, failed: false };
  const one = `${call.call} ${call.key}`;
  call.beside = inFlight.get(one) ?? 0;
  inFlight.set(one, call.beside + 1);
  calls.push(call);
  try {
    return await perform(target, property, method, args, call);
  } finally {
    inFlight.set(one, inFlight.get(one) - 1);
  }
}

async function perform(target, property, method, args, call) {
  const { sent, bytes = () => 0, idle = () => false } = method;
  const fault = due(call);
  if (fault?.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay));
  if (fault?.fails && !fault.kept && !fault.breaks) {
    call.failed = true;
    // Read the body, as a failing store does: an unread one would reset the client's connection.
    for (const body of args) if (body instanceof ReadableStream) await body.pipeTo(new WritableStream());
    throw new Error(`${property}: injected failure before the call (10001)`);
  }
  const value = await target[property](...args);
  if (!sent) call.bytes = bytes(value);
  call.idle = idle(value);
  if (fault?.breaks) return broken(value, call);
  if (fault?.fails) {
    call.failed = true;
    throw new Error(`${property}: injected failure after the call (10001)`);
  }
  return method.result ? method.result(value) : value;
}

/** Returns an object whose body fails before its first byte. */
function broken(object, call) {
  call.failed = true;
  const body = new ReadableStream({
    type: "bytes",
    async pull(controller) {
      await object.body.cancel();
      controller.error(new Error("injected failure of the body (10001)"));
    },
  });
  return new Proxy(object, {
    get: (target, property) => (property === "body" ? body : target[property]),
  });
}

/** Returns the fault of this call, if there is one, and counts it. */
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

/** Returns the size of a value. Throws for a stream, whose size can't be known here. */
function sizeOf(value) {
  if (typeof value === "string") return new TextEncoder().encode(value).byteLength;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value.byteLength;
  if (value instanceof Blob) return value.size;
  throw new TypeError("the probe can't tell the size of a stream");
}
