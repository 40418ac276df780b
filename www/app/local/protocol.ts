// What the page and its worker tell each other.

import type { Listing } from "../source";

/** What a pass has found of a layer. */
export interface Description {
  compression: string;
  diffId: string;
  entryCount: number;
  inflatedSize: number;
  size: number;
  spans: number;
}

/** What reading a layer has cost so far. */
export interface Counters {
  /** Bytes that were inflated to read files: the pass is not among them. */
  bytesInflated: number;
  /** How often inflating began anew at a checkpoint. */
  restarts: number;
  /** Bytes that were read from the file, by the pass as well. */
  bytesRead: number;
  /** The memory of the module, in bytes. */
  memory: number;
}

/** What the worker does, each with its parameters and what comes of it. */
export interface Methods {
  open(file: File): Description;
  list(directory: string, after?: string): Listing;
  read(path: string, from: number, to: number): { bytes: Uint8Array; size: number };
}

export type Request = { id: number; method: keyof Methods; parameters: unknown[] } | { cancel: number };

export type Reply = { id: number } & ({ progress: number } | { result: unknown; counters: Counters } | { error: string });
