// A soak: clients push, mount, delete, pull and sweep at the same time, with seconds of grace, and
// the Worker is killed now and then. Each image that was accepted and not deleted must always come
// whole.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { manifestOf } from "./push.mjs";

const REPOSITORIES = ["soak/a", "soak/b", "soak/c", "soak/deep/er"];
const ISOLATES = 2;
/** The grace period in seconds: the least that the setting allows. */
const GRACE = 4;

/**
 * Soaks a registry, and returns its counts, losses and leftovers.
 *
 * @param {object} options
 * @param {number} options.seconds how long, at the least
 * @param {number} [options.pushes] how many images are pushed until then, at the least
 * @param {number} [options.keep] how many images nobody deletes
 * @param {number} options.kills how many times the Worker is killed meanwhile
 * @param {number} [options.pushers] how many push; there are as many pullers, half as many deleters
 *   and two sweepers
 * @param {number} [options.blobs] how many different blobs all images are made of
 * @param {number} [options.seed] of all random numbers
 * @param {(line: string) => void} [options.say] gets lines about the progress
 */
export async function soak({
  seconds,
  pushes = 1,
  keep = 40,
  kills,
  pushers = 6,
  blobs = 60,
  seed = 1,
  say = () => {},
}) {
  const folder = await mkdtemp(join(tmpdir(), "strata-soak-"));
  const played = new Soak(folder, blobs, seed);
  try {
    await played.begin();
    const until = Date.now() + seconds * 1000;
    const isOver = () => Date.now() >= until && played.counts.pushed >= pushes;
    const many = (count, play) => Array.from({ length: count }, (_, index) => played.play(isOver, index, play));
    const players = [
      ...many(pushers, (lot, index, turn) => played.push(lot, index, turn)),
      ...many(pushers, (lot) => played.pull(lot)),
      ...many(Math.ceil(pushers / 2), (lot) => played.remove(lot, keep)),
      ...many(ISOLATES, (_, index) => played.sweep(index)),
    ];
    const watching = played.watch(isOver, say);
    for (let kill = 1; kill <= kills; kill += 1) {
      await sleep((seconds * 1000) / (kills + 1));
      await played.kill();
    }
    await Promise.all([...players, watching]);
    say("verifying everything");
    await played.verify();
    await played.sweepUntilQuiet();
    const orphans = await played.orphans();
    await played.verify();
    const accepted = played.accepted.size;
    await played.removeAll();
    await played.sweepUntilQuiet();
    const left = (await played.strata.objects()).map(({ key }) => key).filter((key) => !REMAINS.test(key));
    return { ...played.counts, accepted, lost: played.lost, orphans, left };
  } finally {
    await played.end();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The keys that remain when everything was deleted and swept: docs/sweep.md. */
const REMAINS = /^(catalog\/|repositories\/.*\/_tags\/|sweep\/(cursor|inventory))/;

/**
 * An error after which a client can retry: the Worker was killed, or the store or a sweep
 * interfered.
 */
class Again extends Error {}

class Soak {
  /**
   * Manifests that were accepted and not deleted: `name@digest` → `{ name, digest, body, blobs }`.
   */
  accepted = new Map();
  counts = {
    requests: 0,
    pushed: 0,
    pushedAgain: 0,
    deleted: 0,
    pulled: 0,
    blobsPulled: 0,
    sweeps: 0,
    removals: 0,
    kills: 0,
    storeOperations: 0,
    again: 0,
  };
  /** Failed pulls, as lines. */
  lost = [];
  #tried = new Map();
  #running;
  #folder;
  #pool;
  #seed;

  constructor(folder, blobs, seed) {
    this.#folder = folder;
    this.#seed = seed;
    // Some are larger than one part of an upload.
    this.#pool = Array.from({ length: blobs }, (_, index) => {
      const content = buffer(index % 20 === 19 ? 6 << 20 : 200 + index * 500, `soak ${seed} ${index}`);
      return { content, digest: digestOf(content), size: content.length };
    });
  }

  get strata() {
    return this.started;
  }

  begin() {
    const vars = { STRATA_GRACE_SECONDS: String(GRACE), STRATA_LOG: "errors" };
    this.#running = start({ folder: this.#folder, isolates: ISOLATES, vars }).then((strata) => (this.started = strata));
    return this.#running;
  }

  async end() {
    await this.started?.stop();
  }

  /** Kills the Worker, and starts it again on the same bucket. */
  async kill() {
    const { started } = this;
    this.counts.kills += 1;
    await this.#tally();
    process.kill(started.pid, "SIGKILL");
    this.#running = started.stop().then(() => this.begin());
    await this.#running;
  }

  /** Runs a player's turns until the end, with random numbers of its own. */
  async play(isOver, index, turn) {
    const lot = lots(`${this.#seed} ${turn} ${index}`);
    for (let count = 0; !isOver(); count += 1) {
      try {
        await turn(lot, index, count);
      } catch (error) {
        if (!(error instanceof Again)) throw error;
        this.counts.again += 1;
        await sleep(50 + lot(200));
      }
    }
  }

  async watch(isOver, say) {
    while (!isOver()) {
      await sleep(5_000);
      await this.#tally().catch(() => {});
      const { requests, pushed, deleted, pulled, removals, kills } = this.counts;
      say(
        `${requests} requests, ${pushed} pushed, ${deleted} deleted, ${pulled} pulled, ${removals} swept, ${kills} kills, ${this.accepted.size} stored, ${this.lost.length} lost`,
      );
    }
  }

  /** Adds up the calls of the store, and resets the probe. */
  async #tally() {
    for (let index = 0; index < ISOLATES; index += 1) {
      const isolate = this.started.isolate(index);
      const calls = Object.entries(await isolate.counts());
      await isolate.reset();
      this.counts.storeOperations += calls.reduce((sum, [, { calls }]) => sum + calls, 0);
    }
  }

  /** Sends a request to one of the isolates. Throws `Again` if a client can retry it. */
  async #send(method, path, { isolate, ...options } = {}) {
    const strata = await this.#running;
    this.counts.requests += 1;
    const reply = await strata
      .isolate(isolate ?? this.counts.requests % ISOLATES)
      .send(method, path, options)
      .catch((error) => {
        throw new Again(error.message);
      });
    if (reply.status >= 500 || reply.status === 429) throw new Again(`${method} ${path}: ${reply.status}`);
    return reply;
  }

  /** Pushes an image of blobs that others push, use and delete as well. */
  async push(lot, index, count) {
    const name = pick(lot, REPOSITORIES);
    const [config, ...layers] = Array.from({ length: 2 + lot(4) }, () => pick(lot, this.#pool));
    const { body, digest, mediaType } = manifestOf(
      { ...plain(config), annotations: { pusher: `${index} ${count} ${this.counts.kills}` } },
      layers.map(plain),
    );
    const blobs = [...new Set([config, ...layers])];
    const reference = lot(3) ? `pusher-${index}-${count % 7}` : digest;
    this.#tried.set(`${name}@${digest}`, { name, digest });
    for (let tries = 0; ; tries += 1) {
      // Push missing blobs, and all of them after a refusal, as clients do.
      for (const blob of blobs)
        if (tries > 0 || (await this.#send("HEAD", `/v2/${name}/blobs/${blob.digest}`)).status !== 200)
          await this.#pushBlob(lot, name, blob);
      const reply = await this.#send("PUT", `/v2/${name}/manifests/${reference}`, {
        body,
        headers: { "content-type": mediaType },
      });
      if (reply.status === 201) break;
      assert.ok(
        [400, 404].includes(reply.status) && reply.json().errors[0].code === "MANIFEST_BLOB_UNKNOWN",
        `PUT of a manifest: ${reply.status} ${reply.body}`,
      );
      this.counts.pushedAgain += 1;
      if (tries === 20) throw new Again("blobs were still missing after 20 retries");
    }
    this.accepted.set(`${name}@${digest}`, { name, digest, body, blobs });
    this.counts.pushed += 1;
  }

  /** Pushes a blob in one of the four ways of clients. */
  async #pushBlob(lot, name, { content, digest }) {
    const uploads = `/v2/${name}/blobs/uploads/`;
    const type = { "content-type": "application/octet-stream" };
    const done = (reply) => {
      if (reply.status === 404 || reply.status === 416) throw new Again("the upload is gone");
      assert.equal(reply.status, 201, reply.body.toString());
    };
    const close = async (location, body) =>
      done(
        await this.#send("PUT", `${location}${location.includes("?") ? "&" : "?"}digest=${digest}`, {
          body,
          headers: type,
        }),
      );
    const begin = async (query = "") => this.#send("POST", `${uploads}${query}`);
    const way = lot(4);
    if (way === 0)
      return done(await this.#send("POST", `${uploads}?digest=${digest}`, { body: content, headers: type }));
    if (way === 1) {
      const reply = await begin(`?mount=${digest}&from=${pick(lot, REPOSITORIES)}`);
      return reply.status === 201 ? undefined : close(path(reply), content);
    }
    let location = path(await begin());
    if (way === 2) return close(location, content);
    const middle = lot(2) ? content.length >> 1 : content.length;
    for (const part of [content.subarray(0, middle), content.subarray(middle)].filter(({ length }) => length > 0)) {
      const reply = await this.#send("PATCH", location, { body: part, headers: type });
      if (reply.status === 404 || reply.status === 416) throw new Again("the upload is gone");
      assert.equal(reply.status, 202, reply.body.toString());
      location = path(reply);
    }
    await close(location);
  }

  /** Pulls an accepted image, and notes failures. */
  async pull(lot) {
    const stored = [...this.accepted.values()];
    if (stored.length === 0) return sleep(100);
    await this.#pullWhole(pick(lot, stored));
  }

  async #pullWhole(image) {
    const { name, digest, body, blobs } = image;
    const pulls = [[`manifests/${digest}`, body], ...blobs.map(({ digest, content }) => [`blobs/${digest}`, content])];
    for (const [path, content] of pulls) {
      const reply = await this.#send("GET", `/v2/${name}/${path}`);
      // Another player may have deleted it meanwhile.
      if (!this.accepted.has(`${name}@${digest}`)) return;
      if (reply.status !== 200 || !reply.body.equals(content))
        this.lost.push(`${name}@${digest}: ${path} ${reply.status} ${reply.body.subarray(0, 300)}`);
      this.counts.blobsPulled += 1;
    }
    this.counts.pulled += 1;
  }

  /**
   * Deletes an image; now and then a tag or a blob. The registry refuses to delete a blob in use.
   */
  async remove(lot, keep) {
    const what = lot(10);
    if (what === 0) return this.#delete(pick(lot, REPOSITORIES), `manifests/pusher-${lot(6)}-${lot(7)}`);
    if (what === 1) return this.#delete(pick(lot, REPOSITORIES), `blobs/${pick(lot, this.#pool).digest}`);
    if (this.accepted.size <= keep) return sleep(50);
    await this.#removeImage(pick(lot, [...this.accepted.values()]));
  }

  async #removeImage({ name, digest }) {
    this.accepted.delete(`${name}@${digest}`);
    for (;;) {
      try {
        await this.#delete(name, `manifests/${digest}`);
        this.counts.deleted += 1;
        return;
      } catch (error) {
        if (!(error instanceof Again)) throw error;
        await sleep(100);
      }
    }
  }

  async #delete(name, what) {
    const { status, body } = await this.#send("DELETE", `/v2/${name}/${what}`);
    assert.ok([202, 404, 405].includes(status), `DELETE ${what}: ${status} ${body}`);
  }

  /** Runs a step of the sweep on one of the isolates. */
  async sweep(isolate) {
    const reply = await this.#send("POST", "/v2/_strata/sweep", { isolate });
    assert.ok([200, 202].includes(reply.status), reply.body.toString());
    const { count, finished } = reply.json();
    this.counts.sweeps += 1;
    this.counts.removals += count;
    await sleep(200);
    return { count, finished };
  }

  /**
   * Runs rounds of the sweep until two find nothing, although all objects are past the grace
   * period.
   */
  async sweepUntilQuiet() {
    for (let quiet = 0; quiet < 2; ) {
      await sleep((GRACE + 1) * 1000);
      let found = 0;
      for (let finished = false; !finished; ) {
        const step = await this.sweep(0);
        found += step.count;
        finished = step.finished;
      }
      quiet = found === 0 ? quiet + 1 : 0;
    }
  }

  /** Pulls everything that was accepted and not deleted. */
  async verify() {
    for (const image of [...this.accepted.values()]) {
      for (let tries = 0; ; tries += 1) {
        try {
          await this.#pullWhole(image);
          break;
        } catch (error) {
          if (!(error instanceof Again) || tries === 20) throw error;
          await sleep(100);
        }
      }
    }
  }

  async removeAll() {
    for (const image of this.#tried.values()) await this.#removeImage(image);
  }

  /**
   * Returns the keys of orphans: blobs in no image, and extents, uploads, grants and links without
   * one.
   */
  async orphans() {
    const needed = new Set();
    const bucket = await this.strata.bucket();
    const objects = await this.strata.objects();
    const manifests = objects.filter(({ key }) => key.includes("/_manifests/"));
    for (const { key } of manifests) {
      const { config, layers } = await (await bucket.get(key)).json();
      for (const { digest } of [config, ...layers]) needed.add(digest.replace(":", "/"));
    }
    const records = [];
    // A record is short, and no other blob here has this word in it.
    for (const { key } of objects.filter(({ key, size }) => key.startsWith("blobs/") && size < 4096)) {
      const text = await (await bucket.get(key)).text();
      if (text.includes('"extents"')) records.push(text);
    }
    const isOrphan = ({ key }) => {
      const [room, algorithm, , encoded] = key.split("/");
      if (room === "blobs") return !needed.has(`${algorithm}/${encoded}`);
      if (room === "refs") return !needed.has(key.split("/").slice(1, 3).join("/"));
      if (room === "extents") return !records.some((text) => text.includes(key.slice("extents/".length)));
      if (room === "uploads") return !records.some((text) => text.includes(key.split("/")[1]));
      return false;
    };
    return objects.filter(isOrphan).map(({ key }) => key);
  }
}

const plain = ({ digest, size }) => ({ digest, size });

const path = (reply) => {
  assert.ok([202].includes(reply.status), `${reply.status} ${reply.body}`);
  const url = new URL(reply.headers.location, "http://registry.invalid");
  return url.pathname + url.search;
};

const pick = (lot, from) => from[lot(from.length)];

/** Returns a generator of numbers below a bound, the same for the same seed (mulberry32). */
function lots(seed) {
  let state = Number.parseInt(digestOf(Buffer.from(seed)).slice(-8), 16);
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}
