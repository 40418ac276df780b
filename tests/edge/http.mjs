// A client that says on the wire exactly what a test means: lengths or chunks, streams in and out, a connection cut short.
import http from "node:http";
import https from "node:https";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";

/** A reply whose body is read whole. */
export async function send(url, options) {
  const reply = await open(url, options);
  const chunks = [];
  for await (const chunk of reply.stream) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  return { status: reply.status, headers: reply.headers, body, json: () => JSON.parse(body.toString("utf8")) };
}

/**
 * A reply whose body is still to come, in `stream`.
 *
 * A Buffer or string goes with its Content-Length; anything iterable goes in chunks of unknown length, unless `headers`
 * names the length.
 *
 * @param {URL} url
 * @param {{ method?: string, headers?: Record<string, string | undefined>, body?: any, signal?: AbortSignal }} [options]
 */
export function open(url, { method = "GET", headers = {}, body, signal } = {}) {
  const { request: ask } = url.protocol === "https:" ? https : http;
  const given = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
  const whole = body === undefined || typeof body === "string" || Buffer.isBuffer(body);
  if (whole && method !== "GET" && method !== "HEAD") given["content-length"] ??= Buffer.byteLength(body ?? "");

  return new Promise((resolve, reject) => {
    const request = ask(url, {
      method,
      headers: given,
      signal,
      // The simulator closes idle connections while a busy client is about to use one again.
      agent: false,
      // Its certificate is its own; what is tested is not the trust in it.
      rejectUnauthorized: false,
    });
    request.on("response", (stream) => resolve({ status: stream.statusCode, headers: stream.headers, stream }));
    request.on("error", reject);
    if (whole) request.end(body);
    else pipeline(Readable.from(body, { objectMode: false, highWaterMark: 1 << 20 }), request).catch(reject);
  });
}
