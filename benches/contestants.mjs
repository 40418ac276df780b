// The Workers that Strata is compared with, and functions that store the same content in each.
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../scripts/command.mjs";
import { buffer, digestOf } from "../tests/edge/bytes.mjs";
import { modulesOf } from "../tests/edge/harness.mjs";
import { manifestOf, whole } from "../tests/edge/push.mjs";

/** The smallest Worker: it answers a constant. */
export const constant = {
  "index.js": `export default {
    fetch() { return new Response("hello", { headers: { "content-type": "text/plain" } }); }
  }`,
};

/** The same with the headers of a manifest, whose cost on the platform no Worker can avoid. */
export const described = {
  "index.js": `export default {
    fetch(request) {
      request.headers.get("authorization");
      const digest = "sha256:" + "0".repeat(64);
      return new Response("hello", { headers: {
        "cache-control": "private, max-age=31536000, immutable, no-transform", "content-length": "5", "content-type": "text/plain",
        "docker-content-digest": digest, etag: digest, "server-timing": "manifest;desc=hot;dur=0", "x-content-type-options": "nosniff",
        "x-request-id": "0123456789ab-1234", "x-strata-tier": "hot",
      } });
    }
  }`,
};

/**
 * The smallest Worker on R2: no access control and no repositories. R2 verifies the digest if the
 * key has one. The path /constant is answered without R2.
 */
export const bare = {
  "index.js": `export default {
    async fetch(request, { BUCKET }) {
      const key = new URL(request.url).pathname.slice(1);
      if (key === "constant") return new Response("hello", { headers: { "content-type": "text/plain" } });
      if (request.method === "PUT") {
        const sha256 = key.split("sha256:")[1];
        await BUCKET.put(key, request.body, sha256 ? { sha256 } : {});
        return new Response(null, { status: 201 });
      }
      const { body, size } = await BUCKET.get(key);
      return new Response(body, { headers: { "content-type": "application/octet-stream", "content-length": size } });
    }
  }`,
};

/** The latency added to R2 and KV in milliseconds: in production they are on other machines. */
export const DISTANCE = 20;

/** Returns the modules of the built Worker, with that latency in front of its stores. */
export function far() {
  const { "index.js": worker, ...others } = modulesOf(join(ROOT, "worker/build"));
  return {
    "index.js": `import worker from "./worker.js";
      const far = (binding) => new Proxy(binding, {
        // Which kind of binding it is, the Worker sees by its class.
        get: (_, name) => name === "constructor" ? binding.constructor : async (...args) => {
          await scheduler.wait(${DISTANCE});
          return binding[name](...args);
        },
      });
      export default {
        fetch: (request, env, context) => worker.fetch(request, { ...env, BUCKET: far(env.BUCKET), WARM: far(env.WARM) }, context),
      };`,
    "worker.js": worker,
    ...others,
  };
}

// Settings of Strata: without a log of requests, then without the hot tier too, then without the
// warm tier too.
export const QUIET = { STRATA_LOG: "errors" };
export const NO_MEMORY = { ...QUIET, STRATA_HOT_BYTES: "0" };
export const COLD = { ...NO_MEMORY, STRATA_WARM_SECONDS: "0" };

const NAME = "bench/image";
const KIB = 1 << 10;
export const MIB = 1 << 20;

/** The sizes of blobs, by their labels in tables. */
export const SMALL = { "1 KiB": KIB, "100 KiB": 100 * KIB };
export const LARGE = { "10 MiB": 10 * MIB, "100 MiB": 100 * MIB };

/** Returns the request to a bare Worker for a blob of a size. */
export const bareBlob = (size) => ({ path: `/${size}`, length: size });

/** Stores blobs of these sizes in a bare Worker. */
export async function fillBare(running, sizes) {
  for (const size of Object.values(sizes))
    await expect(201, running.send("PUT", `/${size}`, { body: buffer(size, "blob") }));
}

/**
 * Pushes an image of a config and five layers, and blobs of these sizes. There are `copies`
 * variants of the manifest and of each small blob. Resolves with the requests for them, whose
 * `path` has one path for each variant.
 */
export async function fill(strata, sizes = {}, copies = 1, name = NAME) {
  const push = async (content) => {
    const digest = digestOf(content);
    await expect(201, whole(strata, name, digest, content));
    return { digest, size: content.length };
  };
  const [config, ...layers] = await each([2000, 3000, 3001, 3002, 3003, 3004], (size) => push(buffer(size, "layer")));
  const [digest, tag] = [[], []].map((path) => ({ path, length: 0, headers: {} }));
  const blobs = Object.fromEntries(Object.values(sizes).map((size) => [size, { path: [], length: size }]));
  for (let copy = 0; copy < copies; copy += 1) {
    const manifest = manifestOf({ ...config, annotations: { copy: `${copy + 100}` } }, layers);
    const at = (reference) => `/v2/${name}/manifests/${reference}`;
    const headers = { "content-type": manifest.mediaType };
    await expect(201, strata.send("PUT", at(`copy-${copy}`), { body: manifest.body, headers }));
    digest.path.push(at(manifest.digest));
    tag.path.push(at(`copy-${copy}`));
    for (const ask of [digest, tag])
      Object.assign(ask, { length: manifest.body.length, headers: { accept: manifest.mediaType } });
    for (const [size, ask] of Object.entries(blobs)) {
      // One variant of a large blob is enough: large blobs are not cached, and their reads are not
      // shared.
      if (copy > 0 && size > MIB) continue;
      const blob = await push(buffer(Number(size), `blob ${copy}`));
      ask.path.push(`/v2/${name}/blobs/${blob.digest}`);
    }
  }
  return { digest, tag, blobs };
}

/** Reads things one after the other, often enough that the tiers cache them. */
export async function read(strata, ...things) {
  for (let time = 0; time < 30; time += 1) {
    for (const { path, headers } of things)
      for (const one of path) await expect(200, strata.send("GET", one, { headers }));
  }
  // Wait for writes that go on after the response.
  await new Promise((resolve) => setTimeout(resolve, 500));
}

async function expect(status, sent) {
  const reply = await sent;
  assert.equal(reply.status, status, reply.body.toString());
  return reply;
}

async function each(items, work) {
  const results = [];
  for (const item of items) results.push(await work(item));
  return results;
}
