// A load generator for a worker thread. Each of its raw keep-alive connections sends the next
// request as soon as it has the response.
import net from "node:net";
import { parentPort, workerData } from "node:worker_threads";

const { host, port, requests, expected, connections, seconds, least, locked, patient } = workerData;

const latencies = [];
const sockets = new Set();
// Connections that wait to send, if only one request may be in flight.
const waiting = [];
let busy = false;
let begun = performance.now();
let ended = Infinity;
let asked = 0;
let answered = 0;

/** Returns whether the next request belongs to the measurement. */
const more = () => (performance.now() < ended && performance.now() - begun < seconds * 1000) || asked < least;

/** A connection, with the state of the response that it waits for. */
class Connection {
  head = "";
  left = 0;
  since = 0;

  constructor(request) {
    this.bytes = Buffer.from(request);
    this.connect();
  }

  connect() {
    this.socket = net.connect({
      host,
      port,
      noDelay: true,
      // Reuse one buffer: bytes are counted and dropped.
      onread: {
        buffer: Buffer.allocUnsafe(1 << 18),
        callback: (count, buffer) => this.read(buffer.subarray(0, count)),
      },
    });
    const { socket } = this;
    let reason = new Error("the connection was closed");
    socket.on("error", (error) => (reason = error));
    socket.on("close", () => {
      sockets.delete(socket);
      if (!patient || this.head || this.left > 0) return fail(reason);
      // No byte of the response has arrived, so retry. The latency includes the retry.
      this.connect();
      this.socket.write(this.bytes);
    });
    sockets.add(socket);
  }

  ask() {
    this.since = performance.now();
    asked += 1;
    if (!locked) return this.socket.write(this.bytes);
    waiting.push(this);
    next();
  }

  read(chunk) {
    try {
      if (this.left === 0) chunk = this.begin(chunk);
      this.left -= chunk?.length ?? 0;
      if (chunk && this.left < 0) throw new Error("the response is longer than its Content-Length");
      if (chunk && this.left === 0) this.end();
    } catch (error) {
      fail(error);
    }
    return true;
  }

  /**
   * Reads the head of a response. Returns the first bytes of the body, or undefined if the head is
   * incomplete.
   */
  begin(chunk) {
    this.head += chunk.latin1Slice();
    const at = this.head.indexOf("\r\n\r\n");
    if (at < 0) return undefined;
    const head = this.head.slice(0, at + 2);
    const body = chunk.subarray(chunk.length - (this.head.length - at - 4));
    this.head = "";
    this.left = check(head);
    return body;
  }

  end() {
    latencies.push(performance.now() - this.since);
    answered += 1;
    busy = false;
    if (more()) this.ask();
    next();
    if (answered === asked) finish();
  }
}

/** Sends the request that waited longest, if none is in flight. */
function next() {
  if (busy || waiting.length === 0) return;
  busy = true;
  const connection = waiting.shift();
  connection.socket.write(connection.bytes);
}

// The body lengths of heads that passed `check`. Most heads repeat, so few are parsed.
const seen = new Map();

/**
 * Compares a response's head with `expected`, and returns the length of the body. Throws if they
 * differ.
 */
function check(head) {
  const known = seen.get(head);
  if (known !== undefined) return known;
  const status = Number(head.slice(9, 12));
  const field = (name) => new RegExp(`^${name}: *(.*?)\r$`, "im").exec(head)?.[1];
  const found = { status, length: Number(field("content-length") ?? NaN), tier: field("x-strata-tier") };
  for (const [name, value] of Object.entries(expected)) {
    if (value !== undefined && found[name] !== value)
      throw new Error(`expected ${name} ${value}, got ${found[name]}:\n${head}`);
  }
  if (seen.size < 1000) seen.set(head, found.length);
  return found.length;
}

function finish() {
  const took = (performance.now() - begun) / 1000;
  latencies.sort((one, other) => one - other);
  const quantile = (part) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))];
  parentPort.postMessage({ rate: answered / took, p50: quantile(0.5), p99: quantile(0.99), count: answered });
  parentPort.close();
  for (const socket of sockets) socket.removeAllListeners("close").destroy();
}

function fail(error) {
  for (const socket of sockets) socket.removeAllListeners("close").destroy();
  throw error;
}

parentPort.on("message", () => (ended = performance.now()));
const all = Array.from({ length: connections }, (_, index) => new Connection(requests[index % requests.length]));
await Promise.all(all.map(({ socket }) => new Promise((resolve) => socket.once("connect", resolve))));
begun = performance.now();
for (const connection of all) connection.ask();
