// What views read directories and files from, be it the registry or the user's own disk.

export type Kind = "file" | "hardlink" | "symlink" | "char" | "block" | "directory" | "fifo";

/** What a listing says of an entry, as docs/extension.md has it. */
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
  /** From where the listing goes on. */
  next?: string;
}

export interface Source {
  /** Lists the directory at a percent-encoded path: "" is the root, all others end with a slash. */
  list(directory: string, after?: string, signal?: AbortSignal): Promise<Listing>;
  /** Reads the bytes from one offset up to another of the file at a percent-encoded path. */
  read(path: string, from: number, to: number, signal?: AbortSignal): Promise<{ bytes: Uint8Array; size: number }>;
}
