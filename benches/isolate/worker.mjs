// Repeats a request to a built Worker within its isolate: `{ path, method, headers, bytes, times,
// rollback }`. Without `times` it sends one request. Answers with the last response, or with the
// first error.
import { KvNamespace, R2Bucket } from "./bindings.mjs";
import worker from "./worker.js";

const BUCKET = new R2Bucket();
const WARM = new KvNamespace();

export default {
  async fetch(request, env, context) {
    const { path, method = "GET", headers = {}, bytes, times = 1, rollback = false } = await request.json();
    const own = { ...env, BUCKET, WARM };
    const body = bytes === undefined ? undefined : Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
    let reply;
    for (let time = 0; time < times; time += 1) {
      if (rollback) BUCKET.rollback();
      reply = worker.fetch(new Request(`http://registry.example${path}`, { method, headers, body }), own, context);
      // Await promises only: awaiting a plain response would add a promise.
      if (reply instanceof Promise) reply = await reply;
      if (reply.status >= 400) return reply;
    }
    if (!rollback) BUCKET.keep();
    return reply;
  },
};
