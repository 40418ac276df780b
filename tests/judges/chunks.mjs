// A bare client that pushes a file as one blob, with nothing but Node's http. The judge of the
// relay compares its time with that of the relay. It prints the seconds that the push took.
//
//   node tests/judges/chunks.mjs URL NAME FILE DIGEST CHUNK
//
// CHUNK is the bytes of a chunk; with 0 the blob goes in one request without a length, as docker
// sends it. AUTHORIZATION in the environment is sent with each request.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream, statSync } from "node:fs";
import http from "node:http";
import { pipeline } from "node:stream/promises";

const [origin, name, file, digest, text] = process.argv.slice(2);
const chunk = Number(text);
const { size } = statSync(file);
const agent = new http.Agent({ keepAlive: true });

/** Sends a request, with the bytes of the file from `start` up to `end` if these are given. */
async function send(method, target, { headers, start, end } = {}) {
  const request = http.request(new URL(target, origin), {
    agent,
    method,
    headers: { authorization: process.env.AUTHORIZATION, ...headers },
  });
  const responded = once(request, "response");
  if (start === undefined) request.end();
  else await pipeline(createReadStream(file, { start, end: end - 1, highWaterMark: 1 << 18 }), request);
  const [response] = await responded;
  let body = "";
  for await (const part of response.setEncoding("utf8")) body += part;
  return { status: response.statusCode, headers: response.headers, body };
}

const begun = performance.now();
const empty = { "content-length": 0 };
let reply = await send("POST", `/v2/${name}/blobs/uploads/`, { headers: empty });
assert.equal(reply.status, 202, reply.body);
for (let start = 0; start < size; ) {
  const end = chunk > 0 ? Math.min(size, start + chunk) : size;
  const headers = chunk > 0 ? { "content-length": end - start, "content-range": `${start}-${end - 1}` } : {};
  reply = await send("PATCH", reply.headers.location, { headers, start, end });
  assert.equal(reply.status, 202, reply.body);
  start = end;
}
const target = new URL(reply.headers.location, origin);
target.searchParams.set("digest", digest);
reply = await send("PUT", target.pathname + target.search, { headers: empty });
assert.equal(reply.status, 201, reply.body);
console.log((performance.now() - begun) / 1000);
agent.destroy();
