// A layer from the user's disk. The page reads it and never uploads it.

import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

import { bytes, number, percent } from "../format";
import type { LocalLayer } from "../local/layer";
import { Icon } from "../parts/parts";
import { go, type Query } from "../route";
import { store, useStore } from "../store";
import { Browse } from "./browse";
import type { Browsed } from "./crumbs";

interface Opening {
  file: File;
  read: number;
  controller: AbortController;
}

/** The open layer, the one that is being opened, or the last error. */
const disk = store<{ layer?: LocalLayer; opening?: Opening; failed?: string }>({});

/** The number of layers opened so far. It gives each one another id, even for the same file. */
let opened = 0;

/** Opens a layer, and closes the one before. */
async function openFile(file: File): Promise<void> {
  disk.value.opening?.controller.abort();
  disk.value.layer?.close();
  const controller = new AbortController();
  const { signal } = controller;
  disk.set({ opening: { file, read: 0, controller } });
  go({ view: "disk", path: "" });
  try {
    const { openLayer } = await import("../local/layer");
    const layer = await openLayer(file, {
      onProgress: (read) => !signal.aborted && disk.set({ opening: { file, read, controller } }),
      signal,
    });
    if (signal.aborted) layer.close();
    else {
      opened += 1;
      disk.set({ layer });
    }
  } catch (error) {
    if (!signal.aborted)
      disk.set({ failed: `${file.name}: ${error instanceof Error ? error.message : String(error)}` });
  }
}

export function Disk({ path, query }: { path: string; query: Query }) {
  const { layer, opening, failed } = useStore(disk);
  const browsed = useMemo((): Browsed | undefined => {
    if (!layer) return undefined;
    return {
      id: `disk ${opened}`,
      title: layer.name,
      source: layer,
      layers: [{ digest: layer.diffId, size: layer.size }],
      only: 0,
      analysable: { id: `disk ${opened}`, lasts: true, analyse: () => layer.analyse() },
      route: (at) => ({ view: "disk", path: at }),
    };
  }, [layer]);
  if (layer && browsed) {
    return (
      <Browse of={browsed} path={path} query={query}>
        <span class="about-layer">
          <strong>{layer.name}</strong>
          <span class="muted wide">
            {bytes(layer.size)} {layer.compression}, {bytes(layer.inflatedSize)} decompressed,{" "}
            {number(layer.entryCount)} entries
          </span>
          <Cost layer={layer} />
          <button
            type="button"
            onClick={() => {
              layer.close();
              disk.set({});
              go({ view: "disk", path: "" });
            }}
          >
            Close
          </button>
        </span>
      </Browse>
    );
  }
  return (
    <main class="view" id="content" tabIndex={-1}>
      <div class="title">
        <h1>Open a layer from disk</h1>
      </div>
      {failed && (
        <p class="notice failed" role="alert">
          {failed}
        </p>
      )}
      {opening ? (
        <div class="notice" role="status">
          <p>
            Reading <strong>{opening.file.name}</strong>: {bytes(opening.read)} of {bytes(opening.file.size)},{" "}
            {percent(opening.read, opening.file.size)}
          </p>
          <p>
            <progress max={opening.file.size || 1} value={opening.read} aria-label="layer read" />
          </p>
          <p>
            <button
              type="button"
              onClick={() => {
                opening.controller.abort();
                disk.set({});
              }}
            >
              Cancel
            </button>
          </p>
        </div>
      ) : (
        <Choose />
      )}
    </main>
  );
}

/** The cost of reading the layer's files, refreshed each second. */
function Cost({ layer }: { layer: LocalLayer }) {
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => redraw(undefined), 1000);
    return () => clearInterval(timer);
  }, []);
  const { bytesInflated, restarts, memory } = layer.counters();
  return (
    <span class="muted wide cost" data-restarts={restarts} data-inflated={bytesInflated} data-memory={memory}>
      {number(restarts)} restarts, {bytes(bytesInflated)} decompressed, {bytes(memory)} of memory
    </span>
  );
}

function Choose() {
  const field = useRef<HTMLInputElement>(null);
  return (
    <div class="drop">
      <Icon name="disk" />
      <p>
        Drop a <code>.tar</code>, <code>.tar.gz</code> or <code>.tar.zst</code> anywhere on this page, or choose one.
      </p>
      <p>
        <button type="button" class="primary" onClick={() => field.current?.click()}>
          Choose a file
        </button>
        <input
          ref={field}
          type="file"
          class="visually-hidden"
          aria-label="Layer"
          tabIndex={-1}
          onChange={(event) => {
            const [file] = event.currentTarget.files ?? [];
            if (file) void openFile(file);
          }}
        />
      </p>
      <p class="muted small">
        This page reads it with the same code as the registry. It is neither uploaded nor stored.
      </p>
    </div>
  );
}

/** Opens a file that is dropped anywhere. Returns whether one is being dragged over the page. */
export function useDrop(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const holds = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const drag = (event: DragEvent) => {
      if (!holds(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent) => event.relatedTarget === null && setOver(false);
    const drop = (event: DragEvent) => {
      if (!holds(event)) return;
      event.preventDefault();
      setOver(false);
      const [file] = event.dataTransfer?.files ?? [];
      if (file) void openFile(file);
    };
    addEventListener("dragover", drag);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", drag);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, []);
  return over;
}
