// Records the requests that a client sends to a registry, and sends the same ones again.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { digestOf } from "../edge/bytes.mjs";

/**
 * Starts a proxy in front of a registry. Resolves with `{ host, records, stop() }`: `records` has
 * each request with its response, in the order of their beginnings.
 */
export async function startRecorder(origin) {
  const records = [];
  const forward = async (request, response) => {
    const { method, url, headers } = request;
    const record = { method, path: url, sent: headers };
    records.push(record);
    record.body = await whole(request);
    const forwarded = http.request(new URL(url, origin), { method, headers }).end(record.body);
    const [found] = await once(forwarded, "response");
    record.answer = await whole(found);
    Object.assign(record, { status: found.statusCode, headers: found.headers });
    response.writeHead(found.statusCode, found.headers).end(record.answer);
  };
  const server = http.createServer((request, response) => {
    forward(request, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${server.address().port}`,
    records,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function whole(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/**
 * Returns records as they are kept: `requests` without those for tokens and those that were
 * refused for want of one, and the `blobs` that they sent. An upload is named by its number.
 */
export function kept(records) {
  const [uploads, blobs] = [[], {}];
  const pathOf = (url) => new URL(url, "http://registry.invalid").pathname;
  const requests = records
    .filter(({ path, status }) => !path.startsWith("/v2/_strata/token") && status !== 401)
    .map((record) => {
      const { method, path, sent, body, headers } = record;
      const { pathname, searchParams } = new URL(path, "http://registry.invalid");
      let upload = uploads.indexOf(pathname);
      const request = { method, path };
      if (upload >= 0) {
        const digest = searchParams.get("digest");
        request.path = digest ? `{upload ${upload}}?digest=${digest}` : `{upload ${upload}}`;
      } else if (method === "POST" && record.status === 202) {
        upload = uploads.length;
        request.upload = upload;
      }
      if (upload >= 0 && record.status === 202) uploads[upload] = pathOf(headers.location);
      for (const name of ["accept", "content-type", "content-range"])
        if (sent[name]) request.headers = { ...request.headers, [name]: sent[name] };
      if (sent["transfer-encoding"]) request.isChunked = true;
      if (body.length > 0 && isManifest(pathname)) request.manifest = body.toString();
      else if (body.length > 0) {
        request.blob = digestOf(body);
        blobs[request.blob] = asText(body);
      }
      return { ...request, ...factsOf(record, pathname) };
    });
  return { requests, blobs };
}

const isManifest = (pathname) => /\/manifests\/[^/]+$/.test(pathname);

/** Returns bytes as text, or in base64 if they are none. */
function asText(bytes) {
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? { text } : { base64: bytes.toString("base64") };
}

/** Returns the bytes of a kept blob. */
export const bytesOf = ({ text, base64 }) => (text === undefined ? Buffer.from(base64, "base64") : Buffer.from(text));

/** Returns what a response must have again: its status, and the digest or the JSON of its body. */
function factsOf({ method, status, headers, answer }, pathname) {
  const facts = { status };
  const isObject = isManifest(pathname) || /\/blobs\/[^/]+$/.test(pathname);
  if (status >= 300 || !(isObject || method === "GET")) return facts;
  if (method === "HEAD" || method === "PUT") facts.digest = headers["docker-content-digest"];
  if (method === "HEAD") facts.length = headers["content-length"];
  if (method === "GET" && isObject) Object.assign(facts, { type: headers["content-type"], digest: digestOf(answer) });
  else if (method === "GET" && answer.length > 0) facts.json = JSON.parse(answer);
  return facts;
}

/** Sends kept requests to a registry, and compares the responses with those that were kept. */
export async function replay(strata, { requests, blobs }) {
  const uploads = [];
  for (const { method, path, headers, upload, isChunked, manifest, blob, ...expected } of requests) {
    const [, number, digest] = /^\{upload (\d+)\}(?:\?digest=(.*))?$/.exec(path) ?? [];
    const url = new URL(number === undefined ? path : uploads[number], strata.url);
    if (digest) url.searchParams.set("digest", digest);
    const body = manifest ?? (blob && bytesOf(blobs[blob]));
    const reply = await strata.send(method, url.pathname + url.search, {
      headers,
      body: isChunked && body ? [Buffer.from(body)] : body,
    });
    const { location } = reply.headers;
    if (reply.status === 202 && location) uploads[upload ?? number] = location;
    const facts = factsOf({ method, answer: reply.body, ...reply }, url.pathname);
    // Undefined members are not in JSON.
    assert.deepEqual(JSON.parse(JSON.stringify(facts)), expected, `${method} ${path}: ${reply.body.subarray(0, 500)}`);
  }
}

/**
 * Yields the manifests that kept requests push: `{ name, reference, type, digest, text, json }`.
 */
export function* manifestsOf({ requests }) {
  for (const { method, path, headers, manifest, status } of requests) {
    const [, name, reference] = /^\/v2\/(.+)\/manifests\/([^/]+)$/.exec(path) ?? [];
    if (method === "PUT" && name && status === 201) {
      const digest = digestOf(Buffer.from(manifest));
      const type = headers["content-type"];
      yield { name, reference, type, digest, text: manifest, json: JSON.parse(manifest) };
    }
  }
}

/** Returns the descriptors of the blobs that a manifest lists. An index may list blobs, too. */
export function listedBy({ config, layers = [], manifests = [] }, { blobs }) {
  return [config, ...layers, ...manifests.filter(({ digest }) => blobs[digest])].filter(Boolean);
}

/**
 * Resolves with the referrers of each subject of the pushed manifests, as the registry lists them:
 * `{ "NAME@DIGEST": [descriptor, …] }`.
 */
export async function referrersOf(strata, fixture) {
  const lists = {};
  for (const { name, json } of manifestsOf(fixture)) {
    if (!json.subject) continue;
    const { digest } = json.subject;
    const { status, body } = await strata.send("GET", `/v2/${name}/referrers/${digest}`);
    assert.equal(status, 200, body.toString());
    lists[`${name}@${digest}`] = JSON.parse(body).manifests;
  }
  return lists;
}
