// What the page and its worker tell each other.

import type { Entry, Listing } from "../source";

export type State = "added" | "changed" | "removed" | "unchanged";

/** What is in a directory, or was. One without a `mode` is a directory that has no entry of its own. */
export interface Child extends Entry {
  /** What became of it: in one layer, or in all above the lowest. */
  state: State;
  /** The layer that it is from, or that took it away. */
  layerIndex: number;
  /** The bytes of all files below it, its own included. */
  totalSize: number;
}

export interface Match {
  path: string;
  pathEncoded?: string;
  entry: Child;
  layerIndex: number;
}

export interface Analysis {
  /** The part of the bytes that there would have to be at the least: 1 where nothing is wasted. */
  efficiency: number;
  wastedBytes: number;
  entries: number;
  /** Paths whose bytes are there more than once, the largest first: no more than 1,000. */
  offenders: { path: string; pathEncoded?: string; times: number; bytes: number }[];
  /** How much each layer changes. */
  changes: { added: number; changed: number; removed: number; bytes: number }[];
}

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
  /** Takes a page of the table of contents of a layer. */
  page(text: string): void;
  endLayer(): void;
  /** Analyses what was taken, or else the layer that is open. */
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
