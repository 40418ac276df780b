// What the page asked for, and what it cost: which tier answered, and how much was inflated for it.

import { store } from "./store";

export type Tier = "hot" | "warm" | "cold" | "upstream" | "browser" | "none";

export interface Asked {
  id: number;
  address: string;
  status: number;
  tier: Tier;
  /** What was asked of the tiers, from `Server-Timing`. */
  steps: { what: string; tier: string }[];
  bytes: number;
  milliseconds: number;
}

export interface Activity {
  /** The latest first. */
  asked: Asked[];
  requests: number;
  tiers: Partial<Record<Tier, number>>;
  /** Replies made of spans that somebody had inflated before. */
  saved: number;
  inflated: number;
  /** Bytes of files and listings, and of the layers that they are from. */
  fetched: number;
  layers: Map<string, number>;
}

const KEPT = 100;

export const activity = store<Activity>({
  asked: [],
  requests: 0,
  tiers: {},
  saved: 0,
  inflated: 0,
  fetched: 0,
  layers: new Map(),
});

let last = 0;

// The browser keeps a few hundred, and then none of those that come.
performance.addEventListener("resourcetimingbufferfull", () => performance.clearResourceTimings());

export function note(of: { address: string; status: number; headers: Headers; bytes: number; started: number }): void {
  const steps = [...(of.headers.get("Server-Timing") ?? "").matchAll(/(\w+);desc=(\w+)/g)].map(
    ([, what = "", tier = ""]) => ({ what, tier }),
  );
  const [timing] = performance
    .getEntriesByName(new URL(of.address, location.href).href, "resource")
    .slice(-1) as PerformanceResourceTiming[];
  // What the browser kept says again which tier it once came from.
  const kept =
    timing !== undefined &&
    timing.startTime >= of.started - 1 &&
    timing.transferSize === 0 &&
    of.bytes > 0 &&
    timing.decodedBodySize > 0;
  const tier = kept ? "browser" : ((of.headers.get("X-Strata-Tier") ?? "none") as Tier);
  const inside = of.address.includes("/_strata/");
  const spans = steps.filter(({ what }) => what === "span");
  const inflated = spans.some(({ tier }) => tier === "cold");
  const now = activity.value;
  activity.set({
    ...now,
    asked: [
      {
        id: ++last,
        address: of.address,
        status: of.status,
        tier,
        steps,
        bytes: of.bytes,
        milliseconds: performance.now() - of.started,
      },
      ...now.asked,
    ].slice(0, KEPT),
    requests: now.requests + 1,
    tiers: { ...now.tiers, [tier]: (now.tiers[tier] ?? 0) + 1 },
    saved: now.saved + (spans.length > 0 && (kept || !inflated) ? 1 : 0),
    inflated: now.inflated + (inflated && !kept ? 1 : 0),
    fetched: now.fetched + (inside && !kept ? of.bytes : 0),
  });
}

/** Notes which layers are looked into. */
export function look(layers: { digest: string; size: number }[]): void {
  const known = activity.value.layers;
  if (layers.every(({ digest }) => known.has(digest))) return;
  const all = new Map(known);
  for (const { digest, size } of layers) all.set(digest, size);
  activity.set({ ...activity.value, layers: all });
}
