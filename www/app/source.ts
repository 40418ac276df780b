// Sources of files: an image or a layer on the registry, one of its blobs, or a layer from disk.

import { type Progress, request, target } from "./api";

export type Kind = "file" | "hardlink" | "symlink" | "char" | "block" | "directory" | "fifo";

/** One file, as docs/extension.md describes it. */
export interface Entry {
  name: string;
  nameEncoded?: string;
  type: Kind;
  mode: number;
  uid: number;
  gid: number;
  user?: string;
  group?: string;
  size: number;
  modified?: string;
  link?: string;
  linkEncoded?: string;
  layer?: string;
  whiteout?: "name" | "opaque";
}

export interface Listing {
  children: Entry[];
  /** The value of `after` for the next page. */
  next?: string;
}

/**
 * A source of files. Paths are percent-encoded; that of a directory ends with a slash, and that of
 * the root is empty.
 */
export interface Source {
  list(directory: string, after?: string, signal?: AbortSignal): Promise<Listing>;
  /** Reads a part of a file. `to` is exclusive; `size` is that of the whole file. */
  read(path: string, from: number, to: number, signal?: AbortSignal): Promise<{ bytes: Uint8Array; size: number }>;
}

/** Files of an image or of one layer on the registry. */
export class Remote implements Source {
  readonly #place: string;
  readonly #query: Record<string, string>;
  readonly #onProgress: ((progress: Progress) => void) | undefined;

  constructor(place: string, query: Record<string, string> = {}, onProgress?: (progress: Progress) => void) {
    this.#place = place;
    this.#query = query;
    this.#onProgress = onProgress;
  }

  address(path: string, query: Record<string, string> = {}): string {
    return target(this.#place + path, { ...this.#query, ...query });
  }

  async list(directory: string, after?: string, signal?: AbortSignal): Promise<Listing> {
    const reply = await request(after ?? this.address(directory, { n: "1000" }), {
      signal,
      onProgress: this.#onProgress,
    });
    const { children } = reply.json<{ children: Entry[] }>();
    return { children, next: reply.next };
  }

  async read(
    path: string,
    from: number,
    to: number,
    signal?: AbortSignal,
  ): Promise<{ bytes: Uint8Array; size: number }> {
    return readRange(this.address(path), from, to, signal, this.#onProgress);
  }
}

/** One blob. Its only path is the empty one. */
export class BlobFile implements Pick<Source, "read"> {
  constructor(readonly address: string) {}

  read(_path: string, from: number, to: number, signal?: AbortSignal): Promise<{ bytes: Uint8Array; size: number }> {
    return readRange(this.address, from, to, signal);
  }
}

async function readRange(
  address: string,
  from: number,
  to: number,
  signal?: AbortSignal,
  onProgress?: (progress: Progress) => void,
) {
  const headers = { Range: `bytes=${from}-${Math.max(from, to - 1)}` };
  const reply = await request(address, { headers, signal, onProgress, accepted: [416] });
  const total = Number(/\/(\d+)$/.exec(reply.headers.get("Content-Range") ?? "")?.[1]);
  // No range of an empty file can be satisfied.
  if (reply.status === 416) return { bytes: new Uint8Array(), size: total || 0 };
  if (reply.status === 206) return { bytes: reply.bytes, size: total };
  return { bytes: reply.bytes.subarray(from, to), size: reply.bytes.length };
}
