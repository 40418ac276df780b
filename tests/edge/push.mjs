// The requests of a push, for tests that check each reply.
import { createHash } from "node:crypto";
import { basic } from "./harness.mjs";
import { digestOf } from "./bytes.mjs";
import { open } from "./http.mjs";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

/** Starts an upload, and returns its location. */
export async function begin(strata, name) {
  const reply = await strata.send("POST", `/v2/${name}/blobs/uploads/`);
  if (reply.status !== 202) throw new Error(`POST answered ${reply.status}: ${reply.body}`);
  return reply.headers.location;
}

/** Sends a chunk. Its length is unknown if `body` is not a Buffer. */
export function patch(strata, location, body, headers = {}) {
  return strata.send("PATCH", location, { body, headers: { "content-type": "application/octet-stream", ...headers } });
}

/** Closes an upload, with the last bytes if there are any. */
export function close(strata, location, digest, body) {
  const url = new URL(location, strata.url);
  url.searchParams.set("digest", digest);
  return strata.send("PUT", url, { body });
}

/**
 * Pushes a blob with its digest in one request. Its length is unknown if `body` is not a Buffer and
 * `size` is missing.
 */
export function whole(strata, name, digest, body, size) {
  const headers = size === undefined ? {} : { "content-length": size };
  return strata.send("POST", `/v2/${name}/blobs/uploads/?digest=${digest}`, { body, headers });
}

/** Returns the registry's offset of an upload, at which the next byte belongs. */
export async function received(strata, location) {
  const reply = await strata.send("GET", location);
  if (reply.status !== 204) throw new Error(`GET of the upload answered ${reply.status}: ${reply.body}`);
  // `0-0` stands for no byte as well as for one, so tests don't stop at either.
  const [, last] = /^0-(-?\d+)$/.exec(reply.headers.range) ?? [];
  return Number(last) > 0 ? Number(last) + 1 : 0;
}

/** Pulls a blob and hashes it: `{ status, size, digest }`. */
export async function pull(strata, name, digest) {
  const reply = await open(new URL(`/v2/${name}/blobs/${digest}`, strata.url), { headers: { authorization: basic() } });
  const hash = createHash(digest.split(":")[0]);
  let size = 0;
  for await (const chunk of reply.stream) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { status: reply.status, size, digest: `${digest.split(":")[0]}:${hash.digest("hex")}` };
}

/**
 * Returns a manifest of stored blobs, given as `{ digest, size }`: its bytes, digest and media
 * type. `subject` is another such manifest.
 */
export function manifestOf(config, layers, subject) {
  const layer = "application/vnd.oci.image.layer.v1.tar+gzip";
  const body = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
      layers: layers.map((descriptor) => ({ mediaType: layer, ...descriptor })),
      ...(subject && { subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.body.length } }),
    }),
  );
  return { body, digest: digestOf(body), mediaType: MANIFEST };
}
