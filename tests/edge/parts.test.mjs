// Uploads in parts on the real runtime: parts that are on their way together, and failures of R2.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { buffer, digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { begin, close, patch, pull } from "./push.mjs";

const MIB = 1 << 20;
const PART = 5 * MIB;
/** The attempts of a part: one, and five more. */
const ATTEMPTS = 6;

let strata;

before(async () => {
  strata = await start();
});
after(() => strata.stop());
beforeEach(() => strata.reset());

/** Pushes a blob by one PATCH of unknown length, and checks that it comes back. */
async function pushed(name, content) {
  const patched = await patch(strata, await begin(strata, name), [content]);
  if (patched.status !== 202) return patched;
  const digest = digestOf(content);
  const closed = await close(strata, patched.headers.location, digest);
  if (closed.status === 201)
    assert.deepEqual(await pull(strata, name, digest), { status: 200, size: content.length, digest });
  return closed;
}

const parts = async () => (await strata.calls()).filter(({ call }) => call === "r2.uploadPart");

test("a lone upload has four parts on their way", async () => {
  await strata.fail({ call: "r2.uploadPart", times: 100, delay: 300, fails: false });
  const closed = await pushed("parts/lone", buffer(40 * MIB, "lone"));
  assert.equal(closed.status, 201, closed.body.toString());
  const beside = (await parts()).map(({ beside }) => beside);
  assert.equal(beside.length, 8);
  assert.equal(Math.max(...beside), 3);
});

describe("one failure of R2 does not fail an upload", () => {
  const faults = {
    "creating it": { call: "r2.createMultipartUpload" },
    "creating it, which was done": { call: "r2.createMultipartUpload", kept: true },
    "its first part": { call: "r2.uploadPart" },
    "a part in the middle": { call: "r2.uploadPart", nth: 2 },
    "a part, which was stored": { call: "r2.uploadPart", nth: 2, kept: true },
    "its last part, twice": { call: "r2.uploadPart", nth: 3, times: 2 },
    "completing it": { call: "r2.complete" },
    "completing it, which was done": { call: "r2.complete", kept: true },
    "a short body": { call: "r2.put", key: "extents/", short: true },
    "a short body, which was stored": { call: "r2.put", key: "extents/", kept: true, short: true },
  };
  for (const [index, [what, { short, ...fault }]] of Object.entries(faults).entries()) {
    test(what, async () => {
      await strata.fail(fault);
      const closed = await pushed(`parts/one${index}`, buffer(short ? 70_000 : 2 * PART + 1, what));
      assert.equal(closed.status, 201, closed.body.toString());
      assert.equal(await strata.pendingFaults(), 0);
    });
  }
});

test("an upload whose part never arrives ends in 503, leaves nothing, and can be pushed again", async () => {
  const content = buffer(3 * PART, "never");
  const before = await strata.objects("extents/");
  await strata.fail({ call: "r2.uploadPart", nth: 2, times: 2 * ATTEMPTS });
  const refused = await pushed("parts/never", content);
  assert.equal(refused.status, 503, refused.body.toString());
  assert.equal(refused.headers["retry-after"], "1");
  assert.deepEqual(await strata.objects("extents/"), before);
  assert.equal((await strata.calls()).filter(({ call }) => call === "r2.abort").length, 1);
  await strata.reset();
  const closed = await pushed("parts/never", content);
  assert.equal(closed.status, 201, closed.body.toString());
});
