// Connections that a client keeps: after a refused body that was not read, the next request on the
// same connection is answered.
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { buffer } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { begin } from "./push.mjs";

/** Many, because not every unread body resets the next request. */
const TIMES = 1000;
const WRONG = `sha256:${"0".repeat(64)}`;

/** One connection, on which requests are sent one after the other. */
class Connection {
  #socket;
  #received = Buffer.alloc(0);
  #wake = () => {};
  #ended = false;

  constructor({ hostname, port }) {
    this.#socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    this.#socket
      .on("data", (bytes) => {
        this.#received = Buffer.concat([this.#received, bytes]);
        this.#wake();
      })
      .on("error", end)
      .on("close", end);
  }

  /**
   * Sends a request whole, and resolves with the status of its response, once all of it is read.
   */
  async send(method, path, headers, body = Buffer.alloc(0)) {
    const all = { host: "registry.test", ...headers, ...(body.length > 0 && { "content-length": body.length }) };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`), body]));
    for (;;) {
      const end = this.#received.indexOf("\r\n\r\n");
      if (end >= 0) {
        const head = this.#received.subarray(0, end).toString("latin1");
        const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
        const next = end + 4 + length;
        if (this.#received.length >= next) {
          this.#received = this.#received.subarray(next);
          return Number(/^HTTP\/1\.1 (\d+)/.exec(head)[1]);
        }
      }
      if (this.#ended) throw new Error(`the connection ended before the response to ${method} ${path}`);
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  close() {
    this.#socket.destroy();
  }
}

describe("a connection goes on after a refused body", { timeout: 240_000 }, () => {
  let strata;
  before(async () => {
    strata = await start({ probe: false });
  });
  after(() => strata.stop());

  const authorization = basic();

  /** Sends a refused body and then a request, many times on one connection. */
  async function alternate({ times, status, method, path, headersOf, lengthOf }) {
    const connection = new Connection(strata.url);
    try {
      for (let time = 0; time < times; time += 1) {
        const body = buffer(lengthOf(time), `refused ${time}`);
        assert.equal(await connection.send(method, path, headersOf(body), body), status, `refusal ${time}`);
        assert.equal(await connection.send("GET", "/v2/", { authorization }), 200, `request after refusal ${time}`);
      }
    } finally {
      connection.close();
    }
  }

  const small = (time) => 1 + ((time * 97) % 60_000);
  const pathOf = (location) => location.replace(/^https?:\/\/[^/]*/, "");
  const later = ({ length }) => ({ authorization, "content-range": `5-${length + 4}` });

  test("of a chunk at the wrong offset", async () => {
    const path = pathOf(await begin(strata, "connections/chunk"));
    await alternate({ times: TIMES, status: 416, method: "PATCH", path, headersOf: later, lengthOf: small });
  });

  test("of a chunk of 8 MiB, which clients are told to send", async () => {
    const path = pathOf(await begin(strata, "connections/large"));
    const lengthOf = () => 8 * 1024 * 1024;
    await alternate({ times: 20, status: 416, method: "PATCH", path, headersOf: later, lengthOf });
  });

  test("with a malformed digest", async () => {
    const path = "/v2/connections/digest/blobs/uploads/?digest=sha256:x";
    const headersOf = () => ({ authorization });
    await alternate({ times: TIMES, status: 400, method: "POST", path, headersOf, lengthOf: small });
  });

  test("without credentials", async () => {
    const path = `/v2/connections/access/blobs/uploads/?digest=${WRONG}`;
    await alternate({ times: TIMES, status: 401, method: "POST", path, headersOf: () => ({}), lengthOf: small });
  });

  test("without credentials, of 8 MiB", async () => {
    const path = pathOf(await begin(strata, "connections/unsigned"));
    const lengthOf = () => 8 * 1024 * 1024;
    await alternate({ times: 20, status: 401, method: "PATCH", path, headersOf: () => ({}), lengthOf });
  });
});
