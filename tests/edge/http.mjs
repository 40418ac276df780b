// A client with exact control over the wire: lengths or chunks, streams in and out, and aborts.
import http from "node:http";
import https from "node:https";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";

/** Sends a request, and returns the reply with its whole body. */
export async function send(url, options) {
  const reply = await open(url, options);
  const chunks = [];
  for await (const chunk of reply.stream) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  return { status: reply.status, headers: reply.headers, body, json: () => JSON.parse(body.toString("utf8")) };
}

/**
 * Sends a request, and returns the reply with its body in `stream`.
 *
 * A Buffer or string goes with its Content-Length. Any other iterable goes in chunks of unknown
 * length, unless `headers` has the length.
 *
 * @param {URL} url
 * @param {{ method?: string, headers?: Record<string, string | undefined>, body?: any, signal?:
 *   AbortSignal }} [options]
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
      // No keep-alive: the simulator closes idle connections just as a busy client uses one again.
      agent: false,
      // The simulator's certificate is self-signed, and tests do not test trust.
      rejectUnauthorized: false,
    });
    request.on("response", (stream) => resolve({ status: stream.statusCode, headers: stream.headers, stream }));
    request.on("error", reject);
    if (whole) request.end(body);
    else pipeline(Readable.from(body, { objectMode: false, highWaterMark: 1 << 20 }), request).catch(reject);
  });
}
