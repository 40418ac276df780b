// Records the memory of each wasm instance that is made after this import. Counts the instances'
// calls of imported functions: the crossings from wasm to JavaScript.

/** @type {Set<WebAssembly.Memory>} */
export const memories = new Set();

/** How often each import was called since the last reset, by name. @type {Map<string, number>} */
export const crossings = new Map();

const { Instance } = WebAssembly;

WebAssembly.Instance = class extends Instance {
  constructor(module, imports) {
    super(module, counted(imports));
    for (const exported of Object.values(this.exports)) {
      if (exported instanceof WebAssembly.Memory) memories.add(exported);
    }
  }
};

/** Returns the imports, with functions that count their calls. */
function counted(imports = {}) {
  const each = (object, change) =>
    Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value, name)]));
  return each(imports, (module) => each(module, count));
}

function count(imported, name) {
  if (typeof imported !== "function") return imported;
  return (...args) => {
    crossings.set(name, (crossings.get(name) ?? 0) + 1);
    return imported(...args);
  };
}
