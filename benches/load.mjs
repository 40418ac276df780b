// Asks a Worker for one thing again and again, from a thread that does nothing else, and tells how fast it was.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { basic } from "../tests/edge/harness.mjs";
import { median } from "./table.mjs";

/**
 * Resolves with `{ rate, p50, p99, count }`: requests a second, and milliseconds. Any reply that is not as expected ends it.
 *
 * @param {URL} url of the Worker
 * @param {string | string[]} paths what is asked for; of several, each connection has one to itself
 * @param {object} options
 * @param {Record<string, string>} [options.headers]
 * @param {{ status?: number, length: number, tier?: string }} options.expected of every reply: the body's length, and the tier
 *   that it says it comes from
 * @param {number} options.connections each has one request under way
 * @param {number} [options.seconds] for how long new requests are made
 * @param {number} [options.least] how many are made whatever the time
 * @param {boolean} [options.locked] whether one request at a time is under way on all connections together
 * @param {boolean} [options.patient] whether a connection that is closed without an answer is made anew, to ask again
 * @param {Promise<unknown>} [options.until] what ends it earlier, and fails it where it fails
 */
export async function load(
  url,
  paths,
  { headers = {}, expected, connections, seconds = 0.6, least = 1, locked = false, patient = false, until },
) {
  const fields = Object.entries({ host: url.host, ...headers }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}`],
  );
  const client = new Worker(new URL("client.mjs", import.meta.url), {
    workerData: {
      host: url.hostname,
      port: Number(url.port),
      requests: [paths].flat().map((path) => [`GET ${path} HTTP/1.1`, ...fields, "", ""].join("\r\n")),
      expected: { status: 200, ...expected },
      connections,
      seconds,
      least,
      locked,
      patient,
    },
  });
  try {
    const result = once(client, "message");
    if (until) await Promise.race([until.then(() => client.postMessage("end")), result]);
    return (await result)[0];
  } catch (error) {
    throw new Error(`GET ${[paths].flat()[0]} failed`, { cause: error });
  } finally {
    await client.terminate();
  }
}

export const ROUNDS = 5;

/**
 * Measures several side by side: in rounds, in turns, so that whatever else the machine does falls on all of them. Gives back
 * the medians for each, in their order. Each is `{ name, running, path, length, headers, tier }` with options of `load` among them.
 */
export async function inTurns(measures, options = {}) {
  const seen = measures.map(() => []);
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const [index, { name, running, path, length, tier, headers, ...own }] of measures.entries()) {
      const expected = { length, tier };
      const asked = { authorization: basic(), ...headers };
      const result = await load(running.url, path, { headers: asked, expected, ...options, ...own }).catch((cause) => {
        throw new Error(`${name}, after which the runtime had printed:\n${running.log().slice(-2000)}`, { cause });
      });
      // The first round warms up the runtime, the tiers and ourselves.
      if (round > 0) seen[index].push(result);
    }
  }
  return seen.map((rounds) => ({
    rate: median(rounds, "rate"),
    p50: median(rounds, "p50"),
    p99: median(rounds, "p99"),
  }));
}
