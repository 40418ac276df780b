// The edge in front of a registry, as a proxy: it refuses request bodies above a limit with a page
// of HTML, and cuts connections.
import { once } from "node:events";
import http from "node:http";

const PAGE = "<html>\n<head><title>413 Request Entity Too Large</title></head>\n<body>cloudflare</body>\n</html>\n";

/**
 * Starts the proxy in front of an origin. Resolves with its `url`, and:
 *
 * - `received`: the bytes of request bodies that passed
 * - `requests`: method, path and body bytes of each request, in order
 * - `refusals`, `cuts`, `failures`: the numbers of bodies that were refused, cut, and failed
 * - `cut(bytes)`: after so many more bytes, counted over all bodies, the current body is cut, with
 *   its connection
 * - `fail(status, times)`: the next requests with a body get this status
 * - `lose(method)`: the response to the next request of this method does not arrive
 * - `stop()`
 *
 * @param {{ origin: URL, limit?: number }} options `limit` is in bytes of a request body
 */
export async function startEdge({ origin, limit = Number.POSITIVE_INFINITY }) {
  const edge = { received: 0, requests: [], refusals: 0, cuts: 0, failures: 0 };
  let cutAt = Number.POSITIVE_INFINITY;
  let statuses = [];
  let lost;

  const server = http.createServer({ requestTimeout: 0 }, (request, response) => {
    const seen = { method: request.method, path: request.url, bytes: 0 };
    edge.requests.push(seen);
    const refuse = () => {
      edge.refusals += 1;
      response.writeHead(413, { "content-type": "text/html", connection: "close" }).end(PAGE);
      request.unpipe().resume();
      forwarded.destroy();
    };
    const forwarded = http.request(new URL(request.url, origin), {
      method: request.method,
      headers: { ...request.headers, host: request.headers.host },
      // Use each connection once: after a stall, the runtime closes idle ones under new requests.
      agent: false,
    });
    forwarded.on("error", () => {
      if (!response.headersSent && !response.destroyed) response.writeHead(502, { connection: "close" }).end();
      else response.destroy();
    });
    forwarded.on("response", (found) => {
      if (response.headersSent) return found.resume();
      if (request.method === lost) {
        lost = undefined;
        found.resume();
        return request.socket.resetAndDestroy();
      }
      response.writeHead(found.statusCode, found.headers);
      found.on("error", () => response.destroy()).pipe(response);
    });
    if (Number(request.headers["content-length"] ?? 0) > limit) return refuse();
    const hasBody = Number(request.headers["content-length"] ?? 0) > 0 || request.headers["transfer-encoding"];
    if (hasBody && statuses.length > 0) {
      const status = statuses.shift();
      edge.failures += 1;
      forwarded.destroy();
      request.resume();
      return response.writeHead(status, { "retry-after": "0" }).end();
    }
    request.on("data", (bytes) => {
      seen.bytes += bytes.length;
      edge.received += bytes.length;
      cutAt -= bytes.length;
      if (cutAt <= 0) {
        cutAt = Number.POSITIVE_INFINITY;
        edge.cuts += 1;
        forwarded.destroy();
        request.socket.resetAndDestroy();
      } else if (seen.bytes > limit && !response.headersSent) refuse();
    });
    request.on("close", () => {
      if (!request.complete) forwarded.destroy();
    });
    request.pipe(forwarded);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(edge, {
    url: new URL(`http://127.0.0.1:${server.address().port}`),
    cut: (bytes) => (cutAt = bytes),
    lose: (method) => (lost = method),
    fail: (status, times = 1) => (statuses = Array(times).fill(status)),
    async stop() {
      server.close();
      server.closeAllConnections();
    },
  });
}
