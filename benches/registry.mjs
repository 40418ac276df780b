// A registry for a bench: started for a step, asked, and waited for.

import assert from "node:assert/strict";

import { start } from "../tests/edge/harness.mjs";

/** Waits until nothing more is asked of the stores: writing to KV is not waited for by the request that it is for. */
export async function settled(strata) {
  let [before, now] = [undefined, 0];
  while (now !== before) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    [before, now] = [now, (await strata.calls()).length];
  }
}

/** Runs a step with a registry that is stopped in the end. */
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
