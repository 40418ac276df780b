// The listener of `npm start`, in front of the runtime's port. Clients that try TLS first (docker,
// podman, skopeo, buildah) get a plain refusal at once, as Go's servers give it, and go on with
// plain HTTP. The runtime itself leaves them waiting for some ten seconds.

import net from "node:net";

/** The first byte of a TLS record with a handshake (RFC 8446, section 5.1). */
const HANDSHAKE = 0x16;

const TEXT = "this registry speaks plain HTTP, not TLS: use http://, or mark it as insecure in the client\n";
const REFUSAL = [
  // Go's clients, containerd's fallback among them, recognize a response that begins so.
  "HTTP/1.1 400 Bad Request",
  "Content-Type: text/plain; charset=utf-8",
  `Content-Length: ${TEXT.length}`,
  "Connection: close",
  "",
  TEXT,
].join("\r\n");

/**
 * Listens on an address, and passes each connection on to the port that `target` resolves with: it
 * is called for each connection, so that connections wait while the runtime is replaced. Resolves
 * with the listening address and port, and a function that stops listening and ends all
 * connections. Rejects if the address can't be listened on.
 *
 * @param {{ host: string, port: number, target: () => Promise<number> }} options
 */
export async function front({ host, port, target }) {
  const sockets = new Set();
  // A client may end its half before it has read the response.
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    keep(client);
    const end = () => client.end();
    client.once("end", end);
    client.once("data", async (first) => {
      client.off("end", end);
      if (first[0] === HANDSHAKE) return client.end(REFUSAL);
      client.pause();
      try {
        const there = await target();
        // Its end would no longer be seen.
        if (client.destroyed) return;
        const runtime = net.connect({ host: "127.0.0.1", port: there, allowHalfOpen: true, noDelay: true });
        keep(runtime);
        // The end of one breaks the other off: a client must not take a cut body for a whole one.
        for (const [one, other] of [
          [client, runtime],
          [runtime, client],
        ])
          one.on("close", (failed) => (failed ? other.resetAndDestroy() : other.destroySoon()));
        runtime.write(first);
        client.pipe(runtime).pipe(client);
      } catch {
        client.resetAndDestroy();
      }
    });
  });

  function keep(socket) {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  }

  await new Promise((resolve, reject) => server.once("error", reject).listen({ host, port }, resolve));
  return {
    address: server.address(),
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
