// The mutual cost of concurrent requests: with and without a lock around all of them, and small
// reads during large uploads.
import { bytes, digestOf } from "../tests/edge/bytes.mjs";
import { basic, start } from "../tests/edge/harness.mjs";
import { whole } from "../tests/edge/push.mjs";
import { bare, bareBlob, COLD, DISTANCE, far, fill, fillBare, MIB, QUIET, read, SMALL } from "./contestants.mjs";
import { inTurns, load } from "./load.mjs";
import { figure } from "./table.mjs";

const CONNECTIONS = [1, 16, 64];
const UPLOADS = 8;
const SIZE = 100 * MIB;
// Bytes a second of one upload; all uploads together have 100 Mbit/s. At the full speed of the
// loopback device, they would keep the runtime from serving any other connection for seconds,
// whatever the Worker does.
const PACE = 1.5 * MIB;
const SECONDS = 20;

export async function concurrency(print) {
  const running = [];
  const begin = async (options) => {
    running.push(await start({ probe: false, ...options }));
    return running.at(-1);
  };
  try {
    const hot = await begin({ vars: QUIET });
    const cold = await begin({ vars: COLD });
    const distant = await begin({ modules: far(), vars: COLD });
    const floor = await begin({ modules: bare });
    const { digest } = await fill(hot);
    await read(hot, digest);
    const small = { running: hot, ...digest, tier: "hot" };
    await fillBare(floor, SMALL);
    await locks(print, [
      { name: "hot", ...small },
      // One manifest for each connection, because single flight merges concurrent reads of one
      // object.
      { name: "cold", running: cold, ...(await fill(cold, {}, 64)).digest, tier: "cold" },
      { name: `cold, R2 ${DISTANCE} ms away`, running: distant, ...(await fill(distant, {}, 64)).digest, tier: "cold" },
    ]);
    await uploads(print, floor, small);
  } finally {
    for (const one of running) await one.stop();
  }
}

/**
 * Measures the same Worker with and without a lock around all requests. The load generator holds
 * the lock. In the Worker it would have to be a queue polled by timers, because the platform
 * cancels a request that waits for another request's promise.
 */
async function locks(print, measures) {
  const rows = [];
  for (const connections of CONNECTIONS) {
    const results = await inTurns(
      measures.flatMap((measure) => [measure, { ...measure, locked: true }]),
      { connections },
    );
    for (const [index, { name }] of measures.entries()) {
      const [free, locked] = results.slice(2 * index);
      const ratio = (free.rate / locked.rate).toFixed(2);
      rows.push([
        name,
        connections,
        free.rate.toFixed(0),
        locked.rate.toFixed(0),
        ratio,
        figure(free.p50),
        figure(locked.p50),
      ]);
    }
  }
  const columns = [
    "manifest by digest",
    "connections",
    "requests/s",
    "one at a time",
    "ratio",
    "p50, ms",
    "p50 one at a time, ms",
  ];
  print(
    "No lock, compared with one lock around every request, held by the load generator: waiting for it counts",
    columns,
    rows,
  );
}

/** Measures small reads while the same Worker receives large uploads. */
async function uploads(print, floor, small) {
  const put = (digest, body) => floor.send("PUT", `/${digest}`, { body, headers: { "content-length": SIZE } });
  const push = (digest, body) => whole(small.running, "bench/uploads", digest, body, SIZE);
  const measures = [
    { name: "bare: constant", running: floor, path: "/constant", length: 5, upload: put },
    { name: "bare: `R2.get`, 1 KiB", running: floor, ...bareBlob(SMALL["1 KiB"]), upload: put },
    { name: "Strata: manifest, hot", ...small, upload: push },
  ];
  const blobs = Array.from({ length: UPLOADS }, (_, index) => digestOf(bytes(SIZE, `upload ${index}`)));
  const results = [];
  for (const measure of measures) results.push(await beside(measure, blobs));
  const rows = results.map(({ alone, p50, p99 }, index) => {
    const ratios = [p50 / alone, p50 / results[0].p50, p50 / results[1].p50];
    return [measures[index].name, figure(alone), figure(p50), ...ratios.map((ratio) => ratio.toFixed(2)), figure(p99)];
  });
  const title = `Small reads beside ${UPLOADS} uploads of ${SIZE / MIB} MiB, at ${PACE / MIB} MiB/s each, into the same Worker`;
  print(
    title,
    [
      "read, 1 connection",
      "p50 alone, ms",
      "p50 beside, ms",
      "of alone",
      "of constant",
      "of `R2.get`",
      "p99 beside, ms",
    ],
    rows,
  );
}

/** Measures reads alone, then during uploads of the blobs. Deletes the blobs afterwards. */
async function beside({ running, path, length, headers, tier, upload }, blobs) {
  const { url } = running;
  const options = { headers: { authorization: basic(), ...headers }, expected: { length, tier }, connections: 1 };
  await load(url, path, options);
  const alone = await load(url, path, { ...options, seconds: 2 });

  const measured = { done: false };
  const sent = blobs.map(async (digest, index) => {
    const reply = await upload(digest, paced(bytes(SIZE, `upload ${index}`), measured));
    if (reply.status !== 201) throw new Error(`an upload got status ${reply.status}: ${reply.body}`);
  });
  // Reconnect: after busy seconds, the runtime takes open connections for idle and closes them.
  const { p50, p99 } = await load(url, path, { ...options, seconds: SECONDS, patient: true, until: Promise.all(sent) });
  measured.done = true;
  await Promise.all(sent);

  const bucket = await running.bucket();
  await bucket.delete((await running.objects()).flatMap(({ key, size }) => (size === SIZE ? [key] : [])));
  return { alone: alone.p50, p50, p99 };
}

/** Yields chunks at `PACE`. Once the measurement is done, yields the rest without delay. */
async function* paced(chunks, measured) {
  const begun = performance.now();
  let sent = 0;
  for (const chunk of chunks) {
    yield chunk;
    sent += chunk.length;
    const due = begun + (sent / PACE) * 1000;
    if (!measured.done) await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
  }
}
