// Remembers the memory of every wasm instance made after it: import it before the module that makes them.

/** @type {Set<WebAssembly.Memory>} */
export const memories = new Set();

const { Instance } = WebAssembly;

WebAssembly.Instance = class extends Instance {
  constructor(module, imports) {
    super(module, imports);
    for (const exported of Object.values(this.exports)) {
      if (exported instanceof WebAssembly.Memory) memories.add(exported);
    }
  }
};
