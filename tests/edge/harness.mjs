// Starts a Worker on the real runtime, on a free loopback port, with its own R2 and KV and a probe.
import { pbkdf2Sync } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Log, LogLevel, Miniflare } from "miniflare";
import "./waits.mjs";
import { memoryOf, processorSeconds, resetPeak, runtimes } from "./process.mjs";
import { send } from "./http.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");
const build = join(root, "worker/build");

export const user = "tester";
export const password = "correct horse";
export const basic = (name = user, secret = password) => `Basic ${Buffer.from(`${name}:${secret}`).toString("base64")}`;

/**
 * Starts the built Worker. Always `stop` it in the end, and start one at a time: the runtime's
 * process is the one that was not there before.
 *
 * @param {object} [options]
 * @param {boolean} [options.https] serve TLS, with Miniflare's own self-signed certificate
 * @param {boolean | ((isolate: number) => Record<string, string | Uint8Array>)} [options.probe] put
 *   the probe in front (the default), or the modules for an isolate, the entry first, with an
 *   entrypoint `Probe`; without it, the Worker runs as it was built
 * @param {string} [options.folder] a folder for R2 and KV; without it, their content ends with the
 *   Worker
 * @param {string} [options.cache] a folder for the entries of the Cache API
 * @param {Record<string, any>} [options.vars] added to the environment, as text or JSON; undefined
 *   removes a variable
 * @param {Record<string, { simple: { limit: number, period: 10 | 60 } }>} [options.limiters] the
 *   platform's rate limiters by their bindings; without them nothing is limited, because tests sign
 *   in often
 * @param {string[]} [options.buckets] names that an R2 bucket is bound to
 * @param {string[]} [options.namespaces] names that a KV namespace is bound to
 * @param {Record<string, string | Uint8Array>} [options.modules] another Worker's modules by name,
 *   `index.js` first
 * @param {boolean | string} [options.page] serve the built page beside it, as wrangler.toml says,
 *   or the files of another folder
 * @param {number} [options.isolates] how many isolates run it, on the same R2 and KV; see `isolate`
 * @param {Record<string, Record<string, string | Uint8Array>>} [options.beside] modules of Workers
 *   that the isolates reach, by the names of the bindings; each has an entrypoint `Probe`
 * @param {string[]} [options.flags] the runtime's flags, beside those of the deployed Worker
 */
export async function start({
  https = false,
  probe = true,
  folder,
  cache,
  vars = {},
  limiters = {},
  buckets = ["BUCKET"],
  namespaces = ["WARM"],
  modules = modulesOf(build),
  page = false,
  isolates = 1,
  beside = {},
  flags = [],
} = {}) {
  const before = runtimes();
  const printed = [];
  const bindings = {
    STRATA_USERS: usersOf([user]),
    STRATA_ANONYMOUS_PULL: "false",
    // Calls are counted, and a busy machine may take longer than the default for one of KV.
    STRATA_WARM_HEDGE_MS: "1000",
    ...vars,
  };
  const assets = page ? await assetsOf(page) : undefined;
  const front = probe === true ? probeModules : probe || (() => ({}));
  const others = Object.entries(beside).map(([name, modules]) => ({
    name,
    modules: asModules(modules),
    modulesRoot: "/",
    ...compatibility(flags),
    // A Worker without a route would get all requests.
    routes: [`${name.toLowerCase()}.invalid/*`],
  }));
  const workers = Array.from({ length: isolates }, (_, index) => ({
    name: `strata-${index}`,
    // The first isolate gets all host names but those of the others.
    ...(index > 0 ? { routes: [`${hostOf(index)}/*`] } : {}),
    modules: asModules({ ...front(index), ...modules }),
    modulesRoot: "/",
    ...compatibility(flags),
    serviceBindings: Object.fromEntries(Object.keys(beside).map((name) => [name, name])),
    ...(assets && { assets }),
    bindings: Object.fromEntries(Object.entries(bindings).filter(([, value]) => value !== undefined)),
    r2Buckets: buckets,
    kvNamespaces: namespaces,
    ratelimits: limiters,
  }));
  const control = {
    name: "control",
    modules: asModules({ "control.mjs": readFileSync(join(here, "inside/control.mjs")) }),
    modulesRoot: "/",
    ...compatibility(),
    serviceBindings: Object.fromEntries([
      ...workers.map(({ name }, index) => [`PROBE_${index}`, { name, entrypoint: "Probe" }]),
      ...others.map(({ name }) => [`PROBE_${name}`, { name, entrypoint: "Probe" }]),
    ]),
    // Only the harness uses this host name.
    routes: ["control.invalid/*"],
  };
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    port: 0,
    https,
    log: new Log(LogLevel.NONE),
    handleRuntimeStdio(stdout, stderr) {
      for (const stream of [stdout, stderr]) stream.setEncoding("utf8").on("data", (text) => printed.push(text));
    },
    ...(folder ? { r2Persist: join(folder, "r2"), kvPersist: join(folder, "kv") } : {}),
    ...(cache ? { cachePersist: cache } : {}),
    workers: [...workers, ...others, ...(probe ? [control] : [])],
  });

  try {
    const url = await miniflare.ready;
    const pid = runtimes().find((id) => !before.includes(id));
    return new Running(miniflare, url, pid, printed);
  } catch (error) {
    await miniflare.dispose();
    error.message += `\n${printed.join("")}`;
    throw error;
  }
}

const hostOf = (index) => `isolate-${index}.invalid`;

class Running {
  #miniflare;
  #printed;
  #index;

  constructor(miniflare, url, pid, printed, index = 0) {
    this.#miniflare = miniflare;
    this.#printed = printed;
    this.#index = index;
    /** The address for clients; `host` is its `host:port`. */
    this.url = url;
    this.host = url.host;
    this.pid = pid;
  }

  /** Returns another isolate of the same Worker, with its own memory and probe. */
  isolate(index) {
    return new Running(this.#miniflare, this.url, this.pid, this.#printed, index);
  }

  /**
   * Sends a request as the test user, or as nobody if `authorization` in the headers is undefined.
   */
  send(method, path, { headers = {}, ...rest } = {}) {
    const host = this.#index > 0 ? { host: hostOf(this.#index) } : {};
    return send(new URL(path, this.url), { method, headers: { authorization: basic(), ...host, ...headers }, ...rest });
  }

  /** Fires the cron trigger, and waits until its work is done. */
  async tick() {
    const worker = await this.#miniflare.getWorker(`strata-${this.#index}`);
    const { outcome } = await worker.scheduled({ cron: "*/5 * * * *" });
    if (outcome !== "ok") throw new Error(`the trigger ended with ${outcome}`);
  }

  /**
   * Returns the isolate's metrics since its start: `{ "strata_requests_total": … }`, with labels.
   */
  async metrics() {
    const { status, body } = await this.send("GET", "/metrics");
    if (status !== 200) throw new Error(`the metrics answered ${status}: ${body}`);
    const lines = body
      .toString()
      .split("\n")
      .filter((line) => line && !line.startsWith("#"));
    return Object.fromEntries(
      lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
    );
  }

  /**
   * Returns the calls since the last reset, in the order of their start:
   * `{ call: "r2.put", key, bytes, idle, failed, beside }`.
   */
  async calls() {
    return (await this.ask("read")).calls;
  }

  /** Returns the sums of these calls by name, such as `r2.put`: `{ calls, bytes }`. */
  async counts() {
    const counts = {};
    for (const { call, bytes } of await this.calls()) {
      counts[call] ??= { calls: 0, bytes: 0 };
      counts[call].calls += 1;
      counts[call].bytes += bytes;
    }
    return counts;
  }

  /** Returns the bytes of wasm memory, which never shrinks. */
  async wasm() {
    return (await this.ask("read")).wasm;
  }

  /** Returns the number of faults that are left. */
  async pendingFaults() {
    return (await this.ask("read")).faults;
  }

  /** Returns the calls from wasm to JavaScript since the last reset, by the name of the import. */
  async crossings() {
    return (await this.ask("read")).crossings;
  }

  /** Forgets calls, crossings and faults. */
  async reset() {
    await this.ask("reset");
  }

  /**
   * Makes calls fail: `{ call: "r2.put", key: "blobs/", nth: 1, times: 1, kept: false }`. `key` is
   * a prefix of the key, and the first failure is that of the `nth` call. If `kept`, the store does
   * the call before it fails. With `delay`, the call first waits so many milliseconds, and with
   * `fails: false` it does no more than that. With `breaks`, a `get` succeeds, and its body fails
   * before the first byte.
   */
  async fail(fault) {
    await this.ask("fail", fault);
  }

  /** Returns the bucket itself: the probe does not count its calls. */
  bucket() {
    return this.#miniflare.getR2Bucket("BUCKET", "strata-0");
  }

  /** Returns the namespace itself: the probe does not count its calls. */
  namespace() {
    return this.#miniflare.getKVNamespace("WARM", "strata-0");
  }

  /** Returns the key and the size of each object whose key starts with `prefix`. */
  async objects(prefix = "") {
    const bucket = await this.bucket();
    const objects = [];
    let cursor;
    do {
      const page = await bucket.list({ prefix, cursor });
      objects.push(...page.objects.map(({ key, size }) => ({ key, size })));
      cursor = page.truncated ? page.cursor : undefined;
    } while (cursor);
    return objects;
  }

  /** Returns the resident memory of the runtime in bytes. It includes the simulated stores. */
  memory() {
    return memoryOf(this.pid);
  }

  resetPeak() {
    resetPeak(this.pid);
  }

  processorSeconds() {
    return processorSeconds(this.pid);
  }

  /** Returns the output of the Worker and the runtime so far. */
  log() {
    return this.#printed.join("");
  }

  async stop() {
    await this.#miniflare.dispose();
  }

  /** Calls a method of the isolate's probe. */
  ask(...message) {
    return this.askOf(this.#index, ...message);
  }

  /** Calls a method of a probe: that of an isolate, or of another Worker by its name. */
  async askOf(probe, ...message) {
    const reply = await this.#miniflare.dispatchFetch("http://control.invalid/", {
      method: "POST",
      body: JSON.stringify([`PROBE_${probe}`, ...message]),
    });
    if (!reply.ok) throw new Error(`the probe answered ${reply.status}: ${await reply.text()}`);
    return reply.json();
  }
}

/**
 * Returns the secret with these users, all with the test user's password. It has few iterations,
 * because tests do not test the hash.
 */
export function usersOf(names) {
  const plain = (bytes) => bytes.toString("base64").replaceAll("=", "");
  const salt = Buffer.alloc(16, "salt");
  const key = pbkdf2Sync(password, salt, 1000, 32, "sha256");
  const hash = `pbkdf2-sha256$1000$${plain(salt)}$${plain(key)}`;
  return JSON.stringify({ users: Object.fromEntries(names.map((name) => [name, hash])) });
}

/** Returns the modules of a build in a folder, for `start`. */
export function modulesOf(folder) {
  if (!existsSync(join(folder, "index.js"))) throw new Error(`no Worker in ${folder}: run npm run build first`);
  const names = readdirSync(folder).filter((name) => name !== "index.js" && /\.(js|wasm)$/.test(name));
  return Object.fromEntries(["index.js", ...names].map((name) => [name, readFileSync(join(folder, name))]));
}

function probeModules() {
  return Object.fromEntries(
    ["probe.mjs", "memories.mjs"].map((name) => [name, readFileSync(join(here, "inside", name))]),
  );
}

function asModules(modules) {
  return Object.entries(modules).map(([name, contents]) => ({
    type: name.endsWith(".wasm") ? "CompiledWasm" : "ESModule",
    path: `/${name}`,
    contents: name.endsWith(".wasm") ? contents : Buffer.from(contents).toString("utf8"),
  }));
}

/** Returns the files beside the Worker, and the requests that they get, as wrangler reads both. */
async function assetsOf(page) {
  const { unstable_getMiniflareWorkerOptions: read } = await import("wrangler");
  const { assets } = read(join(root, "wrangler.toml")).workerOptions;
  if (!assets || !existsSync(join(assets.directory, "index.html")))
    throw new Error("no page in www/dist: run npm run build first");
  return typeof page === "string" ? { ...assets, directory: page } : assets;
}

/** Returns the date and the flags of the runtime, as the deployed Worker has them. */
function compatibility(more = []) {
  const text = readFileSync(join(root, "wrangler.toml"), "utf8");
  const [, compatibilityDate] = /^compatibility_date\s*=\s*"([^"]+)"/m.exec(text) ?? [];
  const [, flags = "[]"] = /^compatibility_flags\s*=\s*(\[[^\]]*\])/m.exec(text) ?? [];
  return { compatibilityDate, compatibilityFlags: [...JSON.parse(flags), ...more] };
}
