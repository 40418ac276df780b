// Uploads, compared with Workers that only forward the body to R2: the cost of the simulator is the
// floor for both.
import { bytes, digestOf } from "../tests/edge/bytes.mjs";
import { start } from "../tests/edge/harness.mjs";
import { begin, close, patch, whole } from "../tests/edge/push.mjs";
import { median } from "./table.mjs";

const MIB = 1 << 20;
const ROUNDS = 3;

const bare = (options) => ({
  "index.js": `export default {
    async fetch(request, { BUCKET }) {
      const digest = new URL(request.url).searchParams.get("digest");
      await BUCKET.put(digest, request.body, ${options});
      return new Response(null, { status: 201 });
    }
  }`,
});

// How the blob is pushed to each. `modules` are given for Workers other than Strata.
const contestants = [
  {
    name: "bare `R2.put`",
    modules: bare("{}"),
    push: (strata, blob) => whole(strata, "bench/bare", ...announced(blob)),
  },
  {
    name: "`R2.put` with sha256",
    modules: bare(`{ sha256: digest.slice("sha256:".length) }`),
    push: (strata, blob) => whole(strata, "bench/checked", ...announced(blob)),
  },
  { name: "Strata, one POST", push: (strata, blob) => whole(strata, "bench/whole", ...announced(blob)) },
  { name: "Strata, one PATCH of unknown length", push: (strata, blob) => inChunks(strata, blob, blob.size) },
  { name: "Strata, PATCHes of 64 MiB", push: (strata, blob) => inChunks(strata, blob, 64 * MIB) },
];

export async function upload(print) {
  await times(print, 200 * MIB);
  await memory(print, 1024 * MIB);
}

/** Measures all in turns, so that other load on the machine affects all alike. */
async function times(print, size) {
  const running = [];
  try {
    for (const { modules } of contestants) running.push(await start({ probe: false, modules }));
    const seen = contestants.map(() => []);
    for (let round = 0; round <= ROUNDS; round += 1) {
      for (const [index, contestant] of contestants.entries()) {
        const took = await measure(running[index], contestant, blobOf(size, `times ${round} ${index}`));
        // The first round warms up the runtime, the disk and this process.
        if (round > 0) seen[index].push(took);
      }
    }
    const medians = seen.map((rounds) => ({ wall: median(rounds, "wall"), processor: median(rounds, "processor") }));
    const rows = contestants.map(({ name }, index) => {
      const { wall, processor } = medians[index];
      const ratio = (key) => `${(medians[index][key] / medians[0][key]).toFixed(2)}`;
      return [name, wall.toFixed(2), ratio("wall"), processor.toFixed(2), ratio("processor")];
    });
    const columns = ["upload", "seconds", "of bare", "CPU seconds", "of bare"];
    print(`${size / MIB} MiB: medians of ${ROUNDS} rounds in turns`, columns, rows);
  } finally {
    for (const strata of running) await strata.stop();
  }
}

/** Measures memory, each in its own runtime. Idle is the memory after a small upload. */
async function memory(print, size) {
  const rows = [];
  for (const [index, contestant] of contestants.entries()) {
    const strata = await start({ probe: false, modules: contestant.modules });
    try {
      await measure(strata, contestant, blobOf(10 * MIB, `idle ${index}`));
      const idle = strata.memory().resident;
      strata.resetPeak();
      const { wall } = await measure(strata, contestant, blobOf(size, `memory ${index}`), false);
      const { resident, peak } = strata.memory();
      const over = (bytes) => ((bytes - idle) / MIB).toFixed(0);
      rows.push([contestant.name, (idle / MIB).toFixed(0), over(peak), over(resident), wall.toFixed(1)]);
    } finally {
      await strata.stop();
    }
  }
  const columns = ["upload", "idle, MiB", "peak over idle, MiB", "end over idle, MiB", "seconds"];
  print(`${size / MIB} MiB: the runtime's memory, simulated R2 included`, columns, rows);
}

/** Pushes a blob and measures the seconds. Empties the bucket, so that the disk does not fill. */
async function measure(strata, { name, push }, blob, empty = true) {
  const processor = strata.processorSeconds();
  const begun = performance.now();
  const reply = await push(strata, blob);
  if (reply.status !== 201) throw new Error(`${name} answered ${reply.status}: ${reply.body}`);
  const took = { wall: (performance.now() - begun) / 1000, processor: strata.processorSeconds() - processor };
  if (empty) {
    const bucket = await strata.bucket();
    await bucket.delete((await strata.objects()).map(({ key }) => key));
  }
  return took;
}

/**
 * Returns a blob whose bytes are generated at each use. Its digest is known before anything is
 * timed.
 */
function blobOf(size, seed) {
  return { size, digest: digestOf(bytes(size, seed)), bytes: () => bytes(size, seed) };
}

const announced = ({ digest, size, bytes }) => [digest, bytes(), size];

/** Pushes chunks of unknown length and closes without bytes, as clients push from a pipe. */
async function inChunks(strata, { digest, size, bytes }, chunk) {
  let location = await begin(strata, "bench/chunks");
  const source = bytes();
  for (let left = size; left > 0; left -= chunk) {
    const reply = await patch(strata, location, take(source, Math.min(chunk, left)));
    if (reply.status !== 202) return reply;
    location = reply.headers.location;
  }
  return close(strata, location, digest);
}

/** Yields the next `count` bytes of a source. They must end at the end of a chunk. */
function* take(source, count) {
  while (count > 0) {
    const { value } = source.next();
    count -= value.length;
    yield value;
  }
}
