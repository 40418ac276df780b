// The entry of the Worker: passes each event to the module, and makes a new instance after a panic
// has ended one.

// The glue of wasm-bindgen. The build puts it beside this file, with its exports guarded.
import * as strata from "./glue.js";
import { instance } from "./guard.js";

export default {
  fetch(request, env, context) {
    let reply;
    try {
      reply = run(strata.fetch, request, env, context);
    } catch (error) {
      return failed(error);
    }
    // The response was ready without I/O.
    if (!(reply instanceof Promise)) return reply;
    reply = reply.catch(failed);
    // Run to the end even if the client disconnects: a cancelled request never frees its buffers.
    context.waitUntil(reply);
    return reply;
  },

  scheduled(controller, env, context) {
    return run(strata.scheduled, controller, env, context);
  },
};

/**
 * Runs an event in the instance. Rejects if the instance ends first, because the event's own
 * promise would never settle.
 */
function run(event, ...args) {
  // No frame of the module is on the stack here, so the glue can switch to a new instance.
  if (instance.ended) strata.__wbg_reset_state();
  const { events } = instance;
  const promise = event(...args);
  if (!(promise instanceof Promise)) return promise;
  return new Promise((resolve, reject) => {
    const end = (error) => {
      events.delete(end);
      reject(error);
    };
    events.add(end);
    promise.then((value) => {
      events.delete(end);
      resolve(value);
    }, end);
  });
}

/**
 * The headers that the module adds to each response (`harden` in src/registry/reply.rs), so that a
 * browser neither runs nor embeds it.
 */
const HARDENED = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
  "content-type": "text/plain; charset=utf-8",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

function failed(error) {
  console.error(error);
  return new Response("internal error: the registry's log has the cause\n", { status: 500, headers: HARDENED });
}
