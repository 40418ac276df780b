// The relay, behind an edge that answers 413: pushes of a large layer by each client and of four
// layers at a time, cut connections, kills of the relay, its memory, and its time beside that of a
// bare client; then pulls of the layer before and after its extents are joined.
//
//   node tests/judges/relay.mjs                          all steps, with a layer of 1.2 GiB
//   … --only docker                                      one step; may be repeated
//   … --size 12MB --limit 8MB --chunk 6MB                a small run
//   … --list                                             the names of the steps
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run } from "../../scripts/command.mjs";
import { bytes, digestOf } from "../edge/bytes.mjs";
import { basic, password, start, user } from "../edge/harness.mjs";
import { send } from "../edge/http.mjs";
import { memoryOf } from "../edge/process.mjs";
import { manifestOf, pull, whole } from "../edge/push.mjs";
import { rounds } from "../edge/rounds.mjs";
import { blobPath, writeLayout } from "../images/layout.mjs";
import { startEdge } from "../relay/edge.mjs";
import { PUSHERS } from "./pushers.mjs";
import { chosenOf, must, runSteps } from "./steps.mjs";

const RELAY = fileURLToPath(new URL("../../relay/relay.mjs", import.meta.url));
const CHUNKS = fileURLToPath(new URL("chunks.mjs", import.meta.url));
const MIB = 1 << 20;
const NAME = "judge/app";
const ACCEPT = ["oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.manifest.v2"]
  .map((type) => `application/vnd.${type}+json`)
  .join(", ");

/** The bounds that the steps check. */
const TIMES = 5;
const MEMORY = 64 * MIB;
const RATIO = 1.15;
/** Below this many bytes a push is too short for its time to be compared. */
const COMPARABLE = 200e6;

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "1.2GiB" },
    limit: { type: "string", default: "100MB" },
    // By default the relay uses what the registry announces, and this is what it announces.
    chunk: { type: "string" },
    only: { type: "string", multiple: true },
    list: { type: "boolean" },
  },
});

const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, KiB: 1 << 10, MiB: MIB, GiB: 1 << 30 };

function bytesOf(text) {
  const [, number, unit = "B"] = /^(\d+(?:\.\d+)?)([kMG]?B|[KMG]iB)?$/.exec(text) ?? [];
  if (number === undefined) throw new Error(`${text} is not a size: use 12MB or 1.2GiB`);
  return Math.round(Number(number) * UNITS[unit]);
}

const [SIZE, LIMIT, CHUNK] = [values.size, values.limit, values.chunk ?? "95MB"].map(bytesOf);

const mega = (count) => `${(count / 1e6).toFixed(1)} MB`;
const mebi = (count) => `${(count / MIB).toFixed(1)} MiB`;
const short = (digest) => digest.slice(0, 19);

// ------------------------------------------------------------------------------------------- Image

let made;

/**
 * Makes the image once, with one layer of random bytes: as a folder of its files, as a tar of them,
 * and as a layout with `manifest` and `blobs`.
 */
function image(folder) {
  made ??= (async () => {
    const [stage, layout, tar] = ["stage", "layout", "stage.tar"].map((name) => join(folder, name));
    await mkdir(stage);
    await pipeline(Readable.from(bytes(SIZE, "relay")), createWriteStream(join(stage, "random")));
    await must("tar", ["--create", `--file=${tar}`, "--owner=0", "--group=0", `--directory=${stage}`, "random"]);
    const written = await writeLayout(layout, [stage]);
    const layer = { ...written.blobs[1], file: blobPath(layout, written.blobs[1].digest) };
    return { stage, tar, layout, layer, ...written };
  })();
  return made;
}

// ------------------------------------------------------------------------------------ Surroundings

/**
 * Starts the relay as a user does. Resolves with `port`, `peak()`, the most memory that it had, and
 * `end(signal)`.
 */
async function startRelay({ edge, folder, port = 0, chunk = values.chunk && CHUNK }) {
  const options = ["--to", edge.url.origin, "--port", String(port), "--state", join(folder, "state")];
  const relay = begin([...options, ...(chunk ? ["--chunk", String(chunk)] : [])], folder);
  const ready = () => /^relay \S+ on localhost:(\d+) /m.exec(relay.printed());
  while (!ready()) {
    assert.equal(relay.child.exitCode, null, relay.printed());
    await sleep(5);
  }
  return { ...relay, port: Number(ready()[1]) };
}

/** Ends the processes and servers of a step, which stops them itself unless it fails. */
const ends = new Set();
process.once("exit", () => {
  for (const end of ends) end();
});

/** Starts relay.mjs with its temporary files in a folder. */
function begin(args, folder, env = {}) {
  const child = spawn(process.execPath, [RELAY, ...args], {
    env: { PATH: process.env.PATH, HOME: folder, TMPDIR: join(folder, "tmp"), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const kill = () => child.kill("SIGKILL");
  ends.add(kill);
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (printed += text));
  const ended = once(child, "close").then(([code]) => {
    ends.delete(kill);
    return code;
  });
  return {
    child,
    ended,
    printed: () => printed,
    peak: () => memoryOf(child.pid).peak,
    async end(signal = "SIGKILL") {
      child.kill(signal);
      await ended;
    },
  };
}

/** Passes connections on to a port, and counts the statuses of the responses that a client got. */
async function startTap(port) {
  const [statuses, sockets] = [new Map(), new Set()];
  const server = net.createServer((client) => {
    const target = net.connect(port, "127.0.0.1");
    sockets.add(client).add(target);
    let end = "";
    target.on("data", (chunk) => {
      const text = end + chunk.toString("latin1");
      for (const [, status] of text.matchAll(/HTTP\/1\.1 (\d{3}) /g))
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      // A status line may be cut, but no whole one is counted twice.
      end = text.slice(-12);
    });
    for (const [one, other] of [
      [client, target],
      [target, client],
    ])
      one.on("error", () => other.destroy()).pipe(other);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  ends.add(stop);
  return { port: server.address().port, statuses, stop };
}

/** Runs a step with a registry of its own, behind the edge. */
async function behindEdge(play, options) {
  const folder = await mkdtemp(join(tmpdir(), "strata-judge-"));
  await mkdir(join(folder, "tmp"));
  const strata = await start({ probe: false, folder: join(folder, "strata"), ...options });
  const edge = await startEdge({ origin: strata.url, limit: LIMIT });
  try {
    return await play({ folder, strata, edge });
  } finally {
    for (const end of ends) end();
    ends.clear();
    await edge.stop();
    await strata.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs work with a client, and stops its daemon. */
async function withClient(name, folder, work) {
  const { packs, ready } = PUSHERS[name];
  const pusher = await ready();
  note(pusher.versions);
  const client = await pusher.open(folder, await image(SHARED));
  if (client.versions) note(client.versions);
  try {
    return await work({ ...client, packs });
  } finally {
    await client.stop();
  }
}

// ------------------------------------------------------------------------------------------ Checks

/** The versions of the programs that ran, in the order of their first use. */
const versions = new Set();
const note = (version) => versions.add(version);

async function pullManifest(url, name, headers) {
  const found = await send(new URL(`/v2/${name}/manifests/v1`, url), { headers: { accept: ACCEPT, ...headers } });
  assert.equal(found.status, 200, `${name}: ${found.body}`);
  return { bytes: found.body, digest: digestOf(found.body), json: found.json() };
}

/**
 * Reads the image from the registry, each blob with its digest; the largest layer has at least
 * `least` bytes. Resolves with the manifest's digest, and the bytes of that layer and of all blobs.
 */
async function stored(strata, expected, least = SIZE) {
  const manifest = await pullManifest(strata.url, NAME, { authorization: basic() });
  if (expected) assert.equal(manifest.digest, expected, "the manifest differs from the one pushed without a limit");
  const { config, layers } = manifest.json;
  for (const { digest, size } of [config, ...layers])
    assert.deepEqual(await pull(strata, NAME, digest), { status: 200, size, digest });
  const layer = Math.max(...layers.map(({ size }) => size));
  assert.ok(layer >= least, `the largest layer has ${layer} bytes`);
  const sizes = [config, ...layers].map(({ size }) => size);
  return { digest: manifest.digest, layer, sum: sizes.reduce((sum, size) => sum + size) };
}

/** Returns the digest of the manifest that a client pushes to a registry without a limit. */
async function digestWithoutLimit({ folder }, client) {
  if (!client.packs) return (await image(SHARED)).manifest.digest;
  const { startDistribution, missing } = await import("../edge/upstream.mjs");
  assert.ok(!missing, missing);
  await mkdir(join(folder, "distribution"));
  const distribution = await startDistribution(join(folder, "distribution"));
  try {
    await client.push(`localhost:${distribution.url.port}`, NAME);
    return (await pullManifest(distribution.url, NAME)).digest;
  } finally {
    await distribution.stop();
  }
}

let idle;

/** Returns the most memory of a Node that does nothing, in bytes. */
async function idlePeak() {
  if (idle !== undefined) return idle;
  const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60_000)"], { stdio: "ignore" });
  await sleep(1000);
  idle = memoryOf(child.pid).peak;
  child.kill();
  return idle;
}

/** Checks the memory of relays by their peaks. Returns it over an idle Node, as text. */
async function memory(...peaks) {
  const over = Math.max(...peaks) - (await idlePeak());
  assert.ok(over <= MEMORY, `the relay took ${mebi(over)} over an idle Node, at most ${mebi(MEMORY)} are allowed`);
  return `relay ${mebi(over)} over an idle Node`;
}

/** Checks the bytes of blobs that passed the edge. Returns them as text. */
function sent(edge, { sum }, interruptions) {
  const most = sum + interruptions * CHUNK;
  // Some clients push the manifest twice.
  const requests = edge.requests.filter(({ path }) => path.includes("/blobs/"));
  const passed = requests.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(passed <= most, `${passed} bytes were sent, at most ${most} are allowed`);
  return `${mega(passed)} sent for ${mega(sum)}, at most ${mega(most)}`;
}

/** Checks that neither temporary files nor entries of the journal are left. */
function leftNothing(folder) {
  const left = ["tmp", "state/uploads"].flatMap((name) =>
    existsSync(join(folder, name)) ? readdirSync(join(folder, name)) : [],
  );
  assert.deepEqual(left, [], "the relay left files");
}

// ------------------------------------------------------------------------------------------- Steps

/** A client pushes through the relay, and no 413 reaches it. */
const pushes =
  (name, { chunk, isRefused = false } = {}) =>
  () =>
    behindEdge(async (around) => {
      const { folder, strata, edge } = around;
      return withClient(name, folder, async (client) => {
        const relay = await startRelay({ edge, folder, chunk });
        const tap = await startTap(relay.port);
        const begun = performance.now();
        await client.push(`localhost:${tap.port}`, NAME);
        const seconds = (performance.now() - begun) / 1000;
        const over = await memory(relay.peak());
        await relay.end("SIGTERM");
        tap.stop();
        assert.ok(!tap.statuses.has("413"), "a 413 reached the client");
        assert.equal(edge.refusals > 0, isRefused, `the edge refused ${edge.refusals} requests`);
        const found = await stored(strata, await digestWithoutLimit(around, client));
        leftNothing(folder);
        const responses = [...tap.statuses.values()].reduce((sum, count) => sum + count, 0);
        return [
          `layer ${mega(found.layer)} in ${seconds.toFixed(1)} s`,
          `no 413 in ${responses} responses, ${edge.refusals} at the edge`,
          `manifest ${short(found.digest)} ${client.packs ? "as at distribution" : "of the layout"}`,
          isRefused ? `${mega(edge.received)} sent` : sent(edge, found, 0),
          over,
        ].join(", ");
      });
    });

/** Without the relay, the edge refuses the layer. */
const without = () =>
  behindEdge(({ folder, strata, edge }) =>
    withClient("skopeo", folder, async (client) => {
      // The client sees the 413, or that the edge closes the connection.
      await assert.rejects(client.push(`localhost:${edge.url.port}`, NAME));
      assert.ok(edge.refusals > 0, "the edge refused nothing");
      assert.equal((await strata.send("GET", `/v2/${NAME}/manifests/v1`)).status, 404);
      return `the push failed after ${edge.refusals} responses with 413`;
    }),
  );

/** Waits until a condition holds, or work has ended. */
async function until(condition, work) {
  let isOver = false;
  const done = () => (isOver = true);
  work.then(done, done);
  while (!isOver && !condition()) await sleep(2);
  return !isOver;
}

/** docker pushes while the connection from the relay to the registry is cut. */
const cuts = () =>
  behindEdge(({ folder, strata, edge }) =>
    withClient("docker", folder, async (client) => {
      const relay = await startRelay({ edge, folder });
      const pushing = client.push(`localhost:${relay.port}`, NAME);
      for (let times = 1; times <= TIMES; times += 1) {
        edge.cut(SIZE / (TIMES + 1));
        await until(() => edge.cuts === times, pushing);
      }
      await pushing;
      assert.equal(edge.cuts, TIMES, `only ${edge.cuts} cuts before the end of the push`);
      const over = await memory(relay.peak());
      await relay.end("SIGTERM");
      const found = await stored(strata);
      leftNothing(folder);
      return `${edge.cuts} cuts, ${sent(edge, found, TIMES)}, ${over}`;
    }),
  );

/**
 * The bytes that a relay has sent when it is killed, for each kill: the first is in the second
 * chunk, so that the others resume.
 */
const KILLS = [CHUNK + SIZE / 12, ...Array(TIMES - 1).fill(SIZE / 12)];

/** The relay pushes a layout itself, and is killed. */
const killsPush = () =>
  behindEdge(async ({ folder, strata, edge }) => {
    const { layout, manifest } = await image(SHARED);
    const push = () => pushLayout({ edge, folder, layout, name: NAME });
    const peaks = [];
    for (const more of KILLS) {
      const from = edge.received;
      const { peak, ended, end, printed } = push();
      const isAlive = await until(() => edge.received - from >= more, ended);
      assert.ok(isAlive, `the push ended before it was killed: ${printed()}`);
      peaks.push(peak());
      await end();
    }
    const last = push();
    assert.equal(await last.ended, 0, last.printed());
    const found = await stored(strata, manifest.digest);
    leftNothing(folder);
    const resumed = /resuming a layer of \S+ at (.*)/.exec(last.printed());
    assert.ok(resumed, `the last push did not resume: ${last.printed()}`);
    return `${TIMES} kills, ${sent(edge, found, TIMES)}, the last push resumed at ${resumed[1]}, ${await memory(...peaks)}`;
  });

/** How many blobs a push sends at a time. */
const AT_ONCE = 4;

/** Starts a push without a daemon. */
function pushLayout({ edge, folder, layout, name }) {
  const chunk = values.chunk ? ["--chunk", String(CHUNK)] : [];
  const options = ["--state", join(folder, "state"), "--blobs", String(AT_ONCE), ...chunk];
  const to = `${edge.url.origin}/${name}:v1`;
  return begin(["push", layout, "--to", to, ...options], folder, { RELAY_USER: user, RELAY_PASSWORD: password });
}

/** Pushes without a daemon. Resolves at its end, with its seconds and the most memory it took. */
async function pushToEnd(options) {
  const begun = performance.now();
  const { ended, peak, printed } = pushLayout(options);
  let most = 0;
  const look = setInterval(() => (most = Math.max(most, peak() || 0)), 50);
  const code = await ended;
  clearInterval(look);
  assert.equal(code, 0, printed());
  return { seconds: (performance.now() - begun) / 1000, peak: most };
}

/** The relay pushes a layout itself, with layers of a quarter of the size, all at the same time. */
const layers = () =>
  behindEdge(async ({ folder, strata, edge }) => {
    const [layout, size] = [join(folder, "layout"), Math.floor(SIZE / AT_ONCE)];
    const stages = Array.from({ length: AT_ONCE }, (_, index) => join(folder, `stage-${index}`));
    for (const stage of stages) {
      await mkdir(stage);
      await pipeline(Readable.from(bytes(size, stage.slice(-1))), createWriteStream(join(stage, "random")));
    }
    const { manifest } = await writeLayout(layout, stages);
    const { seconds, peak } = await pushToEnd({ edge, folder, layout, name: NAME });
    const found = await stored(strata, manifest.digest, size);
    leftNothing(folder);
    assert.equal(overlap(edge, size), AT_ONCE, "the layers were not sent at the same time");
    const text = `${AT_ONCE} layers of ${mega(size)} at the same time in ${seconds.toFixed(1)} s`;
    return `${text}, ${sent(edge, found, 0)}, ${await memory(peak)}`;
  });

/** Returns the number of layers of a size whose uploads had begun before any of them ended. */
function overlap(edge, size) {
  const uploads = new Map();
  for (const [at, { path, bytes }] of edge.requests.entries()) {
    const [, id] = /\/blobs\/uploads\/([^/?]+)/.exec(path) ?? [];
    const { first = at, sum = 0 } = uploads.get(id) ?? {};
    if (id) uploads.set(id, { first, last: at, sum: sum + bytes });
  }
  const all = [...uploads.values()].filter(({ sum }) => sum >= size);
  const end = Math.min(...all.map(({ last }) => last));
  return all.filter(({ first }) => first < end).length;
}

/** docker pushes while the relay is killed and started again, and pushes again if it gives up. */
const killsDocker = () =>
  behindEdge(({ folder, strata, edge }) =>
    withClient("docker", folder, async (client) => {
      let relay = await startRelay({ edge, folder });
      const { port } = relay;
      let attempts = 0;
      const pushing = (async () => {
        for (;;) {
          attempts += 1;
          try {
            return await client.push(`localhost:${port}`, NAME);
          } catch (error) {
            if (attempts > TIMES) throw error;
            // The relay may not have started again yet.
            await sleep(1000);
          }
        }
      })();
      const [peaks, resumed] = [[], []];
      const look = () => {
        peaks.push(relay.peak());
        resumed.push(...[...relay.printed().matchAll(/resuming a layer of \S+ at (.*)/g)].map(([, at]) => at));
      };
      for (const more of KILLS) {
        const from = edge.received;
        const isAlive = await until(() => edge.received - from >= more, pushing);
        if (!isAlive) await pushing;
        assert.ok(isAlive, "docker ended before the relay was killed");
        look();
        await relay.end();
        relay = await startRelay({ edge, folder, port });
      }
      await pushing;
      look();
      await relay.end("SIGTERM");
      const found = await stored(strata);
      leftNothing(folder);
      assert.ok(resumed.length > 0, "no relay resumed the layer");
      const again = attempts > 1 ? ` (${attempts} docker pushes)` : "";
      const places = `resumed at ${resumed.join(", ")}`;
      return `${TIMES} kills${again}, ${sent(edge, found, TIMES)}, ${places}, ${await memory(...peaks)}`;
    }),
  );

/** Runs the bare client, and resolves with its seconds. `chunk` 0 sends one request. */
async function bare(url, name, { file, digest }, chunk) {
  const args = [CHUNKS, url, name, file, digest, String(chunk)];
  const { stdout } = await must(process.execPath, args, { env: { AUTHORIZATION: basic() } });
  return Number(stdout);
}

/**
 * Compares the time of the relay with that of a client that sends the same chunks itself, best of
 * three, in turns. `push` pushes the layer under a name by the relay, and resolves with its
 * seconds.
 */
async function compare(edge, layer, push) {
  // The first push stores the layer, and all others find it.
  await bare(edge.url.origin, "judge/warm-up", layer, CHUNK);
  const [direct, relayed] = [[], []];
  for (let round = 0; round < 3; round += 1) {
    direct.push(await bare(edge.url.origin, `judge/direct-${round}`, layer, CHUNK));
    relayed.push(await push(`judge/relayed-${round}`));
  }
  const [one, other] = [direct, relayed].map((seconds) => Math.min(...seconds));
  const ratio = other / one;
  const figures = [direct, relayed].map((seconds) => seconds.map((second) => second.toFixed(2)).join(" "));
  const text = `${ratio.toFixed(2)} of the bare client's time (${figures[1]} s beside ${figures[0]} s)`;
  if (layer.size < COMPARABLE) return `${text}; a layer of ${mega(layer.size)} is too small to compare`;
  assert.ok(ratio <= RATIO, `${text}, at most ${RATIO} is allowed`);
  return text;
}

/** The time of a push through the relay, by a client that sends one request. */
const time = () =>
  behindEdge(async ({ folder, edge }) => {
    const { layer } = await image(SHARED);
    const relay = await startRelay({ edge, folder });
    const origin = `http://localhost:${relay.port}`;
    const text = await compare(edge, layer, (name) => bare(origin, name, layer, 0));
    const over = await memory(relay.peak());
    await relay.end("SIGTERM");
    return `${text}, ${over}`;
  });

/** The time of a push of a layout by the relay itself, with its start. */
const timePush = () =>
  behindEdge(async ({ folder, edge }) => {
    const { layer, layout } = await image(SHARED);
    const peaks = [];
    const text = await compare(edge, layer, async (name) => {
      const { seconds, peak } = await pushToEnd({ edge, folder, layout, name });
      peaks.push(peak);
      return seconds;
    });
    return `${text}, ${await memory(...peaks)}`;
  });

/** The seconds of grace, in which the layers are pushed and pulled several times. */
const GRACE = 16 + Math.ceil(SIZE / 5e6);
/** The seconds after which the isolate looks for a layer's extents again. */
const STALE = 1;

/**
 * The pull of a layer that the relay pushed in chunks, before and after the sweep joins its
 * extents, beside a layer of the same size that was pushed in one request.
 */
const joins = () =>
  behindEdge(
    async ({ folder, strata, edge }) => {
      const { layer, layout } = await image(SHARED);
      await pushToEnd({ edge, folder, layout, name: NAME });
      const undivided = await pushUndivided(strata, layer.size);
      const kind = async () => (await strata.send("GET", `/v2/_strata/blobs/${layer.digest}`)).json().kind;

      assert.equal(await kind(), "extents");
      const extents = Math.ceil(layer.size / CHUNK);
      const before = await pulls(strata, layer, undivided);
      for (const { reads } of before.layer) assert.equal(reads.extents, extents);

      // The sweep joins blobs that are older than half the grace period.
      await rounds(strata, { times: 1, grace: GRACE / 2 });
      assert.equal(await kind(), "bytes");
      await sleep(STALE * 1000 + 500);
      const after = await pulls(strata, layer, undivided);
      for (const { reads } of after.layer) assert.equal(reads.extents, 0);
      // The first pull finds that the link's extents were joined.
      const [reads, others] = [after.layer, after.undivided].map((all) => all.at(-1).reads);
      assert.deepEqual([reads, others], Array(2).fill({ extents: 0, blobs: 1 }));
      const [many, joined] = [before, after].map((one) => ratioOf(one.layer, one.undivided));
      const times = `${many} of the time of an undivided layer, joined in ${joined}`;
      return `a pull of ${mega(layer.size)} in ${extents} extents takes ${times}; it opens ${extents} objects, joined 1`;
    },
    { probe: true, vars: { STRATA_GRACE_SECONDS: String(GRACE), STRATA_STALE_SECONDS: String(STALE) } },
  );

/** Pushes another layer of a size in one request, past the edge. Resolves with its descriptor. */
async function pushUndivided(strata, size) {
  const digest = digestOf(bytes(size, "undivided"));
  const pushed = await whole(strata, "judge/undivided", digest, Readable.from(bytes(size, "undivided")), size);
  assert.equal(pushed.status, 201, pushed.body.toString());
  const config = Buffer.from("{}");
  assert.equal((await whole(strata, "judge/undivided", digestOf(config), config)).status, 201);
  const { body, mediaType } = manifestOf({ digest: digestOf(config), size: config.length }, [{ digest, size }]);
  const headers = { "content-type": mediaType };
  const tagged = await strata.send("PUT", "/v2/judge/undivided/manifests/v1", { headers, body });
  assert.equal(tagged.status, 201, tagged.body.toString());
  return { digest, size };
}

/**
 * Pulls both layers three times, in turns. Resolves with the seconds of each pull, and with its
 * reads of extents and of blobs from R2.
 */
async function pulls(strata, layer, undivided) {
  const found = { layer: [], undivided: [] };
  for (let round = 0; round < 3; round += 1) {
    for (const [kind, name, { digest, size }] of [
      ["layer", NAME, layer],
      ["undivided", "judge/undivided", undivided],
    ]) {
      await strata.reset();
      const begun = performance.now();
      assert.deepEqual(await pull(strata, name, digest), { status: 200, size, digest });
      const seconds = (performance.now() - begun) / 1000;
      const calls = (await strata.calls()).filter(({ call }) => call === "r2.get");
      const of = (folder) => calls.filter(({ key }) => key.startsWith(folder)).length;
      found[kind].push({ seconds, reads: { extents: of("extents/"), blobs: of("blobs/") } });
    }
  }
  return found;
}

/** Returns the ratio of the shortest times, as text. */
function ratioOf(one, other) {
  const [first, second] = [one, other].map((all) => Math.min(...all.map(({ seconds }) => seconds)));
  return (first / second).toFixed(2);
}

const STEPS = {
  ...Object.fromEntries(Object.keys(PUSHERS).map((name) => [name, pushes(name)])),
  without,
  // The relay begins with chunks that the edge refuses.
  refused: pushes("skopeo", { chunk: Math.round(LIMIT * 1.2), isRefused: true }),
  layers,
  cuts,
  "kills-push": killsPush,
  "kills-docker": killsDocker,
  time,
  "time-push": timePush,
  joins,
};

// -------------------------------------------------------------------------------------------- Main

const chosen = chosenOf(Object.keys(STEPS), values);

const SHARED = await mkdtemp(join(tmpdir(), "strata-judge-image-"));
note(`node ${process.version}`);
note(`relay ${(await run(process.execPath, [RELAY, "--version"])).stdout.trim()}`);
try {
  await runSteps(chosen, (name) => STEPS[name]());
} finally {
  await rm(SHARED, { recursive: true, force: true });
}
const sizes = `layer ${mega(SIZE)}, limit ${mega(LIMIT)}, chunk ${mega(CHUNK)}`;
console.log(`  ${sizes}; ${[...versions].join(", ")}`);
