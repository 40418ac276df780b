// The listener in front of the runtime: what clients that try TLS first are told, and that all
// other bytes pass unchanged.

import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import http from "node:http";
import net from "node:net";
import tls from "node:tls";
import { after, before, describe, it } from "node:test";

import { front } from "./front.mjs";

describe("the listener in front of the runtime", { timeout: 20_000 }, () => {
  const seen = [];
  let runtime;
  let served;
  let ready = () => Promise.resolve(runtime.address().port);
  before(async () => {
    runtime = http.createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      seen.push(request.headers.host);
      const body = Buffer.concat(chunks);
      response.writeHead(200, { "x-method": request.method }).end(body);
    });
    await once(runtime.listen(0, "127.0.0.1"), "listening");
    served = await front({ host: "127.0.0.1", port: 0, target: () => ready() });
  });
  after(() => {
    served?.stop();
    runtime?.close();
  });

  it("refuses a TLS handshake with a plain response at once", async () => {
    const { port } = served.address;
    const socket = net.connect({ host: "127.0.0.1", port });
    let answer = "";
    socket.setEncoding("latin1").on("data", (text) => (answer += text));
    socket.write(Buffer.from("160301", "hex"));
    await once(socket, "close");
    assert.match(
      answer,
      /^HTTP\/1\.1 400 Bad Request\r\n.*\r\nConnection: close\r\n\r\nthis registry speaks plain HTTP/s,
    );
    const [error] = await once(tls.connect({ host: "127.0.0.1", port }), "error");
    assert.equal(error.code, "ERR_SSL_WRONG_VERSION_NUMBER");
    assert.equal(seen.length, 0);
  });

  it("passes requests on, with their Host and large bodies", async () => {
    const { port } = served.address;
    const body = Buffer.alloc(5 << 20, "body");
    const reply = await fetch(`http://127.0.0.1:${port}/`, { method: "PUT", body });
    assert.equal(reply.headers.get("x-method"), "PUT");
    assert.ok(Buffer.from(await reply.arrayBuffer()).equals(body));
    assert.deepEqual(seen, [`127.0.0.1:${port}`]);
  });

  it("answers a client that has ended its half", async () => {
    const { port } = served.address;
    const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    let answer = "";
    socket.setEncoding("latin1").on("data", (text) => (answer += text));
    socket.end("GET / HTTP/1.1\r\nHost: half\r\nConnection: close\r\n\r\n");
    await once(socket, "end");
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  });

  it("ends the connection of a client that ends it without a byte", async () => {
    const socket = net.connect({ host: "127.0.0.1", port: served.address.port });
    socket.end();
    await once(socket, "close");
  });

  it("opens no connection for a client that is gone once the runtime is there", async () => {
    let connections = 0;
    const counting = net.createServer((socket) => {
      connections += 1;
      socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    });
    await once(counting.listen(0, "127.0.0.1"), "listening");
    const events = new EventEmitter();
    let isReplaced = false;
    const target = async () => {
      events.emit("asked");
      if (!isReplaced) await once(events, "replaced");
      return counting.address().port;
    };
    const other = await front({ host: "127.0.0.1", port: 0, target });
    try {
      const asked = once(events, "asked");
      const gone = net.connect({ host: "127.0.0.1", port: other.address.port });
      gone.write("GET / HTTP/1.1\r\n\r\n");
      await asked;
      gone.resetAndDestroy();
      // A later connection's bytes come after the reset.
      const reply = fetch(`http://127.0.0.1:${other.address.port}/`);
      await once(events, "asked");
      isReplaced = true;
      events.emit("replaced");
      assert.equal((await reply).status, 200);
      assert.equal(connections, 1);
    } finally {
      other.stop();
      counting.close();
    }
  });

  it("keeps connections waiting while the runtime is replaced", async () => {
    const { port } = served.address;
    const before = ready;
    const events = new EventEmitter();
    ready = async () => {
      events.emit("asked");
      await once(events, "replaced");
      return before();
    };
    // A connection of its own, which no earlier request has left open.
    const request = http.get({ host: "127.0.0.1", port, agent: false });
    await once(events, "asked");
    ready = before;
    events.emit("replaced");
    const [reply] = await once(request, "response");
    assert.equal(reply.statusCode, 200);
    reply.resume();
  });

  it("resets a client whose connection to the runtime breaks off", async () => {
    const broken = net.createServer((socket) =>
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", () => socket.resetAndDestroy());
      }),
    );
    await once(broken.listen(0, "127.0.0.1"), "listening");
    const other = await front({ host: "127.0.0.1", port: 0, target: () => Promise.resolve(broken.address().port) });
    try {
      const reply = await fetch(`http://127.0.0.1:${other.address.port}/`);
      await assert.rejects(reply.text());
    } finally {
      other.stop();
      broken.close();
    }
  });

  it("rejects if the port is in use", () =>
    assert.rejects(front({ host: "127.0.0.1", port: served.address.port, target: ready }), { code: "EADDRINUSE" }));
});
