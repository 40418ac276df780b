// The worker's side: reads the file in slices, and passes them to the WebAssembly module.

import init, { Analyser, type Analysis, type Layer, memorySize, Pass } from "../../build/inspect.js";
import address from "../../build/inspect_bg.wasm?url";
import type { Counters, Methods, Reply, Request } from "./protocol";

declare const self: {
  onmessage: (event: MessageEvent<Request>) => void;
  postMessage(reply: Reply, options?: { transfer: Transferable[] }): void;
};

/**
 * The bytes that are read and decompressed at a time: enough that decompression does not wait for
 * the next slice, and few enough to show progress.
 */
const SLICE = 1 << 20;
/** The most children of one listing. */
const CHILDREN = 1000;

const ready = init({ module_or_path: address });
const counters: Counters = { bytesInflated: 0, restarts: 0, bytesRead: 0, memory: 0 };
/** The calls that are running and were not cancelled. */
const wanted = new Set<number>();

let opened: { file: File; layer: Layer; objects: Blob[] } | undefined;
let analyser: Analyser | undefined;
let analysis: Analysis | undefined;

type Run<M extends keyof Methods> = (
  id: number,
  ...parameters: Parameters<Methods[M]>
) => ReturnType<Methods[M]> | Promise<ReturnType<Methods[M]>>;

const methods: { [M in keyof Methods]: Run<M> } = {
  async open(id, file) {
    if (file.size === 0) throw new Error("the file is empty");
    const pass = new Pass(file.size);
    // Spans that can't be decompressed from the layer itself. They are blobs, because the browser
    // moves large blobs to the disk.
    const objects: Blob[] = [];
    const store = (bytes: Uint8Array<ArrayBuffer>) => void objects.push(new Blob([bytes]));
    let next = slice(file, 0, SLICE);
    for (let at = 0; at < file.size; at += SLICE) {
      const bytes = await next;
      check(id);
      // Read the next slice while this one is decompressed.
      next = slice(file, at + SLICE, at + 2 * SLICE);
      next.catch(() => {});
      pass.push(bytes, store);
      self.postMessage({ id, progress: at + bytes.length });
    }
    const layer = pass.finish(store);
    opened = { file, layer, objects };
    return JSON.parse(layer.describe());
  },

  list: (_, directory, after) => JSON.parse(here().layer.list(directory, after, CHILDREN)),

  async read(id, path, from, to) {
    const { file, layer, objects } = here();
    const reading = layer.open(path, from, to);
    const size = reading.size();
    for (let part = reading.part(); part; part = reading.part()) {
      const source = part.object === undefined ? file : objects[part.object];
      if (!source) throw new Error(`part ${part.object} of the layer is missing: open the layer again`);
      const bytes = await slice(source, part.start, part.end);
      part.free();
      check(id);
      const before = reading.inflated();
      reading.push(bytes);
      counters.bytesInflated += reading.inflated() - before;
      counters.restarts += 1;
    }
    return { bytes: reading.finish(), size };
  },

  page(_, text) {
    analyser ??= begin();
    analyser.page(text);
  },

  endLayer() {
    analyser ??= begin();
    analyser.endLayer();
  },

  analyse() {
    if (!analysis) {
      const made = analyser ?? begin();
      if (opened) {
        made.layer(opened.layer);
        made.endLayer();
      }
      analyser = undefined;
      analysis = made.finish();
    }
    return JSON.parse(analysis.describe());
  },

  children: (_, directory) => JSON.parse(analysed().children(directory)),
  layerChildren: (_, layer, directory) => JSON.parse(analysed().layerChildren(layer, directory)),
  search: (_, text, limit) => JSON.parse(analysed().search(text, limit)),
};

self.onmessage = async ({ data }) => {
  if ("cancel" in data) {
    wanted.delete(data.cancel);
    return;
  }
  const { id, method, parameters } = data;
  wanted.add(id);
  try {
    await ready;
    const run = methods[method] as (id: number, ...parameters: unknown[]) => unknown;
    const result = await run(id, ...parameters);
    counters.memory = memorySize();
    const transfer = method === "read" ? [(result as { bytes: Uint8Array<ArrayBuffer> }).bytes.buffer] : [];
    self.postMessage({ id, result, counters }, { transfer });
  } catch (error) {
    self.postMessage({ id, error: explain(error) });
  } finally {
    wanted.delete(id);
  }
};

function here() {
  if (!opened) throw new Error("no layer is open");
  return opened;
}

/**
 * Creates an analyser. Its hashes have a random seed, so that nobody can craft names that collide.
 */
function begin() {
  return new Analyser(new DataView(crypto.getRandomValues(new Uint8Array(4)).buffer).getUint32(0));
}

function analysed() {
  if (!analysis) throw new Error("there is no analysis yet");
  return analysis;
}

function check(id: number): void {
  if (!wanted.has(id)) throw new Error("the call was cancelled");
}

async function slice(source: Blob, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(await source.slice(start, end).arrayBuffer());
  counters.bytesRead += bytes.length;
  return bytes;
}

function explain(error: unknown): string {
  if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
    return "the page ran out of memory: close other tabs, then try again";
  }
  if (error instanceof DOMException) return `the file can no longer be read (${error.message}): open it again`;
  return error instanceof Error ? error.message : String(error);
}
