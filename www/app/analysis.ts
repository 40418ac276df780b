// The analysis of an image from the tables of contents of all its layers: changes, sizes, waste.

import { useEffect, useReducer, useRef } from "preact/hooks";

import { Problem, type Progress, request, target } from "./api";
import type { Analyser } from "./local/analysis";

/** Images with at most this many entries are analysed at once: a few megabytes. */
const UNASKED = 20_000;

export type Analysing =
  | { state: "idle" }
  | { state: "working"; entries: number; of: number; progress?: Progress }
  /** The image has too many entries to start at once; `begin` starts it. */
  | { state: "large"; of: number; begin: () => void }
  | { state: "failed"; error: Problem; begin: () => void }
  | { state: "done"; analyser: Analyser };

export interface Analysable {
  id: string;
  /**
   * Whether the view frees the analyser itself, as that of a layer from disk does. Otherwise the
   * next analysis frees it.
   */
  lasts?: boolean;
  /**
   * Starts the analysis. Returns "large" if `entries` refuses the number of entries. `told` gets
   * the number of entries read so far.
   */
  analyse(
    entries: (of: number) => boolean,
    told: (entries: number, progress?: Progress) => void,
    signal: AbortSignal,
  ): Promise<Analyser | "large">;
}

/** The last analysis is cached, so that going back from a file to its tree reads nothing again. */
let kept: { id: string; lasts: boolean; analyser: Analyser } | undefined;

/** Analyses at once if there are few entries or if `wanted`. Otherwise waits for `begin`. */
export function useAnalysis(of: Analysable | undefined, wanted: boolean): Analysing {
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const [asked, ask] = useReducer(() => true, false);
  const [attempt, again] = useReducer((count: number) => count + 1, 0);
  const held = useRef<Analysing>({ state: "idle" });
  const force = asked || wanted;
  useEffect(() => {
    if (!of || kept?.id === of.id) return undefined;
    const controller = new AbortController();
    const settle = (state: Analysing) => {
      if (controller.signal.aborted) return;
      held.current = state;
      redraw(undefined);
    };
    let total = 0;
    const begin = () => (held.current.state === "failed" ? again(undefined) : ask(undefined));
    settle({ state: "working", entries: 0, of: 0 });
    let drawn = 0;
    of.analyse(
      (count) => {
        total = count;
        return force || count <= UNASKED;
      },
      (entries, progress) => {
        if (performance.now() - drawn < 100 && !progress) return;
        drawn = performance.now();
        settle({ state: "working", entries, of: total, ...(progress && { progress }) });
      },
      controller.signal,
    ).then(
      (analyser) => {
        if (analyser === "large") return settle({ state: "large", of: total, begin });
        const { lasts = false } = of;
        if (controller.signal.aborted) return lasts ? undefined : analyser.free();
        if (kept && !kept.lasts) kept.analyser.free();
        kept = { id: of.id, lasts, analyser };
        settle({ state: "done", analyser });
      },
      (error: unknown) =>
        settle({
          state: "failed",
          error: error instanceof Problem ? error : new Problem(String(error instanceof Error ? error.message : error)),
          begin,
        }),
    );
    return () => controller.abort();
  }, [of?.id, force, attempt]);
  if (!of) return { state: "idle" };
  if (kept?.id === of.id) return { state: "done", analyser: kept.analyser };
  return held.current.state === "done" ? { state: "idle" } : held.current;
}

/** Returns the way to analyse the layers of an image on the registry. */
export function layersOf(name: string, layers: { digest: string }[]): Analysable {
  return {
    id: `${name} ${layers.map(({ digest }) => digest).join(" ")}`,
    async analyse(entries, told, signal) {
      const page = async (address: string) => {
        const reply = await request(address, { signal, onProgress: (progress) => told(0, progress) });
        return { text: reply.text(), next: reply.next };
      };
      const first: { text: string; next: string | undefined }[] = [];
      let total = 0;
      for (const { digest } of layers) {
        const read = await page(target(`/v2/${name}/_strata/layers/${digest}`, { n: "1000" }));
        total += (JSON.parse(read.text) as { entryCount: number }).entryCount;
        first.push(read);
      }
      if (!entries(total)) return "large";
      let done = 0;
      const pages = first.map(async function* ({ text, next }) {
        for (;;) {
          yield text;
          done += 1000;
          told(Math.min(done, total));
          if (!next) return;
          ({ text, next } = await page(next));
        }
      });
      const { analyse } = await import("./local/analysis");
      return analyse(pages, undefined, signal);
    },
  };
}
