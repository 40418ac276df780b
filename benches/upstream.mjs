// An upstream in its own thread, so that it does not slow down the measured client. It serves blobs
// of random bytes, at once or like a remote server.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

/** Starts an upstream: `delay` in milliseconds before each response, `rate` in bytes a second. */
export async function startUpstream({ delay = 0, rate = Infinity } = {}) {
  const thread = new Worker(new URL(import.meta.url), { workerData: { delay, rate } });
  const ask = async (message) => {
    thread.postMessage(message);
    return (await once(thread, "message"))[0];
  };
  const { address } = await ask({});
  return {
    address,
    /** Makes a blob, and resolves with its digest. */
    blob: async (size) => (await ask({ size })).digest,
    /** Resolves with the number of requests for blobs since the last call, without HEAD. */
    asked: async () => (await ask({ count: true })).asked,
    stop: () => thread.terminate(),
  };
}

/** Waits until the response can take more bytes, or the client has disconnected. */
function room(response) {
  return new Promise((resolve) => {
    const done = () => resolve(response.off("drain", done).off("close", done));
    response.on("drain", done).on("close", done);
  });
}

if (!isMainThread && workerData?.delay !== undefined) {
  const { delay, rate } = workerData;
  const blobs = new Map();
  let asked = 0;
  const server = createServer(async (request, response) => {
    const blob = blobs.get(decodeURIComponent(request.url.split("/").at(-1)));
    await setTimeout(delay);
    if (!blob) return response.writeHead(404).end();
    response.writeHead(200, { "content-length": blob.length });
    if (request.method === "HEAD") return response.end();
    asked += 1;
    if (rate === Infinity) return response.end(blob);
    const start = performance.now();
    for (let at = 0; at < blob.length && !response.destroyed; ) {
      const due = Math.min(blob.length, Math.floor(((performance.now() - start) / 1000) * rate) + 64 * 1024);
      if (due === at) await setTimeout(2);
      else if (!response.write(blob.subarray(at, due))) await room(response);
      at = due;
    }
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  parentPort.on("message", ({ size, count }) => {
    if (size) {
      const blob = randomBytes(size);
      const digest = `sha256:${createHash("sha256").update(blob).digest("hex")}`;
      // Keep one blob only, because a run makes many.
      blobs.clear();
      blobs.set(digest, blob);
      parentPort.postMessage({ digest });
    } else if (count) {
      parentPort.postMessage({ asked });
      asked = 0;
    } else {
      parentPort.postMessage({ address: `http://127.0.0.1:${server.address().port}` });
    }
  });
}
