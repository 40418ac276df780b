// A registry in memory, whose answers a test replaces: for what the Worker never answers.
import { once } from "node:events";
import http from "node:http";
import { buffer } from "node:stream/consumers";
import { digestOf } from "../edge/bytes.mjs";

/**
 * Starts the registry. Resolves with its `host`, `requests` as `METHOD PATH`, `blobs` and
 * `manifests` by digest or tag, `forget(path)` of an upload, and `stop()`.
 *
 * @param {(request: http.IncomingMessage, response: http.ServerResponse) => unknown} [hook] answers
 *   a request and returns true, or leaves it to the registry; it may be async
 */
export async function startRegistry(hook = () => false) {
  const registry = { requests: [], blobs: new Map(), manifests: new Map() };
  const uploads = new Map();

  async function answer(request, response) {
    const { method } = request;
    const { pathname, searchParams } = new URL(request.url, "http://registry");
    registry.requests.push(`${method} ${pathname}`);
    if (await hook(request, response, registry)) return;
    const body = await buffer(request);
    const [, kind, reference] = /^\/v2\/a\/(blobs\/uploads|blobs|manifests)\/(.*)$/.exec(pathname) ?? [];
    const end = (status, headers) => response.writeHead(status, headers).end();
    if (pathname === "/v2/") return end(200);
    if (kind === "blobs/uploads" && method === "POST") {
      const id = `upload-${uploads.size}`;
      uploads.set(id, body);
      return end(202, { location: `/v2/a/blobs/uploads/${id}` });
    }
    const stored = Buffer.concat([uploads.get(reference) ?? Buffer.alloc(0), body]);
    if (kind === "blobs/uploads" && uploads.has(reference)) {
      uploads.set(reference, stored);
      if (method === "PATCH") return end(202, { location: pathname, range: `0-${stored.length - 1}` });
      uploads.delete(reference);
      const digest = searchParams.get("digest");
      if (digestOf(stored, digest.split(":")[0]) !== digest) return end(400);
      registry.blobs.set(digest, stored);
      return end(201);
    }
    if (kind === "manifests") {
      registry.manifests.set(reference, body);
      return end(201, { "docker-content-digest": digestOf(body) });
    }
    return end(kind === "blobs" && registry.blobs.has(reference) ? 200 : 404);
  }

  const server = http.createServer((request, response) => answer(request, response).catch(() => response.destroy()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(registry, {
    host: `127.0.0.1:${server.address().port}`,
    forget: (path) => uploads.delete(path.split("/").at(-1)),
    stop() {
      server.close();
      server.closeAllConnections();
    },
  });
}
