// Asks a built Worker for one thing again and again, within its isolate: `{ path, method, headers,
// bytes, times, rollback }`. Without `times` it asks once and answers what came.
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
      // What is answered at once is not waited for: that would be a promise again.
      if (reply instanceof Promise) reply = await reply;
      if (reply.status >= 400) return reply;
    }
    if (!rollback) BUCKET.keep();
    return reply;
  },
};
