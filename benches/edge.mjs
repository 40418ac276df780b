// The Worker on the simulated edge (tests/edge/simulated.mjs), beside an older version, which was
// written on a simulator without latencies, failures and limits.
//
//   npm run bench -- edge
//   node benches/edge.mjs [TABLE...] [--before VERSION] [--after VERSION] [--pushes N] [--pulls N]
//
// A version is a commit or the folder of a built Worker, and for the table of failures also
// --small-before and --small-after, with parts of 16 KiB.
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { ROOT } from "../scripts/command.mjs";
import { builtOf } from "../scripts/versions.mjs";
import { buffer, bytes, digestOf } from "../tests/edge/bytes.mjs";
import { basic, modulesOf, user, usersOf } from "../tests/edge/harness.mjs";
import { begin, close, manifestOf, patch, whole } from "../tests/edge/push.mjs";
import { FAR, inARow, kindOf, mostInFlight, NEAR, simulate, waits } from "../tests/edge/simulated.mjs";
import { figure, print as toConsole } from "./table.mjs";

const KIB = 1 << 10;
const MIB = 1 << 20;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** The last commit before the Worker was run on the simulated edge. */
const BEFORE = "0b78770";
const OPTIONS = { before: BEFORE, after: join(ROOT, "worker/build"), small: {}, pushes: 200, pulls: 30 };
const SMALL_PART = 16 * KIB;
/** The parts of a GiB. */
const PARTS = 205;

const TABLES = { pushes, crowd, failures, burst, pulls, expiry };

export async function edge(print, tables = Object.keys(TABLES), options = OPTIONS) {
  for (const table of tables) await TABLES[table](print, options);
}

/** Measures both versions, each on an edge of its own: `[before, after]`. */
async function both({ before, after }, play, measure) {
  const measured = [];
  for (const version of [before, after]) {
    const running = await simulate({ ...play, modules: modulesOf(builtOf(version)) });
    try {
      measured.push(await measure(running));
    } catch (error) {
      error.message += `\n${running.log().slice(-2000)}`;
      throw error;
    } finally {
      await running.stop();
    }
  }
  return measured;
}

const pairs = (...names) => names.flatMap((name) => [`${name}, before`, "after"]);
const seconds = (milliseconds) => figure(milliseconds / SECOND);
const mib = (bytes) => (bytes === undefined ? "–" : (bytes / MIB).toFixed(0));
const quantile = (values, share) =>
  values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))];
const sized = (blob) => ({ digest: digestOf(blob), size: blob.length });

/** A client of an isolate, for the requests of push.mjs. */
function clientOf(edge, { name = user, isolate = 0 } = {}) {
  const authorization = basic(name);
  const send = (method, path, { headers, ...rest } = {}) =>
    edge.isolate(isolate).send(method, path, { ...rest, headers: { authorization, ...headers } });
  return { url: edge.url, send };
}

function accepted(reply, ...statuses) {
  assert.ok(statuses.includes(reply.status), `${reply.status}: ${reply.body}`);
  return reply;
}

/** Pushes a blob by one PATCH of unknown length. `body` is a buffer or a generator. */
async function byPatch(client, name, digest, body) {
  const reply = accepted(await patch(client, await begin(client, name), Buffer.isBuffer(body) ? [body] : body), 202);
  accepted(await close(client, reply.headers.location, digest), 201);
}

async function byPut(client, name, digest, body, size) {
  const url = new URL(await begin(client, name), client.url);
  url.searchParams.set("digest", digest);
  const headers = { "content-type": "application/octet-stream", "content-length": size };
  accepted(await client.send("PUT", url, { body, headers }), 201);
}

async function byPost(client, name, digest, body) {
  accepted(await whole(client, name, digest, body), 201);
}

async function putManifest(client, name, { body, mediaType }, reference) {
  const headers = { "content-type": mediaType };
  return client.send("PUT", `/v2/${name}/manifests/${reference}`, { body, headers });
}

/** The highest level of the ledger, if this version reports it. */
const ledgerPeak = async (edge) => (await edge.metrics()).strata_ledger_peak_bytes;

/** Runs a step, and returns its time and the runtime's memory over that of before. */
async function measured(edge, step) {
  const idle = edge.memory().resident;
  edge.resetPeak();
  const begun = edge.now();
  const result = await step();
  const time = edge.now() - begun;
  return { result, time, memory: edge.memory().peak - idle, ledger: await ledgerPeak(edge) };
}

const LARGE = [
  { what: "100 MiB by `PATCH`", size: 100 * MIB, push: byPatch },
  { what: "1 GiB by `PATCH`", size: 1024 * MIB, push: byPatch },
  { what: "100 MiB by `PUT`", size: 100 * MIB, push: byPut },
];

const NAME = "bench/edge";
const small = (seed) => {
  const blob = buffer(10_000, seed);
  return [NAME, digestOf(blob), blob, blob.length];
};

/** Small pushes. `prepare` returns the arguments of `push`. */
const SMALL = [
  { what: "`POST`, `PATCH`, `PUT` of 10 kB", prepare: () => small("patch"), push: byPatch },
  { what: "`POST`, `PUT` of 10 kB", prepare: () => small("put"), push: byPut },
  { what: "`POST ?digest=` of 10 kB", prepare: () => small("post"), push: byPost },
  {
    what: "manifest of 7 blobs",
    async prepare(client) {
      const blobs = Array.from({ length: 7 }, (_, index) => buffer(1000 + index, `blob ${index}`));
      for (const blob of blobs) await byPost(client, NAME, digestOf(blob), blob);
      const [config, ...layers] = blobs.map(sized);
      return [NAME, manifestOf(config, layers), "latest"];
    },
    push: async (...args) => accepted(await putManifest(...args), 201),
  },
];

async function pushes(print, options) {
  // Measure in real time: a faster clock would multiply the time of receiving and hashing.
  const play = { speed: 1, keep: MIB };
  const rows = [];
  for (const { what, size, push } of LARGE) {
    const digest = digestOf(bytes(size, what));
    const timed = async (latency) =>
      both(options, { ...play, latency }, async (edge) => {
        await byPatch(edge, NAME, ...small("idle").slice(1));
        return measured(edge, () => push(edge, NAME, digest, bytes(size, what), size));
      });
    const [near, far] = [await timed(NEAR), await timed(FAR)];
    rows.push([
      what,
      ...near.map(({ time }) => seconds(time)),
      ...far.map(({ time }) => seconds(time)),
      ...far.map(({ memory }) => mib(memory)),
      ...far.map(({ ledger }) => mib(ledger)),
    ]);
  }
  print(
    "Large pushes: seconds, and MiB of memory over idle",
    ["push", ...pairs("near", "far", "runtime's peak", "ledger's peak")],
    rows,
  );

  const columns = [];
  for (const latency of [{ r2: 100, kv: 0 }, NEAR, FAR])
    columns.push(
      await both(options, { ...play, latency: {} }, async (edge) => {
        const figures = [];
        for (const { prepare, push } of SMALL) {
          await edge.set({ latency: {} });
          const args = await prepare(edge);
          await edge.settled();
          await edge.set({ latency });
          await edge.reset();
          const begun = edge.now();
          await push(edge, ...args);
          const end = edge.now();
          const { calls } = await edge.settled();
          const awaited = calls.filter(({ call, ended }) => call.startsWith("r2.") && ended <= end);
          figures.push({ time: end - begun, trips: inARow(awaited), calls: awaited.length });
        }
        return figures;
      }),
    );
  const [exact, near, far] = columns;
  print(
    "Small pushes: calls of R2, round trips in a row, and seconds",
    ["push", ...pairs("calls", "in a row", "near", "far")],
    SMALL.map(({ what }, at) => [
      what,
      ...exact.map((figures) => figures[at].calls),
      ...exact.map((figures) => figures[at].trips),
      ...near.map((figures) => seconds(figures[at].time)),
      ...far.map((figures) => seconds(figures[at].time)),
    ]),
  );
}

async function crowd(print, options) {
  const users = Array.from({ length: 10 }, (_, index) => `user${index}`);
  const uploads = Array.from({ length: 40 }, (_, index) => {
    const size = (5 + ((index * 7) % 16)) * MIB;
    return { name: users[index % users.length], body: () => bytes(size, `crowd ${index}`) };
  });
  const run = (latency) => ({ speed: 1, keep: MIB, latency, vars: { STRATA_USERS: usersOf([user, ...users]) } });
  const measure = (pause) => async (edge) => {
    // Sign in, so that the crowd does not wait for that.
    for (const name of users) accepted(await clientOf(edge, { name }).send("GET", "/v2/"), 200);
    const locations = [];
    for (const { name } of uploads) locations.push(await begin(clientOf(edge, { name }), `crowd/${name}`));
    await edge.reset();
    const patched = await measured(edge, async () => {
      const begun = edge.now();
      const patches = uploads.map(async ({ name, body }, index) => {
        const { status } = await patch(clientOf(edge, { name }), locations[index], paced(edge, body(), pause));
        return { status, time: edge.now() - begun };
      });
      return Promise.all(patches);
    });
    return { ...patched, ...(await edge.settled()) };
  };
  const results = [
    ...(await both(options, run(NEAR), measure(0))),
    ...(await both(options, run(FAR), measure(0))),
    ...(await both(options, run(FAR), measure(SECOND / 2))),
  ];
  const row = (what, of) => [what, ...results.map(of)];
  const times = ({ result }) => result.filter(({ status }) => status === 202).map(({ time }) => time);
  print(
    "40 `PATCH`es of 5 to 20 MiB at once, from ten users, to one isolate",
    ["", ...pairs("near", "far", "far, 2 MiB a second each")],
    [
      row("refused", ({ result }) => result.filter(({ status }) => status !== 202).length),
      row("median of the others, s", (one) => seconds(quantile(times(one), 0.5))),
      row("until the last, s", ({ time }) => seconds(time)),
      row("most calls in flight", ({ calls }) => mostInFlight(calls)),
      row("most of one request", ({ calls, invocations }) =>
        Math.max(...invocations.map(({ id }) => mostInFlight(calls.filter(({ invocation }) => invocation === id)))),
      ),
      row("calls that waited for a connection", ({ calls }) => waits(calls).calls),
      row("runtime's peak over idle, MiB", ({ memory }) => mib(memory)),
      row("ledger's peak, MiB", ({ ledger }) => mib(ledger)),
    ],
  );
}

/** Yields chunks of 1 MiB with a pause before each, as a client on a slow line does. */
async function* paced(edge, chunks, pause) {
  for (const chunk of chunks) {
    await edge.sleep(pause);
    yield chunk;
  }
}

/** Runs so many jobs, a few at a time. */
async function some(count, job, atOnce = 4) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const index = next;
      next += 1;
      await job(index);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function failures(print, options) {
  const { pushes, small } = options;
  const versions = {
    before: small.before ?? builtOf(BEFORE, { part: SMALL_PART }),
    after: small.after ?? builtOf("HEAD", { part: SMALL_PART }),
  };
  const rows = [];
  for (const rate of [1e-4, 1e-3]) {
    const play = { speed: 10, latency: {}, keep: 4 * SMALL_PART, smallParts: true, failures: { rate } };
    const results = await both(versions, play, async (edge) => {
      const client = clientOf(edge);
      const total = { lost: 0, calls: 0, failed: 0, parts: 0 };
      const AT_ONCE = 50;
      for (let done = 0; done < pushes; done += AT_ONCE) {
        await some(Math.min(AT_ONCE, pushes - done), async (index) => {
          const blob = buffer(PARTS * SMALL_PART, `failures ${done + index}`);
          await byPatch(client, NAME, digestOf(blob), blob).catch(() => (total.lost += 1));
        });
        const { calls } = await edge.settled();
        total.calls += calls.length;
        total.failed += calls.filter(({ failed }) => failed).length;
        total.parts += calls.filter(({ call }) => call === "r2.uploadPart").length;
        await edge.reset();
      }
      return total;
    });
    rows.push([
      rate,
      pushes,
      ...results.map(({ parts }) => (parts / pushes).toFixed(0)),
      ...results.map(({ failed }) => failed),
      ...results.map(({ lost }) => lost),
      ...results.map(({ lost }) => `${((100 * lost) / pushes).toFixed(1)} %`),
    ]);
  }
  print(
    `Pushes of ${PARTS} parts by one \`PATCH\`, with parts of 16 KiB, if calls fail: answered 10001 or 10043, or not for 60 s`,
    ["failures a call", "pushes", ...pairs("parts a push", "failed calls", "lost pushes", "share")],
    rows,
  );
}

async function burst(print, options) {
  const [GRACE, CLIENTS] = [200, 16];
  const [FROM, TO, END] = [30 * SECOND, MINUTE, 3 * MINUTE];
  const play = { speed: 10, isolates: 2, vars: { STRATA_GRACE_SECONDS: String(GRACE) } };
  const results = await both(options, play, async (edge) => {
    const start = edge.now();
    await edge.set({ failures: { bursts: [{ from: start + FROM, to: start + TO }] } });
    const answers = [];
    const images = [];
    // A manifest that was answered with 503 may be stored.
    const tried = [];
    const watched = (client) => ({
      url: client.url,
      async send(method, ...rest) {
        const begun = edge.now();
        const reply = await client.send(method, ...rest);
        answers.push({ status: reply.status, begun: begun - start, time: edge.now() - begun });
        return reply;
      },
    });
    const pusher = async (_, index) => {
      const client = watched(clientOf(edge, { isolate: index % 2 }));
      for (let count = 0; edge.now() - start < END; count += 1) {
        const name = `burst/${index}`;
        const [config, layer] = [1000, 50_000].map((size) => buffer(size, `burst ${index} ${count} ${size}`));
        const manifest = manifestOf(sized(config), [sized(layer)]);
        tried.push({ name, manifest });
        try {
          await byPut(client, name, digestOf(config), config, config.length);
          await byPatch(client, name, digestOf(layer), layer);
          accepted(await putManifest(client, name, manifest, `v${count}`), 201);
          images.push({ name, manifest, blobs: [config, layer] });
        } catch {
          // The client pushes something else: nothing may be left of this for good.
        }
        await edge.sleep(10 * SECOND);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, pusher));
    await edge.settled();
    await edge.set({ latency: {}, failures: {} });

    let lost = 0;
    for (const { name, manifest, blobs } of images) {
      const pulls = [
        [`manifests/${manifest.digest}`, manifest.body],
        ...blobs.map((blob) => [`blobs/${digestOf(blob)}`, blob]),
      ];
      const got = pulls.map(async ([path, content]) => {
        const reply = await edge.isolate(1).send("GET", `/v2/${name}/${path}`);
        return reply.status === 200 && reply.body.equals(content);
      });
      if ((await Promise.all(got)).includes(false)) lost += 1;
    }
    await edge.set({ throttle: false });
    for (const { name, manifest } of tried)
      accepted(await edge.send("DELETE", `/v2/${name}/manifests/${manifest.digest}`), 202, 404);
    await sweep(edge, GRACE * SECOND);
    const { objects, uploads } = await edge.stored();
    const left = objects.filter(({ key }) => /^(blobs|extents|refs|uploads)\//.test(key));
    return { answers, images, lost, left, uploads };
  });
  const during = ({ answers }) => answers.filter(({ begun }) => FROM < begun && begun < TO);
  const answered = (status) => (one) => during(one).filter((answer) => status(answer.status)).length;
  const row = (what, of) => [what, ...results.map(of)];
  print(
    `${CLIENTS} clients push during a burst in which all calls fail for 30 s`,
    ["", "before", "after"],
    [
      row(
        "requests in the burst: accepted",
        answered((status) => status < 300),
      ),
      row(
        "503",
        answered((status) => status === 503),
      ),
      row(
        "otherwise refused",
        answered((status) => status >= 300 && status !== 503),
      ),
      row("longest request, s", ({ answers }) => seconds(Math.max(...answers.map(({ time }) => time)))),
      row("images accepted in all", ({ images }) => images.length),
      row("of these not to be pulled", ({ lost }) => lost),
      row("objects left after deletions and sweeps", ({ left }) => left.length),
      row("multipart uploads left, which R2 aborts after seven days", ({ uploads }) => uploads.length),
    ],
  );
  for (const [at, { left }] of results.entries())
    for (const { key } of left.slice(0, 10)) console.log(`left ${["before", "after"][at]}: ${key}`);
}

/** Runs rounds of the sweep, a grace period apart, until two find nothing. */
async function sweep(edge, grace) {
  for (let quiet = 0; quiet < 2; ) {
    await edge.sleep(grace + SECOND);
    let found = 0;
    for (let finished = false; !finished; ) {
      const step = accepted(await edge.send("POST", "/v2/_strata/sweep"), 200, 202).json();
      found += step.count;
      finished = step.finished;
    }
    quiet = found === 0 ? quiet + 1 : 0;
  }
}

async function pulls(print, options) {
  const LAYERS = 10;
  // Over TLS, so that the Worker uses the Cache API.
  const play = { https: true, speed: 1, isolates: 3, latency: {}, keep: MIB, throttle: false };
  const WAYS = ["cold", "hot", "warm"];
  const tables = [];
  for (const [distance, latency] of Object.entries({ near: NEAR, far: FAR })) {
    const results = await both(options, play, async (edge) => {
      const images = [];
      await some(options.pulls, async (index) => {
        const name = `pulls/${index}`;
        const config = buffer(2000, `pulls ${index}`);
        // Every second layer is too large for memory and KV.
        const layers = Array.from({ length: LAYERS }, (_, layer) =>
          buffer(layer % 2 ? 2 * MIB : 50_000, `pulls ${index} ${layer}`),
        );
        for (const blob of [config, ...layers]) await byPost(edge, name, digestOf(blob), blob);
        const manifest = manifestOf(sized(config), layers.map(sized));
        accepted(await putManifest(edge, name, manifest, "latest"), 201);
        images.push({ name, blobs: [config, ...layers].map((blob) => digestOf(blob)), accept: manifest.mediaType });
      });
      await edge.settled();
      await edge.set({ latency, slow: { share: 0.01, times: 10 } });
      const pull = async ({ name, blobs, accept }, isolate) => {
        const client = clientOf(edge, { isolate });
        const begun = edge.now();
        accepted(await client.send("GET", `/v2/${name}/manifests/latest`, { headers: { accept } }), 200);
        // Docker pulls three layers at a time.
        const get = async (index) => accepted(await client.send("GET", `/v2/${name}/blobs/${blobs[index]}`), 200);
        await some(blobs.length, get, 3);
        return edge.now() - begun;
      };
      const round = async (isolate) => {
        await edge.reset();
        const times = [];
        for (const image of images) times.push(await pull(image, isolate));
        const { calls } = await edge.settled();
        return { times, reads: calls.filter(({ call }) => /^(r2\.(get|head)|kv\.get)$/.test(call)) };
      };
      const cold = await round(1);
      const hot = await round(1);
      // After some more reads everything small is in KV.
      await edge.set({ latency: {} });
      for (let time = 0; time < 3; time += 1) await round(1);
      await edge.set({ latency });
      return { cold, hot, warm: await round(2) };
    });
    tables.push([distance, results]);
  }
  print(
    `Pulls of an image of ${LAYERS} layers, every second of 2 MiB, three at a time: seconds of ${options.pulls} pulls; one call in 100 takes ten times as long`,
    ["pull", ...pairs("median", "p99")],
    tables.flatMap(([distance, results]) =>
      WAYS.map((way) => [
        `${way}, ${distance}`,
        ...[0.5, 0.99].flatMap((share) => results.map(({ [way]: { times } }) => seconds(quantile(times, share)))),
      ]),
    ),
  );
  const [[, near]] = tables;
  const kind = ({ call, key }) => `${call.startsWith("kv") ? "KV" : "R2"}, ${call.split(".")[1]} ${kindOf(key)}`;
  const kinds = [...new Set(near.flatMap((result) => WAYS.flatMap((way) => result[way].reads.map(kind))))].sort();
  print(
    "Reads of such a pull",
    ["read", ...pairs(...WAYS)],
    kinds.map((what) => [
      `\`${what}\``,
      ...WAYS.flatMap((way) =>
        near.map(({ [way]: { reads } }) =>
          (reads.filter((read) => kind(read) === what).length / options.pulls).toFixed(1),
        ),
      ),
    ]),
  );
}

async function expiry(print, options) {
  const [ISOLATES, MANIFESTS, STALE, EVERY, DURATION] = [8, 10, 900, MINUTE, HOUR];
  const vars = { STRATA_STALE_SECONDS: String(STALE), STRATA_WARM_PATIENCE_MS: "30000" };
  const play = { speed: 60, isolates: ISOLATES, locations: 4, vars };
  const results = await both(options, play, async (edge) => {
    const manifests = [];
    for (let index = 0; index < MANIFESTS; index += 1) {
      const config = buffer(1000, `expiry ${index}`);
      await byPost(edge, NAME, digestOf(config), config);
      const manifest = manifestOf(sized(config), []);
      accepted(await putManifest(edge, NAME, manifest, `v${index}`), 201);
      manifests.push(manifest);
    }
    await edge.settled();
    await edge.reset();
    const start = edge.now();
    const tiers = {};
    const reader = async (isolate, { digest, mediaType }, phase) => {
      for (let due = start + phase; due < start + DURATION; due += EVERY) {
        await edge.sleep(Math.max(0, due - edge.now()));
        const path = `/v2/${NAME}/manifests/${digest}`;
        const reply = accepted(await edge.isolate(isolate).send("GET", path, { headers: { accept: mediaType } }), 200);
        const tier = reply.headers["x-strata-tier"];
        tiers[tier] = (tiers[tier] ?? 0) + 1;
      }
    };
    const readers = Array.from({ length: ISOLATES }, (_, isolate) =>
      manifests.map((manifest, index) => reader(isolate, manifest, ((isolate * MANIFESTS + index) * 7919) % EVERY)),
    );
    await Promise.all(readers.flat());
    const { calls } = await edge.settled();
    return { tiers, calls };
  });
  const row = (what, of) => [what, ...results.map(of)];
  const count =
    (pattern) =>
    ({ calls }) =>
      calls.filter(({ call }) => pattern.test(call)).length;
  const refused = ({ calls }) =>
    calls.filter(({ call, failed }) => call === "kv.put" && failed?.includes("429")).length;
  print(
    `${ISOLATES} isolates read ${MANIFESTS} manifests once a minute for an hour, which expire every ${STALE / 60} minutes`,
    ["", "before", "after"],
    [
      row("requests", ({ tiers }) => Object.values(tiers).reduce((sum, one) => sum + one, 0)),
      row("answered from memory", ({ tiers }) => tiers.hot ?? 0),
      row("from KV", ({ tiers }) => tiers.warm ?? 0),
      row("from R2", ({ tiers }) => tiers.cold ?? 0),
      row("reads of R2", count(/^r2\.(get|head)$/)),
      row("most of them in a minute", ({ calls }) =>
        busiest(calls.filter(({ call }) => /^r2\.(get|head)$/.test(call))),
      ),
      row("reads of KV", count(/^kv\.get$/)),
      row("writes to KV", count(/^kv\.put$/)),
      row("of these refused with 429", refused),
    ],
  );
}

/** Returns the most calls that began in one minute. */
function busiest(calls) {
  const began = calls.map(({ began }) => began).sort((one, other) => one - other);
  let [first, most] = [0, 0];
  for (const [index, time] of began.entries()) {
    while (began[first] <= time - MINUTE) first += 1;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals } = parseArgs({
    options: {
      before: { type: "string", default: OPTIONS.before },
      after: { type: "string", default: OPTIONS.after },
      "small-before": { type: "string" },
      "small-after": { type: "string" },
      pushes: { type: "string", default: String(OPTIONS.pushes) },
      pulls: { type: "string", default: String(OPTIONS.pulls) },
    },
    allowPositionals: true,
  });
  const unknown = positionals.filter((name) => !Object.hasOwn(TABLES, name));
  if (unknown.length > 0)
    throw new Error(`no table ${unknown.join(", ")}: there are ${Object.keys(TABLES).join(", ")}`);
  await edge(toConsole, positionals.length > 0 ? positionals : undefined, {
    before: values.before,
    after: values.after,
    small: { before: values["small-before"], after: values["small-after"] },
    pushes: Number(values.pushes),
    pulls: Number(values.pulls),
  });
}
