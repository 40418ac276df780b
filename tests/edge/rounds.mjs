// Rounds of the sweep, for tests whose registry has seconds of grace.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits for a grace period of so many seconds before each round of the sweep. Resolves with the
 * removals of all rounds.
 */
export async function rounds(strata, { times, grace }) {
  const removals = [];
  for (let round = 0; round < times; round += 1) {
    await sleep(grace * 1000 + 500);
    for (let status = 202; status === 202; ) {
      const reply = await strata.send("POST", "/v2/_strata/sweep");
      status = reply.status;
      assert.ok(status === 200 || status === 202, reply.body.toString());
      removals.push(...reply.json().removals);
    }
  }
  return removals;
}
