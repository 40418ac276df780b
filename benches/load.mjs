// Measures the rate and the latency of a repeated request, sent from a dedicated thread.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { basic } from "../tests/edge/harness.mjs";
import { median } from "./table.mjs";

/**
 * Repeats a request. Resolves with `{ rate, p50, p99, count }`, in requests a second and
 * milliseconds. Rejects on any response that is not as expected.
 *
 * @param {URL} url the Worker's address
 * @param {string | string[]} paths the path of the request; of several, each connection uses one
 * @param {object} options
 * @param {Record<string, string>} [options.headers]
 * @param {{ status?: number, length: number, tier?: string }} options.expected the status, the
 *   length of the body and the tier of every response
 * @param {number} options.connections each has one request in flight
 * @param {number} [options.seconds] how long new requests are sent
 * @param {number} [options.least] the fewest requests, whatever the time
 * @param {boolean} [options.locked] whether all connections together have one request in flight
 * @param {boolean} [options.patient] whether a connection that closes before a response reconnects
 *   and retries
 * @param {Promise<unknown>} [options.until] ends the measurement early; if it rejects, `load`
 *   rejects
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
 * Measures several requests in rounds, in turns, so that other load on the machine affects all
 * alike. Each is `{ name, running, path, length, headers, tier }`, with options of `load`. Resolves
 * with the medians of each, in the same order.
 */
export async function inTurns(measures, options = {}) {
  const seen = measures.map(() => []);
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const [index, { name, running, path, length, tier, headers, ...own }] of measures.entries()) {
      const expected = { length, tier };
      const asked = { authorization: basic(), ...headers };
      const result = await load(running.url, path, { headers: asked, expected, ...options, ...own }).catch((cause) => {
        throw new Error(`${name} failed; the runtime's log ends with:\n${running.log().slice(-2000)}`, { cause });
      });
      // The first round warms up the runtime, the tiers and this process.
      if (round > 0) seen[index].push(result);
    }
  }
  return seen.map((rounds) => ({
    rate: median(rounds, "rate"),
    p50: median(rounds, "p50"),
    p99: median(rounds, "p99"),
  }));
}
