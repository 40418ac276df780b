// Stands between wasm-bindgen's glue and the module's exports, and notices when an instance ends. A trap runs no destructor: what the
// instance had borrowed stays borrowed, what it was doing stays half done, so nothing may run in it again.

/** The instance that serves: whether it has ended, and how to break off each event that it is at work on. */
export let instance;

/** Told by the glue of each new instance's exports; the glue calls what comes back. */
export function guard(exports) {
  const own = { ended: false, events: new Set() };
  instance = own;
  const guarded = { ...exports };
  for (const [name, enter] of Object.entries(exports)) {
    // Underscores mark what the glue needs for itself, such as allocating. All else runs Rust: events and closures.
    if (typeof enter !== "function" || name.startsWith("__")) continue;
    guarded[name] = (...args) => {
      if (own.ended) throw new Error("the instance that waited for this has ended");
      try {
        return enter(...args);
      } catch (error) {
        // Whatever it is — a trap, a stack that overflowed, an exception of JavaScript's — it unwound Rust's frames.
        own.ended = true;
        console.error(error);
        for (const end of own.events) end(new Error("broken off: the instance has ended"));
        throw error;
      }
    };
  }
  return guarded;
}
