// A short soak; `npm run bench -- soak` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { soak } from "./soak.mjs";

test("concurrent pushes, mounts, deletions, pulls and sweeps lose nothing and leave nothing, while the Worker is killed", async (context) => {
  const { lost, orphans, left, ...counts } = await soak({ seconds: 10, pushes: 40, keep: 10, kills: 1, blobs: 40 });
  context.diagnostic(JSON.stringify(counts));
  assert.deepEqual(lost, []);
  assert.deepEqual(orphans, []);
  assert.deepEqual(left, []);
  // Otherwise the soak has shown nothing.
  assert.ok(counts.deleted > 10 && counts.removals > 100 && counts.kills === 1, JSON.stringify(counts));
});
