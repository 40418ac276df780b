// Helpers for benches: running a step with a registry, and waiting for its background work.

import assert from "node:assert/strict";

import { start } from "../tests/edge/harness.mjs";

/** Waits until the store operations end: a request does not wait for its writes to KV. */
export async function settled(strata) {
  let [before, now] = [undefined, 0];
  while (now !== before) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    [before, now] = [now, (await strata.calls()).length];
  }
}

/** Starts a registry, runs a step with it, and stops it. */
export async function within(options, step) {
  const strata = await start(options);
  try {
    return await step(strata);
  } finally {
    await strata.stop();
  }
}

export async function expect(status, sent) {
  const reply = await sent;
  assert.equal(reply.status, status, reply.body.toString());
  return reply;
}
