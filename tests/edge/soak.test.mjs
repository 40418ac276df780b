// A short soak; `npm run bench -- soak` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { soak } from "./soak.mjs";

test("who pushes, mounts, deletes, pulls and sweeps at the same time, while the Worker is killed, loses nothing and leaves nothing", async (context) => {
  const { lost, orphans, left, ...counts } = await soak({ seconds: 10, pushes: 40, keep: 10, kills: 1, blobs: 40 });
  context.diagnostic(JSON.stringify(counts));
  assert.deepEqual(lost, []);
  assert.deepEqual(orphans, []);
  assert.deepEqual(left, []);
  // Otherwise it has shown nothing.
  assert.ok(counts.deleted > 10 && counts.removals > 100 && counts.kills === 1, JSON.stringify(counts));
});
