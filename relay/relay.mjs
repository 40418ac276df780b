#!/usr/bin/env node
// A relay for pushes to a registry whose edge limits the size of a request. It is a registry on
// this machine: any client pushes to it, and it passes layers on in chunks that the edge accepts.
// One file without dependencies, for Node 20 and later.

import { spawn } from "node:child_process";
import crypto from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { PassThrough, Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { pathToFileURL } from "node:url";
import { debuglog, parseArgs } from "node:util";
import v8 from "node:v8";
import vm from "node:vm";
import zlib from "node:zlib";

export const VERSION = "0.2.0";

const HELP = `Pushes layers that are too large for the registry's edge (413), in chunks.

Usage:
  node relay.mjs --to https://HOST [OPTIONS]
  node relay.mjs push IMAGE --to HOST/NAME[:TAG] [OPTIONS]

The first form serves the registry at HOST on this machine. Push to localhost:5050/NAME instead of
HOST/NAME, with any client; Ctrl-C ends it.
The second form pushes an image without a daemon. IMAGE is an OCI layout (a folder or a tar), a tar
of docker save, or - for standard input.

Options:
  --to          the registry, the only host that gets credentials; TAG is latest by default, and
                push takes several --to HOST/NAME:TAG with the same HOST/NAME
  --ref NAME    the image to push, if IMAGE has several
  --port N      the port to serve on, on 127.0.0.1; 0 takes a free one (default 5050)
  --chunk N     the size of a chunk in bytes, at least 1048576 (default: the size that the
                registry announces, else 95000000)
  --blobs N     how many blobs are sent at a time, 1 to 99 (default 4)
  --state DIR   the folder of the journal of unfinished uploads
                (default $XDG_STATE_HOME/strata-relay, or ~/.local/state/strata-relay)
  -h, --help    print this text
  --version     print the version

Environment:
  RELAY_USER, RELAY_PASSWORD
                the credentials of push (default: those of docker login HOST, or podman login HOST)
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                the proxy to the registry, http://HOST:PORT only
  TMPDIR        temporary files: needs space for --blobs chunks, and for the whole image from
                standard input or a pipe
  NODE_DEBUG    relay prints errors with their stacks

If a push breaks off, run it again: it resumes.`;

const MIB = 1 << 20;
const DEFAULT_CHUNK = 95_000_000;
/**
 * The bytes of a read from a file. Larger reads leave larger buffers to the garbage collector: with
 * 256 KiB four blobs with broken connections took up to 84 MiB, with 64 KiB up to 62 MiB, in about
 * the same time.
 */
const READ = MIB / 16;
/** The smallest chunk size after refusals. */
const MIN_CHUNK = MIB;
/**
 * Chunks of this size or less do not shrink after broken connections. Assumed to be below every
 * edge's limit.
 */
const NO_SHRINK_BELOW = 8 * MIB;
/** The most characters of a small response. A manifest has at most 4 MiB. */
const MAX_RESPONSE = 8 * MIB;
/** Attempts at a chunk without progress before an upload is given up. */
const ATTEMPTS = 8;
/**
 * Attempts at a request without a large body: some four seconds, or as long as the registry asks.
 */
const SMALL_ATTEMPTS = 4;
/** The time after which an upload is no longer resumed, in milliseconds. */
const RESUME_TTL = 12 * 3_600_000;
/**
 * The time after which a client that went away has lost its upload here, in milliseconds. The
 * journal has the chunks that were sent.
 */
const IDLE_TIMEOUT = 15 * 60_000;
/** The timeout of a silent connection to the registry, in milliseconds. */
const REGISTRY_TIMEOUT = 120_000;
/** The time between two lines about a blob that is being sent, in milliseconds. */
const PROGRESS_INTERVAL = 10_000;
/** The shortest time after which a token is renewed, in milliseconds. */
const LEAST_RENEWAL = 10_000;
/** The timeout of a client that sends no bytes of its body, in milliseconds. */
const CLIENT_TIMEOUT = 60_000;
/**
 * Headers that belong to one connection (RFC 9110, section 7.6.1), and the ones that are set anew.
 */
const HOP = /^(connection|host|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect)$/i;

/** A problem that is the user's to solve: printed without a stack. */
class UserError extends Error {}

/** A command line that can't be run: ends with another exit code. */
class UsageError extends UserError {}

/** A client that sends no bytes of its body. */
class ClientTimeout extends Error {
  constructor(clientTimeout) {
    super(`the client sent no bytes for ${clientTimeout / 1000} seconds: push again`);
  }
}

/** A response of the registry that the client gets instead of ours. */
class RegistryError extends Error {
  constructor(response) {
    super(`the registry answered ${response.status}`);
    this.response = response;
  }
}

/** Returns the error of an upload that is over, as a registry answers. */
const uploadUnknown = (message) =>
  new RegistryError({
    status: 404,
    headers: {},
    body: JSON.stringify({ errors: [{ code: "BLOB_UPLOAD_UNKNOWN", message }] }),
  });

// ---------------------------------------------------------------------------------------- Registry

/**
 * Returns the proxy for an address by the usual environment variables, and the variable's name, or
 * undefined.
 */
export function proxyFor(url, env = process.env) {
  // An empty variable counts as absent.
  const variable = (...names) => names.flatMap((name) => [name, name.toLowerCase()]).find((name) => env[name]);
  const without = (env[variable("NO_PROXY")] ?? "").split(",").map((one) => one.trim().replace(/^\*?\./, ""));
  const { hostname } = url;
  if (without.some((one) => one === "*" || (one && (hostname === one || hostname.endsWith(`.${one}`)))))
    return undefined;
  const name = variable(url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY", "ALL_PROXY");
  if (name === undefined) return undefined;
  const found = env[name];
  const text = /^\w+:\/\//.test(found) ? found : `http://${found}`;
  const proxy = URL.canParse(text) ? new URL(text) : undefined;
  if (proxy?.protocol !== "http:")
    throw new UserError(`the proxy ${found.replace(/\/\/.*@/, "//")} is not http://HOST:PORT`);
  return { url: proxy, name };
}

const proxyError = ({ url, name }, error) =>
  new UserError(`the proxy ${url.host} can't be reached: ${error.code ?? error.message} (from ${name})`);

const credentialsOf = ({ username, password }) =>
  username
    ? { "proxy-authorization": `Basic ${btoa(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`)}` }
    : {};

/** An agent whose connections to an https server are tunnels through a proxy. */
class Tunnels extends https.Agent {
  constructor(proxy, options) {
    super(options);
    this.proxy = proxy;
  }

  createConnection(options, done) {
    const target = `${options.host}:${options.port}`;
    const { proxy } = this;
    const { hostname: host, port } = proxy.url;
    const headers = { host: target, ...credentialsOf(proxy.url) };
    http
      .request({ host, port: port || 80, method: "CONNECT", path: target, headers })
      .on("connect", ({ statusCode }, socket) => {
        if (statusCode === 200)
          done(null, tls.connect({ ...options, socket, servername: options.servername ?? options.host }));
        else {
          socket.destroy();
          done(new UserError(`the proxy ${proxy.url.host} answered ${statusCode} for ${target}`));
        }
      })
      .on("error", (error) => done(error instanceof UserError ? error : proxyError(proxy, error)))
      .setTimeout(REGISTRY_TIMEOUT, function expire() {
        this.destroy(new UserError(`the proxy ${proxy.url.host} does not answer for ${target}`));
      })
      .end();
  }
}

/** Returns a host with its scheme, which is http for this machine. */
function withScheme(text) {
  if (/^https?:\/\//.test(text)) return text;
  return `${/^(localhost|127\.[\d.]+|\[::1\])(:\d+)?(\/|$)/.test(text) ? "http" : "https"}://${text}`;
}

/** The registry behind the relay. */
export class Registry {
  /** @param {string} to an origin, such as `https://registry.example` */
  constructor(to, env = process.env) {
    let url;
    try {
      url = new URL(withScheme(to));
    } catch {
      throw new UsageError(`--to ${to} is not an address: use https://HOST`);
    }
    if (url.pathname !== "/" || url.search || url.username) throw new UsageError(`--to ${to}: use https://HOST alone`);
    this.origin = url.origin;
    this.url = url;
    this.proxy = proxyFor(url, env);
    const options = { keepAlive: true, maxSockets: 64 };
    this.agent =
      url.protocol === "https:"
        ? this.proxy
          ? new Tunnels(this.proxy, options)
          : new https.Agent(options)
        : new http.Agent(options);
  }

  /**
   * Begins a request. Resolves with `{ status, headers, body }` once the head of the response is
   * there. `body` of the request is a Readable, bytes, or nothing; `signal` aborts it.
   */
  async request(method, target, { headers = {}, body, signal } = {}) {
    const { url, proxy, agent } = this;
    // Without a frame, the registry would take the body of a GET for the next request.
    const isUnframed = body instanceof Readable && headers["content-length"] === undefined;
    const framed = isUnframed ? { ...headers, "transfer-encoding": "chunked" } : headers;
    const isPlain = url.protocol === "http:";
    const through = isPlain && proxy;
    const request = (isPlain ? http : https).request({
      agent,
      signal,
      method,
      host: through ? proxy.url.hostname : url.hostname,
      port: through ? proxy.url.port || 80 : url.port || (isPlain ? 80 : 443),
      path: through ? this.origin + target : target,
      headers: { ...framed, host: url.host, ...(through && credentialsOf(proxy.url)) },
    });
    request.setTimeout(REGISTRY_TIMEOUT, () =>
      request.destroy(new Error(`no answer for ${REGISTRY_TIMEOUT / 1000} seconds`)),
    );
    const responded = new Promise((resolve, reject) => {
      request
        .on("response", resolve)
        .on("upgrade", ({ statusCode }, socket) => {
          socket.destroy();
          reject(new Error(`the registry answered ${statusCode}`));
        })
        // After the response, errors are reported by its body. Without a listener they would end
        // the process.
        .on("error", reject)
        .on("close", () => reject(new Error("the registry closed the connection without a response")));
    });
    if (body instanceof Readable) {
      body.on("error", (error) => request.destroy(error));
      body.pipe(request);
    } else request.end(body);
    const response = await responded.catch((error) => {
      // The registry may close an idle connection at the moment when it is used again.
      error.isStale = error.code === "ECONNRESET" && request.reusedSocket;
      throw through && error.syscall === "connect" ? proxyError(proxy, error) : error;
    });
    return { status: response.statusCode, headers: response.headers, body: response };
  }

  /** The same for a small response, which is read whole: `body` is text. */
  async ask(method, target, options) {
    const again = (error) => {
      if (!error.isStale || options?.body instanceof Readable) throw error;
      return this.request(method, target, options);
    };
    const response = await this.request(method, target, options).catch(again);
    let text = "";
    for await (const part of response.body.setEncoding("utf8")) {
      text += part;
      if (text.length > MAX_RESPONSE)
        throw new UserError(`the response to ${method} ${target.split("?")[0]} is too long`);
    }
    return { ...response, body: text };
  }

  /** Checks that a registry answers. Resolves with its challenge, if it wants credentials. */
  async check() {
    const { status, headers } = await untilAnswered(() => this.ask("GET", "/v2/")).catch((error) => {
      if (error instanceof UserError) throw error;
      throw new UserError(`${this.origin} can't be reached: ${causeOf(error)}`);
    });
    if (status !== 401 && status !== 200)
      throw new UserError(`${this.origin} answers ${status} to GET /v2/: it is no registry, or not ready`);
    return headers["www-authenticate"];
  }

  /** Returns an address of this registry as a path, or undefined if it leads elsewhere. */
  pathOf(location) {
    try {
      const url = new URL(location, this.origin);
      // Two slashes would begin the name of a host.
      return url.origin === this.origin ? url.pathname.replace(/^\/+/, "/") + url.search : undefined;
    } catch {
      return undefined;
    }
  }
}

/**
 * Returns the identity that an Authorization header claims, for the journal. The registry checks
 * it.
 */
export function identityOf(authorization = "") {
  const [, scheme, value] = /^(\w+) +(.*)$/.exec(authorization) ?? [];
  try {
    if (/^basic$/i.test(scheme)) return `user ${atob(value).split(":")[0]}`;
    const { sub } = JSON.parse(Buffer.from(value.split(".")[1], "base64url").toString());
    if (typeof sub === "string") return `user ${sub}`;
  } catch {
    // Not a token with claims.
  }
  return authorization ? `credential ${sha256(authorization)}` : "anonymous";
}

const sha256 = (bytes) => crypto.createHash("sha256").update(bytes).digest("hex");

// ----------------------------------------------------------------------------------------- Journal

/** Returns the error of a folder that can't be written. */
const cannotWrite = (folder, error, advice) =>
  new UserError(`cannot write ${folder}: ${error.code ?? error.message}; ${advice}`);

/** Returns the error of the folder of temporary files. */
const cannotSpool = (error) =>
  cannotWrite(
    os.tmpdir(),
    error,
    ["ENOSPC", "EDQUOT", "EFBIG"].includes(error.code) ? "set TMPDIR to a larger disk" : "set TMPDIR to another folder",
  );

/** The uploads that were begun and not finished, a file each. Several relays may share them. */
export class Journal {
  #folder;
  /** The entries that uploads of this relay hold, by id. */
  #held = new Map();

  constructor(folder) {
    this.#folder = folder;
    try {
      this.#prepare();
    } catch (error) {
      throw cannotWrite(folder, error, "use --state DIR");
    }
  }

  /** Makes the folder, and removes files of relays that ended, and old uploads. */
  #prepare() {
    const folder = this.#folder;
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of this.#files()) {
      const [, written] = /\.json\.(\d+)$/.exec(name) ?? [];
      const isLeft = written
        ? Number(written) === process.pid || !isRunning(Number(written))
        : name.endsWith(".lock") && !this.#isLocked(name);
      if (isLeft) fs.rmSync(path.join(folder, name), { force: true });
    }
    for (const { id, entry } of this.#entries())
      if (!entry || Date.now() - entry.time > RESUME_TTL) fs.rmSync(this.#fileOf(id), { force: true });
  }

  #files() {
    const found = fs.readdirSync(this.#folder, { withFileTypes: true });
    return found.filter((one) => one.isFile()).map(({ name }) => name);
  }

  #entries() {
    const files = this.#files().filter((name) => name.endsWith(".json"));
    return files.map((name) => name.slice(0, -".json".length)).map((id) => ({ id, entry: this.#read(id) }));
  }

  /** Returns an entry, or undefined if there is none or it is damaged. */
  #read(id) {
    try {
      const entry = JSON.parse(fs.readFileSync(this.#fileOf(id), "utf8"));
      const isChunk = ([length, sum]) => Number.isInteger(length) && length > 0 && sum;
      return entry.id === id && entry.chunks.every(isChunk) ? entry : undefined;
    } catch {
      return undefined;
    }
  }

  /** Returns the interrupted uploads of the same kind: registry, repository and identity. */
  candidates(about) {
    const isSame = (entry) => entry && Object.entries(about).every(([key, value]) => entry[key] === value);
    const isFree = (id) => !this.#held.has(id) && !this.#isLocked(`${id}.lock`);
    return this.#entries()
      .filter(({ id, entry }) => isSame(entry) && Date.now() - entry.time <= RESUME_TTL && isFree(id))
      .map(({ entry }) => entry);
  }

  #fileOf(id) {
    return path.join(this.#folder, `${id}.json`);
  }

  /** Returns whether a process that runs holds an entry by its lock. */
  #isLocked(name) {
    try {
      const [pid, instance] = fs.readFileSync(path.join(this.#folder, name), "utf8").split(" ");
      if (Number(pid) === process.pid) return instance === INSTANCE;
      return instance !== undefined && isRunning(Number(pid)) && (startOf(pid) ?? instance) === instance;
    } catch {
      return false;
    }
  }

  /**
   * Takes an entry for the upload that has this object. Returns whether no other upload has it, or
   * had it since it was read or written.
   */
  claim(entry) {
    const { id } = entry;
    if (this.#held.has(id)) return this.#held.get(id) === entry;
    if (this.#isLocked(`${id}.lock`)) return false;
    const lock = path.join(this.#folder, `${id}.lock`);
    fs.rmSync(lock, { force: true });
    try {
      fs.writeFileSync(lock, `${process.pid} ${INSTANCE}`, { flag: "wx", mode: 0o600 });
    } catch (error) {
      if (error.code === "EEXIST") return false;
      throw cannotWrite(this.#folder, error, "use --state DIR");
    }
    this.#held.set(id, entry);
    if (this.#read(id)?.time === entry.time) return true;
    this.release(entry);
    return false;
  }

  /** Writes an entry in place of its earlier state. */
  write(entry) {
    this.claim(entry);
    entry.time = Date.now();
    const file = this.#fileOf(entry.id);
    const beside = `${file}.${process.pid}`;
    try {
      fs.writeFileSync(beside, JSON.stringify(entry), { mode: 0o600 });
      fs.renameSync(beside, file);
    } catch (error) {
      fs.rmSync(beside, { force: true });
      throw cannotWrite(this.#folder, error, "use --state DIR");
    }
  }

  /** Removes an entry, unless another upload has it. */
  remove(entry) {
    if (entry.time === undefined || !this.claim(entry)) return;
    fs.rmSync(this.#fileOf(entry.id), { force: true });
    this.release(entry);
  }

  /** Lets another upload resume from an entry. */
  release(entry) {
    if (this.#held.get(entry.id) !== entry) return;
    this.#held.delete(entry.id);
    fs.rmSync(path.join(this.#folder, `${entry.id}.lock`), { force: true });
  }
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch ({ code }) {
    return code === "EPERM";
  }
}

/** Returns the time at which a process started, or undefined where there is no `/proc`. */
function startOf(pid) {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field, in parentheses, may have spaces.
    return text.slice(text.lastIndexOf(")")).split(" ")[20];
  } catch {
    return undefined;
  }
}

/** Tells this process from earlier ones with the same pid, which is usual in containers. */
const INSTANCE = startOf(process.pid) ?? crypto.randomUUID();

// ------------------------------------------------------------------------------------------- Spool

v8.setFlagsFromString("--expose-gc");
const collectGarbage = vm.runInNewContext("gc");
let uncollected = 0;

/**
 * Counts bytes that passed through buffers, and frees these now and then. V8 sees only the small
 * objects that own them, and by itself lets tens of MiB accumulate.
 */
function countBytes(length) {
  uncollected += length;
  if (uncollected < 4 * MIB) return;
  uncollected = 0;
  collectGarbage({ type: "minor" });
}

/** The temporary files that have a name, if only for a moment. */
const named = new Set();

function removeNamed() {
  for (const name of named) {
    try {
      fs.rmSync(name, { force: true });
    } catch {
      // Nothing can be done about it at the end.
    }
  }
}

process.on("exit", removeNamed);

/**
 * Opens a new temporary file, and takes its name away, so that it ends with the process. Resolves
 * with the file, and with its name where an open file can't be unlinked.
 */
async function openTemporary() {
  const name = path.join(os.tmpdir(), `strata-relay-${process.pid}-${crypto.randomBytes(8).toString("hex")}`);
  named.add(name);
  const file = await fs.promises.open(name, "wx+", 0o600).catch((error) => {
    named.delete(name);
    throw cannotSpool(error);
  });
  const isUnlinked = await fs.promises.unlink(name).then(
    () => named.delete(name),
    () => false,
  );
  return { file, name: isUnlinked ? undefined : name };
}

/**
 * A temporary file with the chunk that is being sent. It has no name, so it ends with the process.
 */
class Spool {
  #file;
  length = 0;

  static async open() {
    const spool = new Spool();
    ({ file: spool.#file, name: spool.name } = await openTemporary());
    return spool;
  }

  async append(bytes) {
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, this.length + at).catch((error) => {
        throw cannotSpool(error);
      });
      at += bytesWritten;
    }
    this.length += bytes.length;
    countBytes(bytes.length);
  }

  /** Begins the next chunk. */
  clear() {
    this.length = 0;
  }

  /** Drops all bytes from `length` on. */
  async cut(length) {
    this.length = length;
    await this.#file.truncate(length);
  }

  /** Returns a stream of the bytes from `start` to `end`. */
  read(start, end) {
    const file = this.#file;
    return Readable.from(
      (async function* () {
        for (let at = start; at < end; ) {
          const bytes = Buffer.allocUnsafe(Math.min(READ, end - at));
          const { bytesRead, buffer } = await file.read(bytes, 0, undefined, at);
          if (bytesRead === 0) throw new Error("the temporary file was cut");
          yield buffer.subarray(0, bytesRead);
          at += bytesRead;
          countBytes(bytesRead);
        }
      })(),
      { objectMode: false },
    );
  }

  async close() {
    await this.#file.close();
    if (this.name) await fs.promises.rm(this.name, { force: true }).then(() => named.delete(this.name));
  }
}

// ------------------------------------------------------------------------------------------ Upload

/**
 * Bodies up to this size are held in memory, and are sent with the request that closes the upload.
 */
const SMALL = MIB;

/**
 * Returns the offset in a status of an upload, or undefined if there is none. `0-0` means that no
 * byte is stored.
 */
function offsetOf({ range }) {
  const [, last] = /^(?:bytes=)?0-(\d+)$/.exec(range) ?? [];
  return last === undefined ? undefined : last === "0" ? 0 : Number(last) + 1;
}

/** One blob on its way to the registry. */
export class Upload {
  id = `relay-${crypto.randomUUID()}`;
  /** Bytes that were received from the client. */
  received = 0;
  /** The offset of the registry, as it last said. */
  #stored = 0;
  /** The offset at which the chunk in the spool begins. */
  #base = 0;
  #hash = crypto.createHash("sha256");
  #spool;
  /**
   * The request that sends the chunk while it comes, and its beginning, which is held until then.
   */
  #live;
  #held = [];
  /** Whether this chunk can be sent while it comes: all of it is in `#held`. */
  #mayStream = true;
  /** Entries of the journal that may be of the same blob: its first chunk tells. */
  #candidates;
  #entry;
  #index = 0;
  #cancelled = new AbortController();

  /**
   * @param {{ registry: Registry, journal: Journal, limits: { most: number }, repository: string,
   *   authorize: () => string | undefined, location: string, token?: string,
   *   progress: number, say: (line: string) => void }} options
   *   `progress` is the time between two lines about the blob, in milliseconds. `limits.most`
   *   is the size of a chunk, which shrinks if the edge refuses it. `authorize` returns the user's
   *   current Authorization header. `token` is the registry's, for this upload alone.
   */
  constructor({ registry, journal, limits, repository, authorize, location, token, progress, say }) {
    Object.assign(this, { registry, journal, limits, repository, authorize, progress, say });
    const about = { registry: registry.origin, repository, identity: identityOf(authorize()) };
    this.#candidates = journal.candidates(about).filter(({ chunks }) => chunks.length > 0);
    this.#entry = { id: this.id, ...about, location, token, chunks: [] };
    this.touched = Date.now();
  }

  get #headers() {
    const { token } = this.#entry;
    const authorization = token ? `Bearer ${token}` : this.authorize();
    return { "content-type": "application/octet-stream", ...(authorization && { authorization }) };
  }

  /** Sends a request about the upload. Resolves with `{ error }` if there is no response. */
  async #ask(method, { headers, body } = {}) {
    const { signal } = this.#cancelled;
    const response = await this.registry
      .ask(method, this.#entry.location, { headers: { ...this.#headers, ...headers }, body, signal })
      .catch((error) => ({ error }));
    signal.throwIfAborted();
    return response;
  }

  /** Throws if another upload has resumed this one since its client broke off. */
  #claim() {
    if (this.#entry.time !== undefined && !this.journal.claim(this.#entry))
      throw uploadUnknown("another upload of the same layer has resumed this one: push again");
  }

  /**
   * Takes the next bytes of the blob, and sends all but a small rest of them. `isLast` says that no
   * more come. `label` and `size` describe the blob in lines about its progress.
   */
  async receive(source, { isLast = false, label = this.repository, size } = {}) {
    this.#cancelled.signal.throwIfAborted();
    this.#claim();
    const timer = setInterval(() => {
      const sent = Math.max(this.#stored, this.#live ? this.received : 0);
      this.say(`… ${label} ${megabytes(sent)}${size === undefined ? "" : ` of ${megabytes(size)}`}`);
    }, this.progress).unref();
    const { received } = this;
    const hash = this.#hash.copy();
    try {
      this.#spool ??= await Spool.open();
      for await (let bytes of source) {
        this.#cancelled.signal.throwIfAborted();
        while (bytes.length > 0) {
          const end = this.#chunkEnd;
          const part = bytes.subarray(0, Math.max(1, end - this.#spool.length));
          bytes = bytes.subarray(part.length);
          await this.#append(part);
          if (this.#spool.length < end) continue;
          await this.#resumeFromJournal();
          if (this.#spool.length >= this.#chunkEnd) await this.#finishChunk();
        }
      }
      // The journal's chunk may be longer than the client's part of the blob.
      const isAwaited = this.#candidates.length > 0 || this.#entry.chunks[this.#index] !== undefined;
      if (this.#spool.length > SMALL && (isLast || !isAwaited)) await this.#finishChunk();
    } catch (error) {
      await this.#rewind({ received, hash });
      this.#cancelled.signal.throwIfAborted();
      throw error;
    } finally {
      clearInterval(timer);
    }
  }

  /**
   * The length at which the chunk in the spool ends, or is compared with the journal. The sizes of
   * the interrupted run count: its chunks may have shrunk, or have had another `--chunk`.
   */
  get #chunkEnd() {
    const [recorded] = this.#entry.chunks[this.#index] ?? [];
    const lengths = this.#candidates.map(({ chunks: [[length]] }) => length);
    return recorded ?? (lengths.length > 0 ? Math.min(...lengths) : this.limits.most);
  }

  /**
   * Returns to the bytes that the client knows to be received, or to those that the registry has.
   * The client may never come back, so the file of an unfinished chunk is freed.
   */
  async #rewind({ received, hash }) {
    await this.#live?.abort();
    this.#live = undefined;
    const kept = Math.max(0, received - this.#base);
    this.#held = [];
    // The registry may have kept some of the bytes, so they are sent again with their offset.
    this.#mayStream = false;
    if (kept > 0) {
      this.#hash = hash;
      await this.#spool.cut(kept);
      this.journal.release(this.#entry);
    } else {
      this.#hash = crypto.createHash("sha256");
      await this.discard();
    }
    // Last, because a client that is told this offset may send at once.
    this.received = this.#base + kept;
  }

  async #append(part) {
    this.#hash.update(part);
    await this.#spool.append(part);
    this.received += part.length;
    // The first chunk waits if it may be the beginning of an interrupted upload. So does what such
    // an upload sent before.
    const isNew = this.#candidates.length === 0 && this.#stored === this.#base && !this.#entry.chunks[this.#index];
    this.#mayStream &&= isNew && !this.limits.isRefused;
    if (this.#live) return this.#live.write(part);
    if (!this.#mayStream) return;
    this.#held.push(part);
    if (this.#spool.length > SMALL) {
      this.#live = this.#open();
      for (const one of this.#held.splice(0)) await this.#live.write(one);
    }
  }

  /** Begins to send a chunk whose end has not come yet. */
  #open() {
    const body = new PassThrough();
    // A failure is seen at the end of the chunk, which is in the spool.
    body.on("error", () => {});
    const response = this.registry
      .ask("PATCH", this.#entry.location, { headers: this.#headers, body })
      .catch((error) => ({ error }));
    let isOver = false;
    response.then(() => (isOver = true));
    return {
      async write(part) {
        if (!isOver && !body.write(part)) await Promise.race([once(body, "drain").catch(() => {}), response]);
      },
      end() {
        body.end();
        return response;
      },
      abort() {
        body.destroy(new Error("the client went away"));
        return response;
      },
    };
  }

  /** Ends the chunk in the spool: the registry has all of it afterwards. */
  async #finishChunk() {
    const { length } = this.#spool;
    const end = this.#base + length;
    await this.#resumeFromJournal();
    const sum = this.#hash.digest("hex");
    const [known, before] = this.#entry.chunks[this.#index] ?? [];
    if (before !== undefined && (known !== length || before !== sum)) this.#differs();
    if (this.#live) {
      const response = await this.#live.end();
      this.#live = undefined;
      if (response.status === 202) this.#setOffset(response, end);
      else if (!response.error && !this.#refused(response)) await pause(1, response);
      if (this.#stored < end) await this.#synchronize();
    }
    await this.#send(end);
    this.#cancelled.signal.throwIfAborted();
    this.#entry.chunks[this.#index] = [length, sum];
    this.journal.write(this.#entry);
    this.#index += 1;
    this.#base = end;
    this.#held = [];
    this.#mayStream = true;
    this.#spool.clear();
    this.#hash = crypto.createHash("sha256");
  }

  #differs() {
    this.journal.remove(this.#entry);
    throw new UserError("the layer differs from the interrupted one that began in the same way: push it again");
  }

  /**
   * Goes on with the interrupted upload whose first chunk is in the spool, if there is one. Keeps
   * the candidates whose first chunk is longer.
   */
  async #resumeFromJournal() {
    if (this.#candidates.length === 0) return;
    const { length } = this.#spool;
    const sum = this.#hash.copy().digest("hex");
    const candidates = this.#candidates.filter(({ chunks: [first] }) => first[0] === length && first[1] === sum);
    this.#candidates = this.#candidates.filter(({ chunks: [first] }) => first[0] > length);
    const fresh = this.#entry;
    const headersOfFresh = this.#headers;
    for (const entry of candidates) {
      if (!this.journal.claim(entry)) continue;
      this.#entry = entry;
      const response = await untilAnswered(() => this.#ask("GET")).catch((error) => ({ error }));
      this.#cancelled.signal.throwIfAborted();
      const offset = response.status === 204 ? offsetOf(response.headers) : undefined;
      if (offset !== undefined) {
        this.#candidates = [];
        this.#stored = offset;
        this.#entry.location = this.#pathOf(response.headers.location);
        this.journal.write(this.#entry);
        this.say(`resuming a layer of ${this.repository} at ${megabytes(this.#stored)}`);
        this.registry.ask("DELETE", fresh.location, { headers: headersOfFresh }).catch(() => {});
        return;
      }
      // The registry has forgotten it, or it has ended.
      if (response.status === 404 || response.status === 401) this.journal.remove(entry);
      else this.journal.release(entry);
      this.#entry = fresh;
    }
  }

  /** Sends the bytes of the spool that the registry lacks, up to an offset. */
  async #send(end) {
    let cuts = 0;
    let reached = this.#stored;
    for (let failures = 0; this.#stored < end; ) {
      const from = this.#stored;
      const to = Math.min(end, from + this.limits.most);
      const body = this.#spool.read(from - this.#base, to - this.#base);
      const headers = { "content-length": to - from, "content-range": `${from}-${to - 1}` };
      const response = await this.#ask("PATCH", { headers, body });
      if (response.status === 202) this.#setOffset(response, to);
      if (this.#stored > reached) {
        reached = this.#stored;
        failures = 0;
        continue;
      }
      // A refusal that makes chunks smaller is no failure: it ends at the smallest ones.
      const isSmaller = response.status && response.status !== 202 && this.#refused(response, to - from);
      if (!isSmaller) {
        failures += 1;
        if (failures === ATTEMPTS)
          throw new UserError(`the registry did not take a chunk in ${ATTEMPTS} attempts: ${reason(response)}`);
        await pause(failures, response);
      }
      await this.#synchronize();
      // An edge that refuses a chunk may close the connection before its response can be read.
      cuts = response.error && this.#stored === from ? cuts + 1 : 0;
      if (cuts === 2 && to - from > NO_SHRINK_BELOW) {
        this.#shrink(to - from, "the connection broke twice in");
        cuts = 0;
        failures = 0;
      }
    }
  }

  /** Makes the chunks half as large as one that the edge did not take. */
  #shrink(length, why) {
    // Another upload may have made them smaller since these bytes were sent.
    this.limits.most = Math.max(MIN_CHUNK, Math.min(this.limits.most, Math.floor(length / 2)));
    this.limits.isRefused = true;
    const [sent, most] = [length, this.limits.most].map(megabytes);
    this.say(`${why} a body of ${sent}: chunks have ${most} from now on`);
  }

  /**
   * Decides about a response that is no success: returns if the same bytes can be sent again, with
   * true if in smaller chunks.
   */
  #refused(response, length = this.limits.most) {
    const { status } = response;
    if (status === 413) {
      if (length <= MIN_CHUNK)
        throw new UserError(
          "a proxy before the registry refuses bodies of 1 MiB: raise its limit (nginx: client_max_body_size)",
        );
      this.#shrink(length, "the edge refused");
      return true;
    }
    // 416 is another offset than ours; the others are temporary.
    if (status === 416 || isTemporary(status)) return false;
    if (status === 404) this.journal.remove(this.#entry);
    throw new RegistryError(response);
  }

  /** Notes the offset of the registry, which others may have moved, and the address. */
  #setOffset({ headers }, end) {
    this.#stored = offsetOf(headers) ?? end;
    if (this.#stored < this.#base || this.#stored > end) {
      this.journal.remove(this.#entry);
      throw new UserError(
        `the registry has ${this.#stored} bytes of the upload, the relay is at ${this.#base}: push it again`,
      );
    }
    this.#entry.location = this.#pathOf(headers.location);
  }

  #pathOf(location = this.#entry.location) {
    const path = this.registry.pathOf(location);
    if (path === undefined) throw new UserError("the registry continues the upload on another host, which is not --to");
    return path;
  }

  /** Asks for the registry's offset after a failure. */
  async #synchronize() {
    for (let failures = 1; ; failures += 1) {
      const response = await this.#ask("GET");
      if (response.status === 204 && offsetOf(response.headers) !== undefined)
        return this.#setOffset(response, this.#base + this.#spool.length);
      if (response.status && response.status !== 204) this.#refused(response);
      if (failures === ATTEMPTS)
        throw new UserError(`the registry did not tell its offset in ${ATTEMPTS} attempts: ${reason(response)}`);
      await pause(failures, response);
    }
  }

  /**
   * Closes the upload. Resolves with the registry's response. If there is none, the journal keeps
   * the upload: the next push of the blob goes on with it.
   */
  async close(digest) {
    const length = this.#spool?.length ?? 0;
    const isSmall = length <= SMALL && !this.#live && this.#candidates.length === 0;
    try {
      if (this.#stored > this.#base + length) this.#differs();
      if (length > 0 && !isSmall) await this.#finishChunk();
      const response = await this.#put(digest, isSmall);
      this.journal.remove(this.#entry);
      return response;
    } finally {
      this.journal.release(this.#entry);
      await this.discard();
    }
  }

  async #put(digest, isSmall) {
    const length = this.#spool?.length ?? 0;
    const blob = `/v2/${this.repository}/blobs/${digest}`;
    for (let failures = 1; ; failures += 1) {
      const target = new URL(this.#entry.location, this.registry.origin);
      target.searchParams.set("digest", digest);
      const body = isSmall && length > 0 ? this.#spool.read(this.#stored - this.#base, length) : undefined;
      const headers = { ...this.#headers, "content-length": body ? this.#base + length - this.#stored : 0 };
      const response = await this.registry
        .ask("PUT", target.pathname + target.search, { headers, body })
        .catch((error) => ({ error }));
      // A registry that has closed the upload may answer 404 to a PUT that comes twice.
      const isUnknown = response.status === 404;
      if (!isUnknown) {
        if (response.status && (!isTemporary(response.status) || failures === ATTEMPTS)) return response;
        if (failures === ATTEMPTS)
          throw new UserError(`the registry did not close the upload in ${ATTEMPTS} attempts: ${reason(response)}`);
        await pause(failures, response);
      }
      // The response may have been lost, and the blob be there.
      // The token for the upload can't read.
      const authorization = this.authorize();
      const headersOfClient = authorization ? { authorization } : {};
      const found = await this.registry.ask("HEAD", blob, { headers: headersOfClient }).catch(() => ({}));
      if (found.status === 200)
        return { status: 201, headers: { location: blob, "docker-content-digest": digest }, body: "" };
      if (isUnknown) return response;
      // Strata answers a PUT that comes twice in the same way. Only bytes need an offset.
      if (body) await this.#synchronize().catch((error) => rethrow(error, error instanceof RegistryError));
    }
  }

  /** Gives the upload up at the registry, too. */
  async cancel() {
    try {
      this.#claim();
      this.journal.remove(this.#entry);
      this.#cancelled.abort(uploadUnknown("the upload was cancelled"));
      this.#live?.abort();
      return await this.registry.ask("DELETE", this.#entry.location, { headers: this.#headers });
    } finally {
      // A request that sends to the upload discards it at its end.
      if (!this.isBusy) await this.discard();
    }
  }

  /** Frees what the upload has on this machine. The next upload may resume from the journal. */
  async discard() {
    this.journal.release(this.#entry);
    await this.#live?.abort();
    this.#live = undefined;
    const spool = this.#spool;
    this.#spool = undefined;
    await spool?.close();
  }
}

const reason = ({ error, status, body }) => (error ? causeOf(error) : `${status} ${messageOf(body)}`);

/** Returns the text of an error. That of several addresses that fail has a code only. */
const causeOf = (error) => error.message || error.code;

/** Returns whether the same request may get another response. */
const isTemporary = (status) => status === 408 || status === 429 || status >= 500;

function rethrow(error, isExpected) {
  if (!isExpected) throw error;
}

/** Returns the message of an error in the specification's form, or the beginning of the text. */
function messageOf(text = "") {
  let message = text.replaceAll(/<[^<>]*>/g, " ");
  try {
    message = String(JSON.parse(text).errors[0].message);
  } catch {
    // Not in that form.
  }
  return oneLine(message).slice(0, 500);
}

/** Returns a text without control characters: terminals and CI systems act on them. */
const oneLine = (text) => text.replaceAll(/[\s\p{Cc}]+/gu, " ").trim();

/** Waits before another attempt: longer each time, at random, and as long as the registry asks. */
async function pause(failures, { headers } = {}) {
  const asked = Number(headers?.["retry-after"]) * 1000 || 0;
  const backoff = Math.min(30_000, 250 * 2 ** failures) * (0.5 + Math.random());
  await sleep(Math.max(Math.min(asked, 60_000), backoff));
}

/**
 * Asks until there is a response that is not temporary, and resolves with the last one. `ask` sends
 * a request that may be repeated.
 */
async function untilAnswered(ask) {
  for (let failures = 1; ; failures += 1) {
    const response = await ask().catch((error) => ({ error }));
    const { error, status } = response;
    const isFinal = error instanceof UserError || error instanceof RegistryError || error?.name === "AbortError";
    if (isFinal) throw error;
    if (!error && !isTemporary(status)) return response;
    if (failures === SMALL_ATTEMPTS) {
      if (error) throw error;
      return response;
    }
    await pause(failures, response);
  }
}

const megabytes = (bytes) => (bytes < 1e6 ? `${bytes} bytes` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`);

// ------------------------------------------------------------------------------------------ Server

/**
 * Returns the bytes of a request. Throws if the client sends none for `clientTimeout` milliseconds.
 */
async function* bytesOf(request, clientTimeout) {
  // The connection stays, so that the client can read the response to a body that is refused.
  const parts = request.iterator({ destroyOnReturn: false });
  let isSilent = false;
  try {
    for (;;) {
      const waiting = new AbortController();
      const silence = sleep(clientTimeout, undefined, { signal: waiting.signal }).then(() => {
        isSilent = true;
        throw new ClientTimeout(clientTimeout);
      });
      const { done, value } = await Promise.race([parts.next(), silence]).finally(() => {
        silence.catch(() => {});
        waiting.abort();
      });
      if (done) return;
      yield value;
    }
  } finally {
    // `return()` would block until the next bytes arrive.
    if (!isSilent) await parts.return();
  }
}

/** Runs at most this many at a time; others wait, or leave when their signal aborts. */
function semaphore(permits) {
  let running = 0;
  const waiting = new Set();
  return async (work, signal) => {
    if (running === permits)
      await new Promise((resolve, reject) => {
        waiting.add(resolve);
        signal?.addEventListener("abort", () => {
          waiting.delete(resolve);
          reject(signal.reason);
        });
      });
    else running += 1;
    try {
      return await work();
    } finally {
      const [next] = waiting;
      waiting.delete(next);
      if (next) next();
      else running -= 1;
    }
  };
}

/** Returns whether a Host header names this machine: a web page of another name must not push. */
const isLocal = (host = "") => /^(localhost|127(\.\d{1,3}){3})(:\d+)?$/i.test(host);

/** Returns whether a request is of no web page, or of one that came through the relay. */
const isOwn = (origin) => origin === undefined || (URL.canParse(origin) && isLocal(new URL(origin).host));

/** Copies headers, without the ones that belong to a connection or describe another body. */
const copied = (headers, without = HOP) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !without.test(name)));

/** The same with the ones about a body that is not passed on, or that is read here. */
const ABOUT_BODY = new RegExp(`${HOP.source}|^(accept-encoding|content-(length|range|type|encoding))$`, "i");

/**
 * Serves a registry on a loopback port. Resolves with `{ port, stop }`.
 *
 * @param {{ registry: Registry, journal: Journal, chunk?: number, blobs: number, port: number,
 *   clientTimeout?: number, idleTimeout?: number, progress?: number,
 *   say: (line: string) => void }} options
 *   `chunk` is in bytes; without it, the registry's announcement counts. `clientTimeout` is
 *   the timeout of a client that sends no bytes of a blob, `idleTimeout` the one of an upload
 *   without requests, and `progress` the time between two lines about a blob, in milliseconds
 */
export async function serve({
  registry,
  journal,
  chunk,
  blobs,
  port,
  clientTimeout = CLIENT_TIMEOUT,
  idleTimeout = IDLE_TIMEOUT,
  progress = PROGRESS_INTERVAL,
  say,
}) {
  const uploads = new Map();
  const slot = semaphore(blobs);
  const limits = { most: undefined, isRefused: false };
  const idle = setInterval(() => {
    for (const [id, upload] of uploads)
      if (!upload.isBusy && Date.now() - upload.touched > idleTimeout && uploads.delete(id))
        upload.discard().catch(() => {});
  }, idleTimeout / 15).unref();

  const server = http.createServer({ requestTimeout: 0, keepAliveTimeout: 75_000 }, (request, response) => {
    answer(request, response).catch((error) => {
      try {
        explain(request, response, error);
      } catch {
        // A response of the registry that can't be passed on.
        response.destroy();
      }
    });
  });

  function explain(request, response, error) {
    if (!request.complete && !response.headersSent) {
      // Nobody reads the rest of the body, and no request can follow it.
      response.setHeader("connection", "close");
      request.resume();
    }
    if (error instanceof RegistryError) return reply(response, error.response);
    const isGone = (request.destroyed && !request.complete) || (response.destroyed && !response.headersSent);
    const cause = causeOf(error);
    if (!isGone) say(`✗ ${request.method} ${request.url.split("?")[0]}: ${cause}`);
    if (response.headersSent) return response.destroy();
    const isSilent = error instanceof ClientTimeout;
    const status = isSilent ? 408 : error instanceof UserError ? 500 : 502;
    refuse(response, status, "UNAVAILABLE", `${cause} (relay ${VERSION})`);
  }

  async function answer(request, response) {
    if (!isLocal(request.headers.host)) {
      const name = JSON.stringify(request.headers.host);
      const message = `the relay answers to localhost, not to ${name}: a daemon elsewhere can't push to it, use node relay.mjs push`;
      return refuse(response, 403, "DENIED", message);
    }
    if (!isOwn(request.headers.origin))
      return refuse(response, 403, "DENIED", "the relay serves no other site's pages");
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    const [, repository, id] = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/.exec(pathname) ?? [];
    if (repository && id === "" && request.method === "POST") return begin(request, response, repository, searchParams);
    const upload = uploads.get(id);
    if (!upload || upload.repository !== repository) return pass(request, response);
    const { authorization } = request.headers;
    upload.authorize = () => authorization;
    if (request.method === "GET") return tell(response, 204, upload);
    if (request.method === "DELETE") {
      uploads.delete(id);
      return reply(response, await upload.cancel());
    }
    // One body at a time: the bytes of two would be mixed.
    if (upload.isBusy && (request.method === "PATCH" || request.method === "PUT")) return tell(response, 416, upload);
    if (request.method === "PATCH") {
      const [, from] = /^(?:bytes )?(\d+)-\d+/.exec(request.headers["content-range"] ?? "") ?? [];
      if (from !== undefined && Number(from) !== upload.received) return tell(response, 416, upload);
      await receive(request, response, upload);
      return tell(response, 202, upload);
    }
    if (request.method === "PUT") return finish(request, response, upload, searchParams.get("digest"));
    return pass(request, response);
  }

  /** Takes the body of a request for an upload, in its turn. */
  async function receive(request, response, upload, options) {
    upload.isBusy = true;
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("the client went away")));
    try {
      await slot(() => upload.receive(bytesOf(request, clientTimeout), options), gone.signal);
    } catch (error) {
      // The registry does not go on with this upload. A client that went away may come back.
      if (error instanceof RegistryError || error instanceof UserError) uploads.delete(upload.id);
      throw error;
    } finally {
      upload.isBusy = false;
      upload.touched = Date.now();
      if (!uploads.has(upload.id)) await upload.discard();
    }
  }

  /** Begins an upload, or mounts a blob, or takes one that comes with the request. */
  async function begin(request, response, repository, query) {
    const digest = query.get("digest");
    if (digest && (await isThere(request, repository, digest))) return stored(request, response, repository, digest);
    query.delete("digest");
    const { authorization } = request.headers;
    const authorize = () => authorization;
    const headers = { ...copied(request.headers, ABOUT_BODY), "content-length": 0, "strata-relay": VERSION };
    const target = `/v2/${repository}/blobs/uploads/${query.size > 0 ? `?${query}` : ""}`;
    const begun = await registry.ask("POST", target, { headers });
    const location = begun.status === 202 && registry.pathOf(begun.headers.location ?? "");
    if (!location) return reply(response, begun);
    limits.most ??= chunkOf(chunk, begun.headers);
    const token = begun.headers["strata-upload-token"];
    const upload = new Upload({ registry, journal, limits, repository, authorize, location, token, progress, say });
    uploads.set(upload.id, upload);
    if (!digest) return tell(response, 202, upload);
    try {
      return await finish(request, response, upload, digest);
    } finally {
      // The client never learns the upload's id, so nobody goes on with it.
      uploads.delete(upload.id);
      await upload.discard();
    }
  }

  /** Takes the last bytes of an upload, and closes it. */
  async function finish(request, response, upload, digest) {
    if (!digest) {
      const message = "no query parameter digest: close an upload with the digest of its blob";
      return refuse(response, 400, "DIGEST_INVALID", message);
    }
    const begunAt = performance.now();
    const length = request.headers["content-length"];
    const size = length === undefined ? undefined : upload.received + Number(length);
    const label = `${upload.repository} ${digest.slice(0, 19)}`;
    await receive(request, response, upload, { isLast: true, label, size });
    uploads.delete(upload.id);
    const closed = await upload.close(digest);
    if (closed.status === 201) {
      const seconds = ((performance.now() - begunAt) / 1000).toFixed(1);
      say(`✓ ${upload.repository} ${digest.slice(0, 19)} ${megabytes(upload.received)} ${seconds} s`);
    }
    return reply(response, closed);
  }

  /** Resolves with true if the repository has a large blob already, which is not worth sending. */
  async function isThere(request, repository, digest) {
    if (Number(request.headers["content-length"] ?? 0) <= SMALL) return false;
    const headers = copied(request.headers, ABOUT_BODY);
    const { status } = await registry.ask("HEAD", `/v2/${repository}/blobs/${digest}`, { headers });
    return status === 200;
  }

  /** Answers a push of a blob that the repository has: its bytes are read, and not sent. */
  async function stored(request, response, repository, digest) {
    for await (const _ of request);
    say(`✓ ${repository} ${digest.slice(0, 19)} is there already`);
    const headers = { location: `/v2/${repository}/blobs/${digest}`, "docker-content-digest": digest };
    return reply(response, { status: 201, headers, body: "" });
  }

  /** Passes a request on as it is, and its response back. */
  async function pass(request, response) {
    const controller = new AbortController();
    response.on("close", () => response.writableFinished || controller.abort());
    const hasBody = request.headers["content-length"] > 0 || request.headers["transfer-encoding"] !== undefined;
    const passed = await registry.request(request.method, request.url, {
      headers: copied(request.headers),
      body: hasBody ? request : undefined,
      signal: controller.signal,
    });
    response.writeHead(passed.status, local(passed.headers));
    await pipeline(passed.body, response);
  }

  /**
   * Returns the headers of a response, with addresses of the registry as paths, so that they lead
   * back here.
   */
  function local(headers) {
    const { location, link, ...others } = copied(headers);
    const path = location && registry.pathOf(location);
    return {
      ...others,
      ...(location && { location: path ?? location }),
      ...(link && { link: link.replaceAll(/<([^>]*)>/g, (_, one) => `<${registry.pathOf(one) ?? one}>`) }),
    };
  }

  function reply(response, { status, headers, body = "" }) {
    const bytes = Buffer.from(body);
    const type = bytes.length > 0 && !headers["content-type"] ? { "content-type": "application/json" } : {};
    const isEmpty = status === 204 || bytes.length === 0;
    response.writeHead(status, {
      ...local(copied(headers, /^content-length$/i)),
      ...type,
      ...(status === 204 ? {} : { "content-length": bytes.length }),
    });
    response.end(isEmpty ? undefined : bytes);
  }

  /** Answers with an error in the specification's form. */
  function refuse(response, status, code, message) {
    reply(response, { status, headers: {}, body: JSON.stringify({ errors: [{ code, message }] }) });
  }

  function tell(response, status, upload) {
    response.writeHead(status, {
      location: `/v2/${upload.repository}/blobs/uploads/${upload.id}`,
      range: `0-${Math.max(0, upload.received - 1)}`,
      "docker-upload-uuid": upload.id,
      ...(status === 204 ? {} : { "content-length": 0 }),
    });
    response.end();
  }

  server.listen(port, "127.0.0.1");
  await once(server, "listening").catch(({ code }) => {
    throw new UserError(
      code === "EADDRINUSE"
        ? `port ${port} is in use: choose another by --port N`
        : `port ${port} can't be used (${code}): choose another by --port N`,
    );
  });
  return {
    port: server.address().port,
    async stop() {
      clearInterval(idle);
      server.close();
      server.closeAllConnections();
      for (const upload of uploads.values()) await upload.discard();
    },
  };
}

// -------------------------------------------------------------------------------------------- Push

const OCI = "application/vnd.oci.image";

/** Returns a number of a tar header: octal digits, or GNU's binary form of sizes above 8 GiB. */
function tarNumber(field) {
  if (field[0] === 0x80) return Number(field.readBigUInt64BE(field.length - 8));
  return Number.parseInt(field.toString("latin1").replace(/\0.*$/s, "").trim() || "0", 8);
}

/** Returns the records of a pax header, `LENGTH KEY=VALUE\n`, or undefined if it is damaged. */
function paxRecords(bytes) {
  const records = {};
  for (let at = 0; at < bytes.length; ) {
    const [, digits] = /^(\d+) /.exec(bytes.toString("latin1", at, at + 16)) ?? [];
    const end = at + Number(digits);
    const [key, ...value] = bytes.toString("utf8", at + digits?.length + 1, end - 1).split("=");
    if (!(end > at && end <= bytes.length) || value.length === 0) return undefined;
    records[key] = value.join("=");
    at = end;
  }
  return records;
}

/** The files of an OCI layout or of `docker save`: in a folder, or in a tar archive. */
export class Files {
  #folder;
  #archive;
  #entries = new Map();

  /** Opens a folder, an archive, or standard input. */
  static async open(source) {
    const files = new Files();
    if (source === "-") files.#archive = await spooled(process.stdin);
    else {
      const found = await fs.promises.stat(source).catch(() => undefined);
      if (!found)
        throw new UserError(`there is no ${source}: name an OCI layout, a tar of docker save, or - for standard input`);
      if (found.isDirectory()) {
        files.#folder = source;
        return files;
      }
      // A pipe, as of `<(tar …)`, can be read once.
      files.#archive = await (found.isFile() ? fs.promises.open(source) : spooled(fs.createReadStream(source)));
    }
    await files.#index(source === "-" ? "standard input" : source).catch(async (error) => {
      await files.close();
      throw error;
    });
    return files;
  }

  /** Reads the headers of the archive: POSIX tar, with the long names and sizes of GNU and pax. */
  async #index(source) {
    const { size: whole } = await this.#archive.stat();
    const text = (bytes, at, length) => bytes.toString("utf8", at, at + length).replace(/\0.*$/s, "");
    let long = {};
    for (let at = 0; at + 512 <= whole; ) {
      const { buffer: header } = await this.#archive.read(Buffer.alloc(512), 0, 512, at);
      if (header.every((byte) => byte === 0)) break;
      const size = long.size ?? tarNumber(header.subarray(124, 136));
      if (!Number.isSafeInteger(size) || (text(header, 257, 5) !== "ustar" && at === 0))
        throw new UserError(
          `${source} is not a tar archive: name an OCI layout, a tar of docker save, or - for standard input`,
        );
      const data = at + 512;
      if (size < 0 || data + size > whole) throw new UserError(`${source} is cut or damaged: make it again`);
      const type = text(header, 156, 1) || "0";
      at = data + Math.ceil(size / 512) * 512;
      if ("LKx".includes(type) && size > MIB) throw new UserError(`${source} has a name of ${megabytes(size)}`);
      const content = async () => (await this.#archive.read(Buffer.alloc(size), 0, size, data)).buffer;
      if (type === "L" || type === "K") long[type === "L" ? "path" : "linkpath"] = text(await content(), 0, size);
      else if (type === "x") {
        const records = paxRecords(await content());
        if (!records) throw new UserError(`${source} is cut or damaged: make it again`);
        long = { ...long, ...records, ...(records.size !== undefined && { size: Number(records.size) }) };
      } else if (type !== "g") {
        const prefix = text(header, 345, 155);
        const name = long.path ?? (prefix ? `${prefix}/${text(header, 0, 100)}` : text(header, 0, 100));
        const link = long.linkpath ?? text(header, 157, 100);
        const clean = path.posix.normalize(name);
        if (type === "1") this.#entries.set(clean, { link: path.posix.normalize(link) });
        else if (type === "2") this.#entries.set(clean, { link: path.posix.join(path.posix.dirname(clean), link) });
        else if (type === "0") this.#entries.set(clean, { data, size });
        long = {};
      }
    }
  }

  #entry(name) {
    let entry = this.#entries.get(path.posix.normalize(name));
    for (let links = 0; entry?.link && links < 8; links += 1) entry = this.#entries.get(entry.link);
    return entry?.link ? undefined : entry;
  }

  /** Returns `{ size, stream() }` of a file, or undefined. */
  async file(name) {
    if (this.#folder) {
      const file = path.resolve(this.#folder, name);
      // The names are of the image, which may be anybody's.
      const real = await fs.promises.realpath(file).catch(() => file);
      const folder = await fs.promises.realpath(this.#folder);
      if (
        !real.startsWith(folder + path.sep) &&
        !(real === file && file.startsWith(path.resolve(this.#folder) + path.sep))
      )
        throw new UserError(`${JSON.stringify(name)} leads out of the image's folder`);
      const found = await fs.promises.stat(file).catch(() => undefined);
      return found?.isFile()
        ? { size: found.size, stream: () => fs.createReadStream(file, { highWaterMark: READ }) }
        : undefined;
    }
    const entry = this.#entry(name);
    if (!entry) return undefined;
    const { data, size } = entry;
    const stream = () =>
      size === 0
        ? Readable.from([])
        : this.#archive.createReadStream({
            start: data,
            end: data + size - 1,
            autoClose: false,
            highWaterMark: READ,
          });
    return { size, stream };
  }

  /** Returns a small file whole, or undefined. */
  async read(name) {
    const file = await this.file(name);
    if (!file) return undefined;
    if (file.size > 16 * MIB) throw new UserError(`${name} has ${megabytes(file.size)}: it is no document`);
    const parts = [];
    for await (const part of file.stream()) parts.push(part);
    return Buffer.concat(parts);
  }

  async close() {
    await this.#archive?.close();
  }
}

function parseJson(bytes, problem) {
  try {
    return JSON.parse(bytes);
  } catch {
    throw new UserError(problem);
  }
}

/** Parses a document of the image. */
function parsed(bytes, name) {
  const document = parseJson(bytes, `${name} is not JSON: the image is damaged`);
  if (document === null || typeof document !== "object")
    throw new UserError(`${name} is ${document}, not an object: the image is damaged`);
  return document;
}

/** Returns the list of objects in a document of the image. Go writes an empty list as null. */
function objectsIn(list, name) {
  const all = list ?? [];
  if (!Array.isArray(all) || all.some((one) => one === null || typeof one !== "object"))
    throw new UserError(`${name} has ${JSON.stringify(list)} instead of a list of objects: the image is damaged`);
  return all;
}

/**
 * Reads an image. Resolves with its `blobs`, as `{ digest, size, stream() }`, and its `manifests`,
 * as `{ digest, mediaType, bytes }`, the children first and the image last.
 */
export async function imageIn(files, ref) {
  const [index, list] = [await files.read("index.json"), await files.read("manifest.json")];
  if (!index && !list)
    throw new UserError("no index.json and no manifest.json: it is neither an OCI layout nor a docker save");
  if (!index) return dockerImage(files, parsed(list, "manifest.json"), ref);
  const image = await ociImage(files, parsed(index, "index.json"), ref);
  // docker saves a layout with plain layers, and pushes the same image compressed.
  return image.isPlain && list ? dockerImage(files, parsed(list, "manifest.json"), ref) : image;
}

/** Selects an image: the only one, or the one of a name. Names of one image count as one. */
function selectImage(all, ref, { idOf, namesOf, what }) {
  const isNamed = (one) => namesOf(one).some((name) => name === ref || String(name).endsWith(`:${ref}`));
  const found = new Map(all.filter((one) => ref === undefined || isNamed(one)).map((one) => [idOf(one), one]));
  if (found.size === 1) return [...found.values()][0];
  const names = all.flatMap(namesOf).filter(Boolean).join(", ");
  throw new UserError(
    `${what} ${found.size} images${ref ? ` named ${ref}` : ""}: select one by --ref, of ${names || "no names"}`,
  );
}

/** The media types of manifests. An index may list blobs, as BuildKit's cache does. */
const MANIFESTS =
  /^application\/vnd\.(oci\.(image\.(manifest|index)|artifact\.manifest)\.v1\+json|docker\.distribution\.manifest\.(list\.)?v2\+json)$/;

/** The form of a media type (RFC 6838, section 4.2), which is sent as a header. */
const MEDIA_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/;

/** The media types of layers that may be absent. */
const MAY_BE_ABSENT =
  /^application\/vnd\.(oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.diff\.)/;

async function ociImage(files, index, ref) {
  const namesOf = ({ annotations }) => [
    annotations?.["io.containerd.image.name"],
    annotations?.["org.opencontainers.image.ref.name"],
  ];
  const top = selectImage(objectsIn(index.manifests, "index.json"), ref, {
    idOf: ({ digest }) => digest,
    namesOf,
    what: "the layout has",
  });
  const [blobs, manifests, visited] = [new Map(), new Map(), new Set()];
  let isPlain = false;
  const add = async ({ digest, mediaType }, of) => {
    const file = await files.file(blobPath(digest));
    if (file) blobs.set(digest, { digest, ...file });
    else if (!MAY_BE_ABSENT.test(mediaType))
      throw new UserError(`the layout has no blob ${digest}, which manifest ${of} names`);
  };
  const visit = async ({ digest, mediaType }) => {
    if (visited.has(digest)) return;
    visited.add(digest);
    const name = blobPath(digest);
    const bytes = await files.read(name);
    if (!bytes) {
      // Images of other platforms may be absent, and the registry says if it accepts that.
      if (digest !== top.digest) return;
      throw new UserError(`the layout has no ${name}, which its index names`);
    }
    // The tag gets the digest of the bytes.
    if (!isDigestOf(digest, bytes)) throw new UserError(`the image is damaged: ${name} has another digest`);
    const manifest = parsed(bytes, name);
    for (const child of objectsIn(manifest.manifests, name))
      await (MANIFESTS.test(child.mediaType) ? visit(child) : add(child, digest));
    const [layers, others] = [objectsIn(manifest.layers, name), objectsIn(manifest.blobs, name)];
    isPlain ||= layers.some((layer) => layer.mediaType === `${OCI}.layer.v1.tar`);
    for (const blob of [manifest.config, ...layers, ...others].filter(Boolean)) await add(blob, digest);
    const type = manifest.mediaType ?? mediaType;
    if (!MEDIA_TYPE.test(type))
      throw new UserError(`${name} has no valid mediaType (${JSON.stringify(type) ?? "none"}): the image is damaged`);
    manifests.set(digest, { digest, bytes, mediaType: type });
  };
  await visit(top);
  return { blobs: [...blobs.values()], manifests: [...manifests.values()], isPlain };
}

/** Returns the path of a blob in a layout. */
function blobPath(digest) {
  if (typeof digest !== "string" || !/^[a-z0-9]+:[0-9a-f]{32,128}$/.test(digest))
    throw new UserError(`${JSON.stringify(digest)} is no digest`);
  return `blobs/${digest.replace(":", "/")}`;
}

/** Returns whether a digest can be of these bytes. Of an unknown algorithm, it can. */
function isDigestOf(digest, bytes) {
  const [algorithm, encoded] = digest.split(":");
  return (
    !crypto.getHashes().includes(algorithm) || crypto.createHash(algorithm).update(bytes).digest("hex") === encoded
  );
}

/** An image of `docker save` with plain layers, which are compressed here. */
async function dockerImage(files, list, ref) {
  if (!Array.isArray(list))
    throw new UserError(
      "manifest.json is not of docker save: if it is of skopeo, convert it by skopeo copy dir:FROM oci:TO",
    );
  const { Config, Layers } = selectImage(objectsIn(list, "manifest.json"), ref, {
    idOf: (image) => image.Config,
    namesOf: ({ RepoTags }) => RepoTags ?? [],
    what: "the archive has",
  });
  const names = Layers ?? [];
  if (typeof Config !== "string" || !Array.isArray(names) || names.some((name) => typeof name !== "string"))
    throw new UserError("manifest.json has an image without Config or Layers: the image is damaged");
  const bytes = await files.read(Config);
  if (!bytes) throw new UserError(`the archive has no ${Config}, which manifest.json names`);
  const config = { digest: `sha256:${sha256(bytes)}`, size: bytes.length, stream: () => Readable.from([bytes]) };
  const { diff_ids: wanted } = parsed(bytes, Config).rootfs ?? {};
  if (!Array.isArray(wanted))
    throw new UserError(`${Config} has no rootfs.diff_ids: it is no configuration of an image`);
  const layers = [];
  for (const name of names) {
    const file = await files.file(name);
    if (!file) throw new UserError(`the archive has no ${name}, which manifest.json names`);
    const known = layers.find(({ plain }) => plain === wanted[layers.length]);
    const layer = known ?? (await compressed(file));
    // Some versions of docker save layers in a wrong order, or leave them out.
    if (wanted[layers.length] !== layer.plain)
      throw new UserError(
        `${name} is not the layer ${wanted[layers.length]} of the image: save it with another docker`,
      );
    layers.push(layer);
  }
  if (wanted.length !== layers.length)
    throw new UserError(`the archive has ${layers.length} of ${wanted.length} layers: save it with another docker`);
  const described = (mediaType, { digest, size }) => ({ mediaType, digest, size });
  const mediaType = `${OCI}.manifest.v1+json`;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: described(`${OCI}.config.v1+json`, config),
      layers: layers.map((layer) => described(`${OCI}.layer.v1.tar+gzip`, layer)),
    }),
  );
  return {
    blobs: [config, ...new Set(layers)],
    manifests: [{ digest: `sha256:${sha256(manifest)}`, mediaType, bytes: manifest }],
  };
}

/** Compresses a plain layer once for its digests, and again when it is sent. */
async function compressed(file) {
  const [plain, hash] = [crypto.createHash("sha256"), crypto.createHash("sha256")];
  let size = 0;
  const seen = new Transform({
    transform(part, _, done) {
      plain.update(part);
      done(null, part);
    },
  });
  await pipeline(file.stream(), seen, zlib.createGzip(), async (parts) => {
    for await (const part of parts) {
      hash.update(part);
      size += part.length;
    }
  });
  return {
    digest: `sha256:${hash.digest("hex")}`,
    plain: `sha256:${plain.digest("hex")}`,
    size,
    stream: () => file.stream().pipe(zlib.createGzip()),
  };
}

/** Returns the credentials for a host: of the environment, of docker, or of podman and skopeo. */
export async function credentialsFor(host, env = process.env) {
  const { RELAY_USER: user, RELAY_PASSWORD: password } = env;
  if (user && password) return { user, password };
  if (user || password) {
    const [given, missing] = user ? ["RELAY_USER", "RELAY_PASSWORD"] : ["RELAY_PASSWORD", "RELAY_USER"];
    throw new UsageError(`${given} is set and ${missing} is not: set both`);
  }
  const files = [
    path.join(env.DOCKER_CONFIG || path.join(os.homedir(), ".docker"), "config.json"),
    env.REGISTRY_AUTH_FILE,
    env.XDG_RUNTIME_DIR && path.join(env.XDG_RUNTIME_DIR, "containers/auth.json"),
  ];
  for (const file of files.filter(Boolean)) {
    const found = await credentialsIn(file, host);
    if (found) return found;
  }
  return undefined;
}

/** Returns the credentials for a host in docker's configuration or a file of the same form. */
async function credentialsIn(file, host) {
  if (!fs.existsSync(file)) return undefined;
  let text;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch ({ code }) {
    throw new UserError(`cannot read ${file}: ${code}`);
  }
  const { auths, credHelpers, credsStore } = parseJson(text, `cannot read ${file}: not JSON`) ?? {};
  const helper = credHelpers?.[host] ?? credsStore;
  if (helper) {
    const child = spawn(`docker-credential-${helper}`, ["get"], { stdio: ["pipe", "pipe", "ignore"] });
    child.stdin.on("error", () => {}).end(host);
    let answer = "";
    child.stdout.setEncoding("utf8").on("data", (part) => (answer += part));
    const [code] = await once(child, "close").catch(() => [1]);
    if (code === 0) {
      const problem = `cannot read the answer of docker-credential-${helper}: not JSON`;
      const { Username: user, Secret: password } = parseJson(answer, problem) ?? {};
      if (typeof user === "string" && typeof password === "string") return { user, password };
      throw new UserError(`docker-credential-${helper} has no Username and Secret of ${host}: docker login ${host}`);
    }
  }
  const [, entry] =
    Object.entries(auths ?? {}).find(([name]) => name.replace(/^https?:\/\/|\/.*$/g, "") === host) ?? [];
  if (!entry?.auth) return undefined;
  if (typeof entry.auth !== "string") throw new UserError(`cannot read ${file}: the auth of ${host} is no string`);
  const [user, ...password] = Buffer.from(entry.auth, "base64").toString("utf8").split(":");
  return { user, password: password.join(":") };
}

/** Signs in to a registry for a scope, and keeps the token fresh. */
class Session {
  #registry;
  #credentials;
  #scope;
  #challenge;
  #leastRenewal;
  #over = new AbortController();

  constructor(registry, credentials, scope, leastRenewal) {
    this.#registry = registry;
    this.#credentials = credentials;
    this.#scope = scope;
    this.#leastRenewal = leastRenewal;
  }

  async begin() {
    this.#challenge = await this.#registry.check();
    const lifetime = await this.#renew();
    if (lifetime !== undefined) this.#keep(lifetime).catch(() => {});
  }

  /** Renews the token until the end, and soon again if that fails. */
  async #keep(lifetime) {
    for (;;) {
      const time = Math.min(Math.max(this.#leastRenewal, (Number(lifetime) * 1000) / 2 || 30_000), 3_600_000);
      await sleep(time, undefined, { ref: false, signal: this.#over.signal });
      lifetime = await this.#renew().catch(() => 1);
    }
  }

  /** Signs in. Resolves with the lifetime of the token in seconds, if the registry uses tokens. */
  async #renew() {
    const { user, password } = this.#credentials ?? {};
    const basic = user === undefined ? undefined : `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
    const [, realm] = /^bearer .*realm="([^"]*)"/i.exec(this.#challenge ?? "") ?? [];
    if (!realm) {
      const { status, body } = await this.#ask("/v2/", basic);
      if (status !== 200) throw this.#refusal(status, body);
      this.authorization = basic;
      return undefined;
    }
    const target = this.#registry.pathOf(realm);
    // Credentials go to the registry only.
    if (target === undefined)
      throw new UserError(`the token realm ${realm} is on another host than ${this.#registry.origin}`);
    const query = new URLSearchParams({ scope: this.#scope });
    const [, service] = /service="([^"]*)"/.exec(this.#challenge) ?? [];
    if (service) query.set("service", service);
    const url = `${target}${target.includes("?") ? "&" : "?"}${query}`;
    const { status, body } = await this.#ask(url, basic);
    if (status !== 200) throw this.#refusal(status, body);
    const problem = `cannot read the token response of ${this.#registry.origin}: not JSON`;
    const { access_token, token = access_token, expires_in = 60 } = parseJson(body, problem) ?? {};
    if (typeof token !== "string") throw new UserError(`the token response of ${this.#registry.origin} has no token`);
    this.authorization = `Bearer ${token}`;
    return expires_in;
  }

  #ask(target, authorization) {
    const options = { headers: authorization ? { authorization } : {}, signal: this.#over.signal };
    return untilAnswered(() => this.#registry.ask("GET", target, options));
  }

  #refusal(status, body) {
    if (isTemporary(status))
      return new UserError(`${this.#registry.origin} can't sign in: ${status} ${messageOf(body)}; run it again later`);
    const found = this.#credentials ? "refuses the credentials" : "wants credentials, and there are none";
    const { origin, url } = this.#registry;
    const advice = `docker login ${url.host}, or set RELAY_USER and RELAY_PASSWORD`;
    return new UserError(`${origin} ${found} (${status} ${messageOf(body)}): ${advice}`);
  }

  end() {
    this.#over.abort();
  }
}

/** The names of repositories in the specification. */
const REPOSITORY = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;

/** Splits `[https://]HOST/NAME[:TAG]`. */
export function targetOf(text) {
  if (/@/.test(text)) throw new UsageError(`--to ${text} has a digest: use a tag, HOST/NAME:TAG`);
  const [, scheme = "", host, repository, tag = "latest"] =
    /^(https?:\/\/)?([^/]+)\/(.+?)(?::([\w][\w.-]{0,127}))?$/.exec(text) ?? [];
  if (repository !== undefined && repository !== repository.toLowerCase())
    throw new UsageError(`--to ${text} has upper-case letters in the repository: use ${repository.toLowerCase()}`);
  if (!REPOSITORY.test(repository ?? "")) throw new UsageError(`--to ${text}: use HOST/NAME:TAG`);
  return { origin: withScheme(scheme + host), host, repository, tag };
}

/** Splits several addresses of one repository. Returns it with all tags. */
function targetsOf(texts) {
  const [first, ...others] = texts.map(targetOf);
  for (const [index, { origin, repository }] of others.entries())
    if (origin !== first.origin || repository !== first.repository)
      throw new UsageError(
        `--to ${texts[0]} and --to ${texts[index + 1]} are different repositories: push to one after the other`,
      );
  return { ...first, tags: [...new Set([first, ...others].map(({ tag }) => tag))] };
}

/**
 * Pushes an image without a daemon. Resolves with the digest of its manifest. `to` has an address
 * for each tag. `leastRenewal` is the shortest time between requests for tokens, in milliseconds.
 */
export async function push({
  source,
  to,
  ref,
  chunk,
  blobs: atOnce,
  journal,
  progress = PROGRESS_INTERVAL,
  leastRenewal = LEAST_RENEWAL,
  say,
  env = process.env,
}) {
  const { origin, host, repository, tags } = targetsOf([to].flat());
  const registry = new Registry(origin, env);
  const scope = `repository:${repository}:pull,push`;
  const session = new Session(registry, await credentialsFor(host, env), scope, leastRenewal);
  let files;
  try {
    // Wrong credentials are told before a large image is read.
    await session.begin();
    files = await Files.open(source);
    const { blobs, manifests } = await imageIn(files, ref);
    const ask = (method, target, { headers, body } = {}) =>
      untilAnswered(() => {
        const authorized = session.authorization ? { ...headers, authorization: session.authorization } : headers;
        return registry.ask(method, target, { headers: authorized, body });
      });
    const slot = semaphore(atOnce);
    let limits;
    const send = async ({ digest, size, stream }) => {
      const path = `/v2/${repository}/blobs`;
      const found = await ask("HEAD", `${path}/${digest}`);
      if (found.status === 200) return say(`✓ ${digest.slice(0, 19)} is there already`);
      const begun = await ask("POST", `${path}/uploads/`, {
        headers: { "content-length": 0, "strata-relay": VERSION },
      });
      const location = begun.status === 202 && registry.pathOf(begun.headers.location ?? "");
      if (!location) throw new UserError(`${origin} refuses uploads to ${repository}: ${reason(begun)}`);
      limits ??= { most: chunkOf(chunk, begun.headers), isRefused: false };
      const token = begun.headers["strata-upload-token"];
      const upload = new Upload({
        registry,
        journal,
        limits,
        repository,
        location,
        token,
        progress,
        say,
        authorize: () => session.authorization,
      });
      try {
        await upload.receive(stream(), { isLast: true, label: digest.slice(0, 19), size });
        const closed = await upload.close(digest);
        if (closed.status !== 201) throw new UserError(`${origin} refuses blob ${digest}: ${reason(closed)}`);
      } catch (error) {
        await upload.discard();
        throw error instanceof RegistryError
          ? new UserError(`${origin} refuses blob ${digest}: ${reason(error.response)}`)
          : error;
      }
      say(`✓ ${digest.slice(0, 19)} ${megabytes(size)}`);
    };
    const sent = await Promise.allSettled(blobs.map((blob) => slot(() => send(blob))));
    const failed = sent.find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
    const image = manifests.at(-1);
    const references = [
      ...manifests.slice(0, -1).map((child) => [child.digest, child]),
      ...tags.map((tag) => [tag, image]),
    ];
    for (const [reference, { digest, mediaType, bytes }] of references) {
      const target = `/v2/${repository}/manifests/${reference}`;
      const put = await ask("PUT", target, { headers: { "content-type": mediaType }, body: bytes });
      if (put.status !== 201) throw new UserError(`${origin} refuses manifest ${reference}: ${reason(put)}`);
      const stored = put.headers["docker-content-digest"] ?? digest;
      if (!isDigestOf(stored, bytes))
        throw new UserError(`${origin} stored manifest ${reference} as ${stored}, not as ${digest}: push it again`);
    }
    for (const tag of tags) say(`${host}/${repository}:${tag}@${image.digest}`);
    return image.digest;
  } catch (error) {
    if (error instanceof UserError) throw error;
    // An error of a file, or of this program, would come again.
    const isLasting = error.path !== undefined || error instanceof TypeError;
    const advice = isLasting ? "" : "; run it again: it resumes";
    throw new UserError(`the push to ${origin} failed: ${causeOf(error)}${advice}`, { cause: error });
  } finally {
    session.end();
    await files?.close();
  }
}

/**
 * Copies a stream to a temporary file, because an archive names its parts at its end. Resolves with
 * the open file. It has no name, so it ends with the process.
 */
async function spooled(input) {
  const { file } = await openTemporary();
  // No stream that writes: `close()` of its file would wait for ever.
  await file.writeFile(input).catch((error) => {
    throw error.syscall === "write" ? cannotSpool(error) : error;
  });
  return file;
}

// -------------------------------------------------------------------------------------------- Main

/** Returns whether a version is newer than another one. */
export function isNewer(one, other) {
  const [a, b] = [one, other].map((version) => version.split(".").map(Number));
  return (a[0] - b[0] || a[1] - b[1] || a[2] - b[2]) > 0;
}

/** Says if the registry serves a newer relay. */
async function compareVersions(registry, say) {
  const { status, body } = await registry.ask("GET", "/relay.mjs").catch(() => ({}));
  const [, newest] = (status === 200 && /^export const VERSION = "(\d+\.\d+\.\d+)";$/m.exec(body)) || [];
  if (newest && isNewer(newest, VERSION))
    say(`the registry has relay ${newest}, this is ${VERSION}: curl -O ${registry.origin}/relay.mjs`);
}

/** Returns the size of a chunk in bytes: the given one, the announced one, or the usual one. */
function chunkOf(given, headers = {}) {
  const announced = Number(headers["oci-chunk-max-length"]);
  if (given === undefined) return Number.isSafeInteger(announced) && announced >= MIN_CHUNK ? announced : DEFAULT_CHUNK;
  const chunk = Number(given);
  if (!Number.isSafeInteger(chunk) || chunk < MIN_CHUNK)
    throw new UsageError(`--chunk ${given}: use a number of bytes of at least ${MIN_CHUNK}`);
  return chunk;
}

const stateFolder = () =>
  path.join(process.env.XDG_STATE_HOME || path.join(os.homedir(), ".local/state"), "strata-relay");

const OPTIONS = {
  to: { type: "string", multiple: true, default: [] },
  port: { type: "string", default: "5050" },
  chunk: { type: "string" },
  blobs: { type: "string", default: "4" },
  ref: { type: "string" },
  state: { type: "string" },
  version: { type: "boolean" },
  help: { type: "boolean", short: "h" },
};

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch ({ code, message }) {
    const [, option] = /'(?:-\w, )?(-[^' ]*)/.exec(message) ?? [];
    if (code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new UsageError(`unknown option ${option}; see --help`);
    if (OPTIONS[option?.slice(2)]?.type === "string") throw new UsageError(`${option} needs a value; see --help`);
    throw new UsageError(`${message}; see --help`);
  }
}

async function main() {
  const { values, positionals } = argumentsOf(process.argv.slice(2));
  const say = (line) => console.log(line);
  const [command, source, ...others] = positionals;
  if (values.help || command === "help") return say(HELP);
  if (values.version) return say(VERSION);
  if (command !== undefined && command !== "push") throw new UsageError(`unknown command ${command}; see --help`);
  if (command === "push") {
    const usage = "node relay.mjs push IMAGE --to HOST/NAME:TAG";
    if (source === undefined) throw new UsageError(`push needs an image: ${usage}`);
    if (others.length > 0) throw new UsageError(`push takes one image, not ${positionals.length - 1}: ${usage}`);
    if (values.to.length === 0) throw new UsageError(`--to is missing: ${usage}`);
  } else if (values.to.length !== 1) {
    const problem = values.to.length === 0 ? "--to is missing" : "several --to are for push only";
    throw new UsageError(`${problem}: node relay.mjs --to https://HOST`);
  }
  const [port, blobs] = [Number(values.port), Number(values.blobs)];
  if (!/^\d+$/.test(values.port) || port > 65535)
    throw new UsageError(`--port ${values.port}: use a number from 0 to 65535`);
  if (!/^[1-9]\d?$/.test(values.blobs)) throw new UsageError(`--blobs ${values.blobs}: use a number from 1 to 99`);

  const chunk = values.chunk === undefined ? undefined : chunkOf(values.chunk);
  const journal = new Journal(path.join(values.state ?? stateFolder(), "uploads"));
  if (command === "push") {
    const { to, ref } = values;
    for (const signal of ["SIGINT", "SIGTERM"])
      process.once(signal, () => {
        removeNamed();
        process.kill(process.pid, signal);
      });
    await push({ source, to, ref, chunk, blobs, journal, say });
    return;
  }
  const registry = new Registry(values.to[0]);
  await registry.check();
  const relay = await serve({
    registry,
    journal,
    chunk,
    blobs,
    port,
    say,
  });
  const end = () => relay.stop().then(() => process.exit(0));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, end);
  say(`relay ${VERSION} on localhost:${relay.port} to ${registry.origin}
push to localhost:${relay.port}/NAME:TAG; Ctrl-C ends`);
  await compareVersions(registry, say);
}

if (process.argv[1] && import.meta.url === pathToFileURL(fs.realpathSync(process.argv[1])).href) {
  // Without this, work that never ends would be a success when the event loop is empty.
  const onEarlyExit = () => {
    console.error("✗ the relay ended before its work was done: run it again");
    process.exitCode = 1;
  };
  process.once("exit", onEarlyExit);
  main()
    .catch((error) => {
      const isKnown = error instanceof UserError && !debuglog("relay").enabled;
      // The message may have names of the image, which may be anybody's.
      console.error(isKnown ? `✗ ${oneLine(error.message).slice(0, 2000)}` : error);
      process.exitCode = error instanceof UsageError ? 2 : 1;
    })
    .finally(() => process.off("exit", onEarlyExit));
}
