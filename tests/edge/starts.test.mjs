// Starts of uploads beside bodies that come slowly: each is answered.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { buffer } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin } from "./push.mjs";

const BODIES = 8;
const STARTS = 32;

describe("uploads start beside slow bodies", { timeout: 120_000 }, () => {
  let strata;
  before(async () => {
    strata = await start({ probe: false });
  });
  after(() => strata.stop());

  test(`${STARTS} of them beside ${BODIES} bodies, in three rounds`, async () => {
    let isOver = false;
    async function* trickle() {
      while (!isOver) {
        yield buffer(16_384, "trickle");
        await setTimeout(50);
      }
    }
    const locations = await Promise.all(Array.from({ length: BODIES }, (_, at) => begin(strata, `starts/slow-${at}`)));
    const bodies = locations.map((location) => strata.send("PATCH", location, { body: trickle() }));
    for (let round = 0; round < 3; round += 1) {
      const answers = Array.from({ length: STARTS }, (_, at) =>
        strata.send("POST", `/v2/starts/fast-${at}/blobs/uploads/`),
      );
      const late = setTimeout(20_000, "no answer in 20 seconds", { ref: false });
      const found = await Promise.all(answers.map((answer) => Promise.race([answer, late])));
      assert.deepEqual(
        found.map((answer) => answer.status ?? answer),
        Array(STARTS).fill(202),
      );
    }
    isOver = true;
    const statuses = (await Promise.all(bodies)).map(({ status }) => status);
    assert.deepEqual(statuses, Array(BODIES).fill(202));
  });
});
