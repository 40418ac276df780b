// A client of the registry's API with the credentials of the signed-in user. It reports the cost of
// each request to the activity panel.

import { note } from "./activity";
import { store } from "./store";

/** An error whose message says what happened and what to do. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly status = 0,
    readonly code = "",
    readonly detail?: unknown,
  ) {
    super(message);
  }
}

/** The progress of indexing a layer, in compressed bytes. */
export interface Progress {
  digest: string;
  read: number;
  size: number;
}

export interface Reply {
  status: number;
  headers: Headers;
  bytes: Uint8Array;
  /** The address of the next page. */
  next: string | undefined;
  text(): string;
  json<T>(): T;
}

export interface Asked {
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Error statuses that are returned and not thrown. */
  accepted?: number[];
}

/** The signed-in user. This is in the page's memory only, so a reload signs out. */
export const session = store<{ user: string; authorization: string } | undefined>(undefined);

/** The message of the sign-in dialog, or `undefined` while the dialog is closed. */
export const signIn = store<string | undefined>(undefined);

/** Returns an address with its query; values are percent-encoded. */
export function target(path: string, query: Record<string, string | undefined> = {}): string {
  const pairs = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`],
  );
  return pairs.length > 0 ? `${path}?${pairs.join("&")}` : path;
}

/**
 * Sends a request, and repeats it while the registry answers 202 because it is indexing a layer.
 */
export async function request(address: string, asked: Asked = {}): Promise<Reply> {
  for (;;) {
    const reply = await once(address, asked);
    if (reply.status !== 202) return reply;
    const { digest, read, size } = reply.json<Progress>();
    asked.onProgress?.({ digest, read, size });
    const seconds = Number(reply.headers.get("Retry-After") ?? 1);
    await pause(Math.max(0.2, seconds) * 1000, asked.signal);
  }
}

/** Sends a request, and returns the response with its body unread. */
export async function open(address: string, { headers = {}, signal }: Asked = {}): Promise<Response> {
  const authorization = session.value?.authorization;
  try {
    return await fetch(address, {
      headers: authorization ? { Authorization: authorization, ...headers } : headers,
      // If the browser sent credentials, it would ask for them in a dialog of its own, and keep
      // them.
      credentials: "omit",
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem("the registry can't be reached: check the connection, then try again");
  }
}

async function once(address: string, asked: Asked): Promise<Reply> {
  const started = performance.now();
  const response = await open(address, asked);
  const bytes = new Uint8Array(await response.arrayBuffer());
  note({ address, status: response.status, headers: response.headers, bytes: bytes.length, started });
  const { status, headers } = response;
  const text = () => new TextDecoder().decode(bytes);
  if (!response.ok && !asked.accepted?.includes(status)) throw problem(status, headers, text());
  return { status, headers, bytes, next: nextOf(headers), text, json: () => JSON.parse(text()) };
}

/** Returns the error of a response, with advice by its status. A 401 opens the sign-in dialog. */
export function problem(status: number, headers: Headers, text: string): Problem {
  let [code, message, detail]: [string, string, unknown] = ["", "", undefined];
  try {
    const [first] = JSON.parse(text).errors;
    ({ code, message, detail } = first);
  } catch {
    message = text.trim().slice(0, 200);
  }
  const wait = headers.get("Retry-After");
  const advice: Record<number, string> = {
    401: session.value ? "sign in as a user with this permission" : "sign in",
    403: "sign in as a user with this permission",
    404: "it may have been deleted or moved",
    429: `too many requests: try again${wait ? ` in ${wait} s` : " later"}`,
    503: `try again${wait ? ` in ${wait} s` : " later"}`,
  };
  const found = message || `the registry answered ${status}`;
  if (status === 401) signIn.set(session.value ? "the registry did not accept these credentials" : "");
  return new Problem(advice[status] ? `${found}. ${capital(advice[status])}.` : found, status, code, detail);
}

function nextOf(headers: Headers): string | undefined {
  return /<([^>]+)>;\s*rel="?next"?/.exec(headers.get("Link") ?? "")?.[1];
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
