// The checks that every store passes, run on R2 and KV in the real runtime: the same lists as on the stores in memory.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { build } from "../../scripts/build.mjs";
import { start } from "./harness.mjs";

let suite;

before(async () => {
  const { script, module } = await build({ crate: "tests/suite" });
  const modules = { "index.js": readFileSync(script, "utf8"), "index_bg.wasm": readFileSync(module) };
  suite = await start({ probe: false, modules });
});

after(() => suite?.stop());

test("R2 is a store of objects, and KV one of values", async (t) => {
  const response = await suite.send("GET", "/");
  const outcomes = response.json();
  for (const { name, failure } of outcomes) {
    await t.test(name.replaceAll("_", " "), () => assert.equal(failure, null));
  }
  assert.equal(outcomes.length, 24);
});
