// An invalid setting on the real runtime: the replies to everybody, and the log. Also a token at
// another address of the same Worker.
import assert from "node:assert/strict";
import { test } from "node:test";
import { basic, start } from "./harness.mjs";

const secret = "Hunter2";

test("replies and the log name a wrong setting, and hide its secrets", async () => {
  const wrong = {
    STRATA_UPSTREAMS: [
      [{ name: "up.example", address: `https://me:${secret}@up.example` }],
      JSON.stringify([{ name: "up.example", redirects: [`https://me:${secret}@cdn.example`] }]),
    ],
    STRATA_UPSTREAM_CREDENTIALS: [JSON.stringify({ [secret]: { user: "me", password: secret } })],
    STRATA_ORIGIN: [`https://me:${secret}@registry.example`],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      const strata = await start({ vars: { [name]: value } });
      try {
        for (const authorization of [undefined, basic()]) {
          const reply = await strata.send("GET", "/v2/", { headers: { authorization } });
          assert.equal(reply.status, 503);
          const [{ message }] = reply.json().errors;
          assert.match(message, new RegExp(`setting ${name} is invalid: the registry's log has the reason$`));
          assert.ok(!JSON.stringify([reply.headers, reply.body.toString()]).includes(secret), name);
        }
        await strata.tick();
        const lines = strata
          .log()
          .split("\n")
          .filter((line) => line.startsWith("{"))
          .map((line) => JSON.parse(line));
        const refused = lines.filter(({ message }) => message === "setting refused");
        assert.ok(refused.length >= 3, strata.log());
        for (const { setting, problem } of refused) {
          assert.equal(setting, name);
          assert.match(problem, /address has credentials|is not a host|no upstream|is not allowed/);
        }
        assert.ok(!strata.log().includes(secret), strata.log());
      } finally {
        await strata.stop();
      }
    }
  }
});

test("a token is valid at the host that issued it, and at no other", async () => {
  const strata = await start();
  try {
    const at = (host, method, path, authorization) => strata.send(method, path, { headers: { host, authorization } });
    const here = await at(undefined, "GET", "/v2/_strata/token?service=strata&scope=repository:app:pull", basic());
    const bearer = `Bearer ${here.json().token}`;
    assert.equal((await at(undefined, "GET", "/v2/app/tags/list", bearer)).status, 404);
    const there = await at("staging.example", "GET", "/v2/app/tags/list", bearer);
    assert.equal(there.status, 401);
    assert.match(
      there.headers["www-authenticate"],
      /realm="http:\/\/staging\.example\/v2\/_strata\/token".*error="invalid_token"/,
    );
    const again = await at(
      "staging.example",
      "GET",
      "/v2/_strata/token?service=strata&scope=repository:app:pull",
      basic(),
    );
    assert.equal((await at("staging.example", "GET", "/v2/app/tags/list", `Bearer ${again.json().token}`)).status, 404);
  } finally {
    await strata.stop();
  }
});
