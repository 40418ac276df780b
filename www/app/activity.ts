// The page's requests and their cost: the tier that answered, and whether a span was decompressed.

import { store } from "./store";

export type Tier = "hot" | "warm" | "cold" | "upstream" | "browser" | "none";

export interface Asked {
  id: number;
  address: string;
  status: number;
  tier: Tier;
  /** The lookups in the tiers, from `Server-Timing`. */
  steps: { what: string; tier: string }[];
  bytes: number;
  milliseconds: number;
}

export interface Activity {
  /** The latest first. */
  asked: Asked[];
  requests: number;
  tiers: Partial<Record<Tier, number>>;
  /** Replies from cached spans: the registry decompressed nothing for them. */
  saved: number;
  inflated: number;
  /** Bytes of replies under `/_strata/` that came over the network. */
  fetched: number;
  /** The sizes of the layers that the user browses, by digest. */
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

// The browser keeps a few hundred timings. If that buffer is full, it drops new ones.
performance.addEventListener("resourcetimingbufferfull", () => performance.clearResourceTimings());

export function note(of: { address: string; status: number; headers: Headers; bytes: number; started: number }): void {
  const steps = [...(of.headers.get("Server-Timing") ?? "").matchAll(/(\w+);desc=(\w+)/g)].map(
    ([, what = "", tier = ""]) => ({ what, tier }),
  );
  const [timing] = performance
    .getEntriesByName(new URL(of.address, location.href).href, "resource")
    .slice(-1) as PerformanceResourceTiming[];
  // A reply from the browser's cache repeats the tier of its first download.
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

/** Notes the layers that the user browses. */
export function look(layers: { digest: string; size: number }[]): void {
  const known = activity.value.layers;
  if (layers.every(({ digest }) => known.has(digest))) return;
  const all = new Map(known);
  for (const { digest, size } of layers) all.set(digest, size);
  activity.set({ ...activity.value, layers: all });
}
