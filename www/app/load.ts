// Loads the data of views, and limits concurrent work.

import { useEffect, useReducer, useRef } from "preact/hooks";

import { Problem, type Progress, session } from "./api";
import { useStore } from "./store";

export interface Loading<T> {
  value?: T;
  error?: Problem;
  progress?: Progress;
  again(): void;
}

/**
 * Loads, and loads again when `keys` or the signed-in user change. A load that is still running
 * then is aborted.
 */
export function useLoad<T>(
  load: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<T>,
  keys: unknown[],
): Loading<T> {
  const who = useStore(session);
  const [turn, redraw] = useReducer((count: number) => count + 1, 0);
  const [attempt, again] = useReducer((count: number) => count + 1, 0);
  const held = useRef<{ of: string; value?: T; error?: Problem; progress?: Progress }>({ of: "" });
  const of = JSON.stringify([keys, who?.authorization, attempt]);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const settle = (found: Partial<Loading<T>>) => {
      if (signal.aborted) return;
      held.current = { of, ...found };
      redraw(undefined);
    };
    load(signal, (progress) => settle({ progress })).then(
      (value) => settle({ value }),
      (error: unknown) =>
        settle({
          error: error instanceof Problem ? error : new Problem(String(error instanceof Error ? error.message : error)),
        }),
    );
    return () => controller.abort();
  }, [of]);
  void turn;
  const { value, error, progress } = held.current.of === of ? held.current : ({} as Loading<T>);
  return {
    ...(value !== undefined && { value }),
    ...(error && { error }),
    ...(progress && { progress }),
    again: () => again(undefined),
  };
}

/**
 * Returns a function that runs at most `most` works at a time. Work that is aborted while it waits
 * never starts.
 */
export function limiter(most: number) {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async <T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    running += 1;
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      running -= 1;
      waiting.shift()?.();
    }
  };
}
