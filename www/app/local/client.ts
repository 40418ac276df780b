// The page's side of a worker: calls return promises.

import type { Counters, Methods, Reply, Request } from "./protocol";

type Parameters<M extends keyof Methods> = globalThis.Parameters<Methods[M]>;

interface Call {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  onProgress?: (read: number) => void;
}

export interface CallOptions {
  signal?: AbortSignal;
  onProgress?: (read: number) => void;
}

export class Client {
  counters: Counters = { bytesInflated: 0, restarts: 0, bytesRead: 0, memory: 0 };
  readonly #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  readonly #calls = new Map<number, Call>();
  #last = 0;
  #ended: Error | undefined;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#settle(data);
    this.#worker.onerror = (event) =>
      this.#end(
        new Error(
          event.message
            ? `the worker that reads layers failed: ${event.message}`
            : "the worker that reads layers could not be loaded: reload the page",
        ),
      );
  }

  /**
   * Calls a method of the worker. An abort rejects the promise at once, and cancels the call in the
   * worker.
   */
  call<M extends keyof Methods>(
    method: M,
    parameters: Parameters<M>,
    { signal, onProgress }: CallOptions = {},
  ): Promise<ReturnType<Methods[M]>> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const cancel = () => {
        this.#calls.delete(id);
        this.#post({ cancel: id });
        reject(signal?.reason);
      };
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          signal?.removeEventListener("abort", cancel);
          settle(value);
        };
      signal?.addEventListener("abort", cancel, { once: true });
      this.#calls.set(id, {
        resolve: settled(resolve as (result: unknown) => void),
        reject: settled(reject),
        onProgress,
      });
      this.#post({ id, method, parameters });
    });
  }

  /** Terminates the worker, which frees its memory, and rejects its pending calls. */
  close(): void {
    this.#end(new Error("the layer or image was closed: open it again"));
  }

  #post(request: Request): void {
    this.#worker.postMessage(request);
  }

  #settle(reply: Reply): void {
    const call = this.#calls.get(reply.id);
    if ("counters" in reply) this.counters = reply.counters;
    if (!call) return;
    if ("progress" in reply) {
      call.onProgress?.(reply.progress);
      return;
    }
    this.#calls.delete(reply.id);
    if ("error" in reply) call.reject(new Error(reply.error));
    else call.resolve(reply.result);
  }

  #end(error: Error): void {
    this.#worker.terminate();
    this.#ended = error;
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(error);
  }
}
