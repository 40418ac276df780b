// An observable value: a change redraws the views that use it.

import { useEffect, useReducer } from "preact/hooks";

export interface Store<T> {
  readonly value: T;
  set(value: T): void;
  watch(changed: () => void): () => void;
}

export function store<T>(value: T): Store<T> {
  const watchers = new Set<() => void>();
  return {
    get value() {
      return value;
    },
    set(next) {
      value = next;
      for (const changed of [...watchers]) changed();
    },
    watch(changed) {
      watchers.add(changed);
      return () => watchers.delete(changed);
    },
  };
}

export function useStore<T>(from: Store<T>): T {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => from.watch(() => redraw(undefined)), [from]);
  return from.value;
}
