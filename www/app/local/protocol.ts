// The messages between the page and its worker.

import type { Entry, Listing } from "../source";

export type State = "added" | "changed" | "removed" | "unchanged";

/**
 * An entry of a directory, or a removed one. Without a `mode`, it is a directory that no layer has
 * an entry for.
 */
export interface Child extends Entry {
  /** Its change: by one layer, or by all layers above the lowest. */
  state: State;
  /** The layer that has it, or that removed it. */
  layerIndex: number;
  /** The bytes of all files below it, and its own. */
  totalSize: number;
}

export interface Match {
  path: string;
  pathEncoded?: string;
  entry: Child;
  layerIndex: number;
}

export interface Analysis {
  /** The share of the image's bytes that it needs at least: 1 if nothing is wasted. */
  efficiency: number;
  wastedBytes: number;
  entries: number;
  /** Paths with bytes in more than one layer, the largest first: at most 1,000. */
  offenders: { path: string; pathEncoded?: string; times: number; bytes: number }[];
  /** The changes of each layer. */
  changes: { added: number; changed: number; removed: number; bytes: number }[];
}

/** The facts about a layer that its pass found. */
export interface Description {
  compression: string;
  diffId: string;
  entryCount: number;
  inflatedSize: number;
  size: number;
  spans: number;
}

/** The cost of reading a layer so far. */
export interface Counters {
  /** Bytes decompressed to read files, without the pass. */
  bytesInflated: number;
  /** How often decompression started at a checkpoint. */
  restarts: number;
  /** Bytes read from the file and from stored spans, the pass included. */
  bytesRead: number;
  /** The memory of the module, in bytes. */
  memory: number;
}

/** The methods of the worker, with their parameters and results. */
export interface Methods {
  open(file: File): Description;
  list(directory: string, after?: string): Listing;
  read(path: string, from: number, to: number): { bytes: Uint8Array; size: number };
  /** Reads a page of the table of contents of a layer. */
  page(text: string): void;
  endLayer(): void;
  /** Analyses the pages read so far, or else the open layer. */
  analyse(): Analysis;
  children(directory: string): Child[];
  layerChildren(layer: number, directory: string): Child[];
  search(text: string, limit: number): Match[];
}

export type Request = { id: number; method: keyof Methods; parameters: unknown[] } | { cancel: number };

export type Reply = { id: number } & (
  | { progress: number }
  | { result: unknown; counters: Counters }
  | { error: string }
);
