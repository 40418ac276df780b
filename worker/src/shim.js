// What the platform calls: it hands each event to the module, and has a new instance made after one has ended by a panic.

// What wasm-bindgen made of the module; the build lays it, guarded, beside this file.
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
    // Nothing had to be waited for.
    if (!(reply instanceof Promise)) return reply;
    reply = reply.catch(failed);
    // To its end even when the client goes away: a request that is cancelled strands the buffers it holds.
    context.waitUntil(reply);
    return reply;
  },

  scheduled(controller, env, context) {
    return run(strata.scheduled, controller, env, context);
  },
};

/** Runs an event in the instance, and ends it with the instance if that ends first: what it waits for would never come. */
function run(event, ...args) {
  // Here no frame of the module is on the stack, so the glue can be turned to another instance.
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

/** What the module says of each of its replies (`harden` in src/registry/reply.rs): a browser makes nothing of it that runs or can be embedded. */
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
