// Wraps the module's exports for wasm-bindgen's glue, and notices when an instance ends. A trap
// runs no destructor: borrowed values stay borrowed and work stays half done, so nothing may run in
// the instance again.

/**
 * The serving instance: whether it has ended, and for each running event a function that aborts it.
 */
export let instance;

/** Wraps the exports of a new instance. The glue calls the wrapped ones. */
export function guard(exports) {
  const own = { ended: false, events: new Set() };
  instance = own;
  const guarded = { ...exports };
  for (const [name, enter] of Object.entries(exports)) {
    // Exports with underscores serve the glue, for example by allocating. All others run Rust code.
    if (typeof enter !== "function" || name.startsWith("__")) continue;
    guarded[name] = (...args) => {
      if (own.ended) throw new Error("the instance that waited for this has ended");
      try {
        return enter(...args);
      } catch (error) {
        // A trap, a stack overflow and an exception of JavaScript all unwound the frames of Rust.
        own.ended = true;
        console.error(error);
        for (const end of own.events) end(new Error("broken off: the instance has ended"));
        throw error;
      }
    };
  }
  return guarded;
}
