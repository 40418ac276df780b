// A treemap: the entries of a directory as tiles, sized by their bytes.

import { hierarchy, treemap, treemapSquarify } from "d3-hierarchy";
import { useEffect, useRef, useState } from "preact/hooks";

import { bytes, percent } from "../format";
import { useLoad } from "../load";
import { Failed, Name, Waiting } from "./parts";
import { type Child, pathOf, type Shelf } from "./tree";

interface Tile {
  path: string;
  name: string;
  encoded?: string | undefined;
  size: number;
  directory: boolean;
  stratum: number | undefined;
  below?: Tile[];
}

/** The most tiles of a directory. One more tile stands for all smaller entries. */
const MOST = 60;
/** The most directories that are shown with their entries, and the most levels of tiles. */
const NESTED = 40;
const DEEP = 3;

export function Treemap({ shelf, path, address }: { shelf: Shelf; path: string; address: (path: string) => string }) {
  const of = useLoad((signal) => tiles(shelf, path, signal), [shelf.id, shelf.turn, path]);
  const box = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    if (!box.current) return undefined;
    const observer = new ResizeObserver(
      ([entry]) => entry && setSize({ width: entry.contentRect.width, height: entry.contentRect.height }),
    );
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const total = of.value?.reduce((sum, tile) => sum + tile.size, 0) ?? 0;
  return (
    <div class="map" ref={box}>
      {of.error && <Failed error={of.error} again={of.again} />}
      {!of.value && !of.error && <Waiting what="Adding up" />}
      {of.value && total === 0 && <p class="notice">All files in this directory are empty.</p>}
      {of.value && total > 0 && size.width > 0 && (
        <ul class="tiles" aria-label="Sizes">
          {layOut(of.value, size).map(({ tile, depth, x, y, width, height }) => {
            const style = { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` };
            const stratum = tile.stratum === undefined ? "" : ` tile-${tile.stratum % 8}`;
            const text = width > 44 && height > 16 && (
              <span class="tile-name">
                <Name text={tile.name} encoded={tile.encoded} />
                {tile.directory && tile.path ? "/" : ""} <span class="tile-size">{bytes(tile.size)}</span>
              </span>
            );
            const label = `${tile.name}${tile.directory && tile.path ? "/" : ""}, ${bytes(tile.size)}, ${percent(tile.size, total)}`;
            return (
              <li key={`${depth} ${tile.path} ${tile.name}`} class={`tile depth-${depth}${stratum}`} style={style}>
                {tile.path ? (
                  <a href={address(tile.path)} aria-label={label} title={label}>
                    {text}
                  </a>
                ) : (
                  <span title={label}>{text}</span>
                )}
              </li>
            );
          })}
        </ul>
      )}
    </div>
  );
}

async function tiles(shelf: Shelf, path: string, signal: AbortSignal): Promise<Tile[]> {
  const top = await read(shelf, path, signal);
  const total = top.reduce((sum, { size }) => sum + size, 0);
  // Open the largest directories first, and none with less than 1 % of the bytes.
  const open = top.map((tile) => ({ tile, depth: 1 }));
  for (let nested = 0; nested < NESTED; nested += 1) {
    open.sort((one, other) => other.tile.size - one.tile.size);
    const at = open.findIndex(
      ({ tile, depth }) => tile.directory && tile.path && depth < DEEP && tile.size > total / 100,
    );
    const [next] = at < 0 ? [] : open.splice(at, 1);
    if (!next) break;
    next.tile.below = await read(shelf, next.tile.path, signal);
    open.push(...next.tile.below.map((tile) => ({ tile, depth: next.depth + 1 })));
  }
  return top;
}

async function read(shelf: Shelf, path: string, signal: AbortSignal): Promise<Tile[]> {
  let children: Child[] = [];
  let next: string | undefined;
  do {
    const page = await shelf.children(path, next, signal);
    children = children.concat(page.children);
    next = page.next;
  } while (next);
  const all = children
    .filter(({ state }) => state !== "removed")
    .map((child) => ({
      path: pathOf(path, child),
      name: child.name,
      encoded: child.nameEncoded,
      size: child.type === "directory" ? (child.totalSize ?? 0) : child.type === "file" ? child.size : 0,
      directory: child.type === "directory",
      stratum: child.layerIndex,
    }))
    .filter(({ size }) => size > 0)
    .sort((one, other) => other.size - one.size);
  const rest = all.slice(MOST);
  if (rest.length === 0) return all;
  const size = rest.reduce((sum, tile) => sum + tile.size, 0);
  return [...all.slice(0, MOST), { path: "", name: `${rest.length} more`, size, directory: false, stratum: undefined }];
}

function layOut(of: Tile[], { width, height }: { width: number; height: number }) {
  const root = hierarchy<{ tile?: Tile; below?: Tile[] }>({ below: of }, (node) =>
    (node.below ?? node.tile?.below)?.map((tile) => ({ tile })),
  );
  root.sum(({ tile, below }) => (tile && !tile.below && !below ? tile.size : 0));
  const laid = treemap<{ tile?: Tile; below?: Tile[] }>()
    .tile(treemapSquarify)
    .size([width, height])
    .paddingInner(2)
    .paddingTop(({ depth, data }) => (depth > 0 && data.tile?.below ? 19 : 0))
    .round(true)(root);
  return laid.descendants().flatMap((node) => {
    const { tile } = node.data;
    if (!tile || node.x1 - node.x0 < 3 || node.y1 - node.y0 < 3) return [];
    return [{ tile, depth: node.depth, x: node.x0, y: node.y0, width: node.x1 - node.x0, height: node.y1 - node.y0 }];
  });
}
