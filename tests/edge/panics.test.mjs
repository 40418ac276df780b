// A crash ends the instance of the module and the requests that it is serving, but no later ones.
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

/** Sends a request, with a timeout that no reply should need. */
const ask = (path) => suite.send("GET", path, { signal: AbortSignal.timeout(20_000) });

/** The ways in which an instance ends, and the line that each leaves in the log. */
const ends = {
  panic: /panicked at \S+\/lib\.rs:\d+:\d+:\s+asked to/,
  abort: /RuntimeError: unreachable/,
  overflow: /RangeError: Maximum call stack size exceeded|RuntimeError: memory access out of bounds/,
  throw: /Error: thrown through Rust's frames/,
};

for (const way of ["", "/later"]) {
  for (const [end, said] of Object.entries(ends)) {
    test(`${end}${way && ", after a wait"}: the request and concurrent ones get a 500, the next one a new instance`, async () => {
      await ask("/count");
      // Several requests, each waiting on its own timer.
      const beside = Array.from({ length: 3 }, () => ask("/sleep"));
      assert.equal((await ask("/later/nothing")).body.toString(), "awake");
      const printed = suite.log().length;
      const { status, headers } = await ask(`${way}/${end}`);
      assert.equal(status, 500);
      assert.deepEqual(
        [headers["cross-origin-resource-policy"], headers["x-content-type-options"], headers["x-frame-options"]],
        ["same-origin", "nosniff", "DENY"],
      );
      assert.match(headers["content-security-policy"], /^default-src 'none'.*; sandbox$/);
      assert.deepEqual(
        (await Promise.all(beside)).map(({ status }) => status),
        [500, 500, 500],
      );
      for (const [path, answer] of [
        ["/count", "1"],
        ["/later/count", "2"],
      ])
        assert.equal((await ask(path)).body.toString(), answer);
      assert.match(suite.log().slice(printed), said);
    });
  }

  test(`an error that Rust returns${way && " after a wait"} is a 500, and ends nothing`, async () => {
    const count = Number((await ask("/count")).body);
    const beside = ask("/later/nothing");
    assert.equal((await ask(`${way}/error`)).status, 500);
    assert.equal((await beside).body.toString(), "awake");
    assert.equal(Number((await ask("/count")).body), count + 1);
  });
}
