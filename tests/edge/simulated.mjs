// Starts the built Worker on a simulated edge: several isolates that share R2, KV and the Cache
// API. They are played from memory with the platform's latencies, failures and limits, and time
// that passes faster.
//
// All times are of the simulated clock, which runs `speed` times as fast as the machine's. So the
// time of the processor and of the client's connection is multiplied by it, and a latency of less
// than `speed` milliseconds is not exact. Measure large bodies at a speed of 1.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { start } from "./harness.mjs";

const inside = join(dirname(fileURLToPath(import.meta.url)), "inside");
const MIB = 1 << 20;

/** The platform's latencies in milliseconds, with the bucket near and on another continent. */
export const NEAR = { r2: 20, "r2.uploadPart": [200, 500], "kv.hit": 5, "kv.miss": 200, kv: 20, cache: 5 };
export const FAR = { ...NEAR, r2: 200, "r2.uploadPart": [500, 2000] };

/** What a simulation plays unless it is told otherwise. */
const PLAY = {
  /**
   * Milliseconds of a call such as `r2.get`, or else of its store. A pair is drawn between both. KV
   * answers a read as `kv.hit` if the location has cached the answer, or else as `kv.miss`.
   */
  latency: NEAR,
  /** The share of calls that take so many times as long. */
  slow: { share: 0, times: 10 },
  /**
   * The rate at which calls fail, the kinds (10001, 10043, hang), a prefix of the calls that fail,
   * and bursts `{ from, to, rate, kinds }` in simulated milliseconds since the start. Half of the
   * failed calls take effect.
   */
  failures: { rate: 0, bursts: [] },
  /** How long a call hangs before it fails. */
  hang: 60_000,
  /** The shares of lists that are truncated at no key, or at fewer keys than the limit. */
  pages: { empty: 0, short: 0 },
  /** Whether a second write of a key within a second is refused. */
  throttle: true,
  /** The connections of a request: a further call waits. */
  connections: 6,
  /** The calls that a request may make. */
  subrequests: 10_000,
  /** The largest object whose bytes are kept. The bytes of others are zeros when they are read. */
  keep: 32 * MIB,
  /** Whether parts of multipart uploads may be small. */
  smallParts: false,
};

/**
 * Starts a simulation. Always `stop` it in the end.
 *
 * @param {object} [options] those of `PLAY`, and:
 * @param {number} [options.speed] how many times as fast the simulated clock is
 * @param {number} [options.seed] failures and latencies are drawn from it
 * @param {number} [options.isolates] how many isolates run the Worker
 * @param {boolean} [options.https] serve TLS: without it the Worker does not use the Cache API
 * @param {number} [options.locations] how many locations they are in: each has its own Cache API
 *   and cache of KV
 * @param {Record<string, any>} [options.vars] added to the environment
 * @param {Record<string, string | Uint8Array>} [options.modules] another Worker's modules
 */
export async function simulate(options = {}) {
  const { speed = 20, seed = 1, isolates = 1, locations = 1, https = false, vars, modules, ...play } = options;
  const unknown = Object.keys(play).filter((name) => !Object.hasOwn(PLAY, name));
  if (unknown.length > 0) throw new TypeError(`the simulated edge has no option ${unknown.join(", ")}`);
  const began = Date.now();
  const absolute = absoluteTo(began);
  const optionsOf = (isolate) => {
    const own = { seed: seed * 1000 + isolate, location: isolate % locations };
    return `export default ${JSON.stringify({ ...PLAY, ...absolute(play), began, speed, ...own })};`;
  };
  const running = await start({
    https,
    isolates,
    // The harness is patient with KV. Here its latency is played.
    vars: { STRATA_WARM_HEDGE_MS: undefined, ...vars },
    ...(modules && { modules }),
    buckets: [],
    namespaces: [],
    probe: (isolate) => ({ ...read("played.mjs", "clock.mjs", "memories.mjs"), "play.mjs": optionsOf(isolate) }),
    beside: { STORE: { ...read("store.mjs", "clock.mjs"), "play.mjs": optionsOf(0) } },
    flags: ["nodejs_als"],
  });
  return new Simulated(running, { began, speed, isolates });
}

/** Returns a function that turns bursts since the start into bursts since 1970. */
const absoluteTo = (began) => (play) => {
  const { failures } = play;
  if (!failures?.bursts) return play;
  const bursts = failures.bursts.map((burst) => ({ ...burst, from: began + burst.from, to: began + burst.to }));
  return { ...play, failures: { ...failures, bursts } };
};

const read = (...names) => Object.fromEntries(names.map((name) => [name, readFileSync(join(inside, name))]));

class Simulated {
  #running;
  #began;
  #speed;
  #isolates;

  constructor(running, { began, speed, isolates }) {
    this.#running = running;
    this.#began = began;
    this.#speed = speed;
    this.#isolates = Array.from({ length: isolates }, (_, index) => running.isolate(index));
    this.url = running.url;
    this.host = running.host;
    this.pid = running.pid;
  }

  /** Returns an isolate: `send`, `metrics`, `tick`. */
  isolate(index) {
    return this.#isolates[index];
  }

  send(method, path, options) {
    return this.#isolates[0].send(method, path, options);
  }

  /** Returns the simulated milliseconds since the start. */
  now() {
    return (performance.timeOrigin + performance.now() - this.#began) * this.#speed;
  }

  /** Waits for so many simulated milliseconds. */
  async sleep(milliseconds) {
    await wait(milliseconds / this.#speed);
  }

  /** Changes options of the play, of all isolates and the store. */
  async set(changes) {
    const absolute = absoluteTo(this.#began)(changes);
    await this.#running.askOf("STORE", "set", absolute);
    for (const isolate of this.#isolates) await isolate.ask("set", absolute);
  }

  /**
   * Makes calls of an isolate fail: `{ call: "r2.put", key: "blobs/", nth: 1, times: 1, kind:
   * "10001", kept: false }`. `call` and `key` are prefixes, and the first failure is that of the
   * `nth` call.
   */
  async fail(fault, isolate = 0) {
    await this.#isolates[isolate].ask("fail", fault);
  }

  /**
   * Returns the schedule since the last reset, with times since the start: `invocations`, each `{
   * id, isolate, what, began, replied, subrequests }`, and `calls`, each `{ call, key, bytes,
   * invocation, isolate, asked, began, due, ended, failed }`. Between `asked` and `began` a call
   * waited for a connection. A call that has not ended has no `ended`. It never gets one if its
   * request gave it up and has replied, because the runtime cancels it.
   */
  async schedule() {
    const reports = [];
    for (const isolate of this.#isolates) reports.push(await isolate.ask("read"));
    const since = (time) => (typeof time === "number" ? time - this.#began : time);
    const all = (what) =>
      reports
        .flatMap((report, isolate) => report[what].map((one) => ({ ...one, isolate })))
        .map((one) => ({ ...one, ...within(one, ["asked", "began", "due", "ended", "replied"], since) }));
    return {
      invocations: all("invocations").toSorted((one, other) => one.began - other.began),
      calls: all("calls").toSorted((one, other) => one.asked - other.asked),
    };
  }

  /** Forgets the schedule and the faults. */
  async reset() {
    for (const isolate of this.#isolates) await isolate.ask("reset");
  }

  /**
   * Waits until no call is in flight but cancelled ones: writes to KV follow the reply. Returns the
   * schedule.
   */
  async settled() {
    for (let last; ; ) {
      const schedule = await this.schedule();
      const replied = new Set(schedule.invocations.filter(({ replied }) => replied !== null).map(({ id }) => id));
      const overdue = this.now() - 200 * this.#speed;
      const inFlight = ({ invocation, due = 0, ended }) =>
        ended === undefined && (due > overdue || !replied.has(invocation));
      const { length } = schedule.calls;
      if (length === last && !schedule.calls.some(inFlight)) return schedule;
      last = length;
      await wait(30);
    }
  }

  /** Returns what is stored: `objects`, and the keys of `values`, `entries` and `uploads`. */
  stored() {
    return this.#running.askOf("STORE", "read");
  }

  /** Forgets all that is stored. The isolates keep what they remember. */
  async clear() {
    await this.#running.askOf("STORE", "clear");
  }

  /** Returns the resident memory of the runtime in bytes. It includes the kept bytes of objects. */
  memory() {
    return this.#running.memory();
  }

  resetPeak() {
    this.#running.resetPeak();
  }

  metrics(isolate = 0) {
    return this.#isolates[isolate].metrics();
  }

  log() {
    return this.#running.log();
  }

  stop() {
    return this.#running.stop();
  }
}

const within = (one, names, change) =>
  Object.fromEntries(names.filter((name) => name in one).map((name) => [name, change(one[name])]));

/** Returns the most calls that were in flight at a time. */
export function mostInFlight(calls) {
  const steps = calls.flatMap(({ began, ended }) => [
    [began, 1],
    [ended ?? Number.POSITIVE_INFINITY, -1],
  ]);
  steps.sort(([one, up], [other, down]) => one - other || up - down);
  let [now, most] = [0, 0];
  for (const [, step] of steps) {
    now += step;
    most = Math.max(most, now);
  }
  return most;
}

/** Returns how many calls waited for a connection, and the milliseconds of the longest wait. */
export function waits(calls) {
  const waited = calls.map(({ asked, began }) => began - asked).filter((time) => time > 0);
  return { calls: waited.length, longest: Math.max(0, ...waited) };
}

/** Returns the round trips in a row: the most calls that each began after another had ended. */
export function inARow(calls) {
  let [count, free] = [0, Number.NEGATIVE_INFINITY];
  const ended = calls.filter(({ ended }) => ended !== undefined);
  for (const { began, ended: end } of ended.toSorted((one, other) => one.ended - other.ended)) {
    if (began < free) continue;
    count += 1;
    free = end;
  }
  return count;
}

/** Returns the kind of a key: its first folder, or that of a repository's objects. */
export const kindOf = (key) => /^repositories\/.*?\/(_[^/]+)/.exec(key)?.[1] ?? key.split("/")[0];
