// What the platform calls: it hands each event to the module, and has a new instance made after one has ended by a panic.

// What wasm-bindgen made of the module; the build lays it, guarded, beside this file.
import * as strata from "./glue.js";
import { instance } from "./guard.js";

export default {
  fetch(request, env, context) {
    const reply = run("fetch", request, env, context).catch(failed);
    // To its end even when the client goes away: a request that is cancelled strands the buffers it holds.
    context.waitUntil(reply);
    return reply;
  },

  scheduled(controller, env, context) {
    return run("scheduled", controller, env, context);
  },
};

/** Runs an event in the instance, and ends it with the instance if that ends first: what it waits for would never come. */
function run(name, ...args) {
  // Here no frame of the module is on the stack, so the glue can be turned to another instance.
  if (instance.ended) strata.__wbg_reset_state();
  const { events } = instance;
  return new Promise((resolve, reject) => {
    const end = (error) => {
      events.delete(end);
      reject(error);
    };
    events.add(end);
    strata[name](...args).then((value) => {
      events.delete(end);
      resolve(value);
    }, end);
  });
}

function failed(error) {
  console.error(error);
  return new Response("internal error: the registry's log tells more\n", { status: 500 });
}
