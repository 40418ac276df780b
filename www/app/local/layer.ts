// A layer from the user's disk. A worker reads it, and none of it leaves the page.

import type { Listing, Source } from "../source";
import { Analyser } from "./analysis";
import { Client } from "./client";
import type { Counters, Description } from "./protocol";

export interface OpenOptions {
  /** Called from time to time with the bytes read so far, and the size of the file. */
  onProgress(read: number, size: number): void;
  /** Cancels, and frees all memory. */
  signal: AbortSignal;
}

/** Indexes a layer: `.tar`, `.tar.gz` or `.tar.zst`. Its name does not matter. */
export async function openLayer(file: File, { onProgress, signal }: OpenOptions): Promise<LocalLayer> {
  signal.throwIfAborted();
  const client = new Client();
  try {
    const description = await client.call("open", [file], {
      signal,
      onProgress: (read) => onProgress(read, file.size),
    });
    return new LocalLayer(file, client, description);
  } catch (error) {
    client.close();
    throw error;
  }
}

export class LocalLayer implements Source {
  readonly name: string;
  readonly size: number;
  readonly inflatedSize: number;
  readonly compression: string;
  readonly diffId: string;
  readonly entryCount: number;
  readonly #client: Client;
  #analyser: Promise<Analyser> | undefined;

  constructor(file: File, client: Client, description: Description) {
    this.name = file.name;
    this.size = file.size;
    this.inflatedSize = description.inflatedSize;
    this.compression = description.compression;
    this.diffId = description.diffId;
    this.entryCount = description.entryCount;
    this.#client = client;
  }

  list(directory: string, after?: string, signal?: AbortSignal): Promise<Listing> {
    return this.#client.call("list", [directory, after], { signal });
  }

  read(path: string, from: number, to: number, signal?: AbortSignal): Promise<{ bytes: Uint8Array; size: number }> {
    return this.#client.call("read", [path, from, to], { signal });
  }

  /**
   * Returns the analysis of the layer, with search. The first call reads the whole table of
   * contents.
   */
  analyse(): Promise<Analyser> {
    this.#analyser ??= Analyser.of(this.#client);
    return this.#analyser;
  }

  counters(): Counters {
    return this.#client.counters;
  }

  close(): void {
    this.#client.close();
  }
}
