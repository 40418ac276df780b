// Signing in on the real runtime: tokens as clients request them, the platform's PBKDF2 and rate
// limiter, replies and the log.
import assert from "node:assert/strict";
import { pbkdf2Sync } from "node:crypto";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { unstable_getMiniflareWorkerOptions as configured } from "wrangler";
import { generateToken, hash, hashToken } from "../../scripts/password.mjs";
import { buffer, digestOf } from "./bytes.mjs";
import { basic, start } from "./harness.mjs";
import { manifestOf } from "./push.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const robot = generateToken();
const words = { ann: "ann's Hunter2", bob: "bob's Hunter2 with ünïcode: and a colon" };
const STRATA_USERS = JSON.stringify({
  users: {
    ann: await hash(words.ann),
    bob: { secret: quick(words.bob), groups: ["team"] },
    ci: { secret: hashToken(robot), groups: ["team"] },
  },
});
const rules = [
  { repositories: ["**"], who: ["user:ann"], may: ["pull", "push", "overwrite", "delete", "metrics"] },
  { repositories: ["team/**"], who: ["group:team"], may: ["pull", "push"] },
  { repositories: ["public/**"], who: ["everyone"], may: ["pull"] },
];
const ann = basic("ann", words.ann);
const bob = basic("bob", words.bob);
const ci = basic("ci", robot);

/** Returns a hashed password, with few iterations. */
function quick(password) {
  const plain = (bytes) => bytes.toString("base64").replaceAll("=", "");
  const salt = Buffer.alloc(16, "salt");
  return `pbkdf2-sha256$1000$${plain(salt)}$${plain(pbkdf2Sync(password, salt, 1000, 32, "sha256"))}`;
}

const as = (authorization, more) => ({ headers: { authorization, ...more } });

/** Returns the scheme and the parameters of a challenge. */
function challenge(reply) {
  assert.equal(reply.status, 401, reply.body.toString());
  const [, scheme, rest] = /^(\w+) (.+)$/.exec(reply.headers["www-authenticate"]);
  return {
    scheme,
    ...Object.fromEntries([...rest.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value])),
  };
}

describe("a client that knows tokens", () => {
  let strata;
  before(async () => {
    strata = await start({ vars: { STRATA_USERS, STRATA_RULES: JSON.stringify(rules) } });
  });
  after(() => strata.stop());

  const upload = "/v2/team/app/blobs/uploads/";

  test("finds the token end-point and the scope in the challenge", async () => {
    const { scheme, realm, service, scope, ...others } = challenge(await strata.send("GET", "/v2/", as(undefined)));
    assert.deepEqual(
      [scheme, realm, service, scope, others],
      ["Bearer", new URL("/v2/_strata/token", strata.url).href, "strata", undefined, {}],
    );
    const started = await strata.send("POST", upload, as(undefined));
    assert.equal(challenge(started).scope, "repository:team/app:pull,push");
    // Some clients use the last word that names a scheme, wherever it stands.
    assert.doesNotMatch(started.headers["www-authenticate"], /basic/i);
  });

  for (const [who, authorization] of Object.entries({ "a password": bob, "a robot's token": ci })) {
    test(`signs in by ${who}, pushes and pulls`, async () => {
      const asked = challenge(await strata.send("POST", upload, as(undefined)));
      const url = new URL(asked.realm);
      url.searchParams.set("service", asked.service);
      url.searchParams.append("scope", asked.scope);
      url.searchParams.append("scope", "repository:public/app:pull,push");
      const given = await strata.send("GET", url, as(authorization));
      assert.equal(given.status, 200, given.body.toString());
      assert.equal(given.headers["cache-control"], "no-store");
      const { token, access_token: same, expires_in: seconds, scope } = given.json();
      assert.deepEqual(
        [same, seconds, scope],
        [token, 300, "repository:team/app:pull,push repository:public/app:pull"],
      );

      const bearer = `Bearer ${token}`;
      const config = Buffer.from("{}");
      const pushed = await strata.send("POST", `${upload}?digest=${digestOf(config)}`, { ...as(bearer), body: config });
      assert.equal(pushed.status, 201, pushed.body.toString());
      const manifest = manifestOf({ digest: digestOf(config), size: config.length }, []);
      const headers = { "content-type": manifest.mediaType };
      assert.equal(
        (await strata.send("PUT", "/v2/team/app/manifests/v1", { ...as(bearer, headers), body: manifest.body })).status,
        201,
      );
      assert.deepEqual((await strata.send("GET", "/v2/team/app/manifests/v1", as(bearer))).body, manifest.body);

      assert.equal(
        challenge(await strata.send("GET", "/v2/team/other/tags/list", as(bearer))).error,
        "insufficient_scope",
      );
      assert.equal((await strata.send("DELETE", "/v2/team/app/manifests/v1", as(bearer))).status, 403);
      assert.equal(challenge(await strata.send("GET", url, as(bearer))).scheme, "Basic");
      const broken = `${bearer.slice(0, -2)}${bearer.at(-2) === "A" ? "B" : "A"}${bearer.at(-1)}`;
      assert.equal(challenge(await strata.send("GET", "/v2/team/app/manifests/v1", as(broken))).error, "invalid_token");
    });
  }

  test("can sign in by a form", async () => {
    const form = (fields) => ({
      ...as(undefined, { "content-type": "application/x-www-form-urlencoded" }),
      body: new URLSearchParams({
        grant_type: "password",
        service: "strata",
        scope: "repository:team/app:pull",
        ...fields,
      }).toString(),
    });
    const given = await strata.send("POST", "/v2/_strata/token", form({ username: "bob", password: words.bob }));
    assert.equal(given.status, 200, given.body.toString());
    const pulled = await strata.send("GET", "/v2/team/app/tags/list", as(`Bearer ${given.json().access_token}`));
    assert.notEqual(pulled.status, 401, pulled.body.toString());
    assert.equal(
      challenge(await strata.send("POST", "/v2/_strata/token", form({ username: "bob", password: "wrong" }))).scheme,
      "Basic",
    );
    assert.equal((await strata.send("POST", "/v2/_strata/token", form({ username: "x".repeat(70_000) }))).status, 413);
  });

  test("is verified by the platform's PBKDF2, with as many iterations as it derives", async () => {
    for (const [user, word] of Object.entries(words)) {
      assert.equal((await strata.send("GET", "/v2/", as(basic(user, word)))).status, 200);
      for (const wrong of [word.slice(1), `${word} `, word.toUpperCase(), ""]) {
        assert.equal((await strata.send("GET", "/v2/", as(basic(user, wrong)))).status, 401);
      }
    }
    assert.equal((await strata.send("GET", "/v2/", as(basic("ci", generateToken())))).status, 401);
    assert.equal((await strata.send("GET", "/v2/", as(basic("bob", robot)))).status, 401);
  });

  test("finds no path around the rules", async () => {
    const config = Buffer.from("private");
    const pushed = await strata.send("POST", `/v2/private/app/blobs/uploads/?digest=${digestOf(config)}`, {
      ...as(ann),
      body: config,
    });
    assert.equal(pushed.status, 201);
    const end = `blobs/${digestOf(config)}`;
    for (const way of [
      "public/../private/app",
      "public/%2e%2e/private/app",
      "public%2f..%2fprivate%2fapp",
      "public/..%252fprivate/app",
      "public\\..\\private\\app",
      "public//private/app",
      "private/app;public",
      "./private/app",
      "%70rivate/app",
    ]) {
      for (const authorization of [undefined, bob]) {
        const reply = await strata.send("GET", `/v2/${way}/${end}`, as(authorization));
        assert.ok(reply.status >= 400 && reply.status < 500, `${way}: ${reply.status}`);
        assert.ok(!reply.body.equals(config));
      }
    }
  });
});

test("rules are read as text and as the tables of a configuration", async () => {
  const heard = [];
  for (const STRATA_RULES of [JSON.stringify(rules), rules]) {
    const strata = await start({ vars: { STRATA_USERS, STRATA_RULES } });
    try {
      const statuses = [];
      for (const authorization of [undefined, ann, bob, ci]) {
        for (const line of [
          "GET /v2/team/app/tags/list",
          "DELETE /v2/team/app/manifests/v1",
          "GET /v2/public/app/tags/list",
          "GET /v2/other/tags/list",
          "GET /metrics",
        ]) {
          const reply = await strata.send(...line.split(" "), as(authorization));
          statuses.push(reply.status);
        }
      }
      heard.push(statuses);
    } finally {
      await strata.stop();
    }
  }
  const [none, all, team] = [
    [401, 401, 404, 401, 401],
    [404, 404, 404, 404, 200],
    [404, 403, 404, 403, 403],
  ];
  assert.deepEqual(heard, [
    [...none, ...all, ...team, ...team],
    [...none, ...all, ...team, ...team],
  ]);
});

describe("the platform's rate limiter", () => {
  /**
   * Repeats an attempt until it is within one minute of the clock: the simulator's limiter resets
   * at each minute.
   */
  async function within(limiters, attempt) {
    for (;;) {
      const minute = () => Math.floor(Date.now() / 60_000);
      const before = minute();
      const strata = await start({ vars: { STRATA_USERS, STRATA_RULES: rules }, limiters });
      try {
        const send = async (authorization, address) =>
          (await strata.send("GET", "/v2/", as(authorization, { "cf-connecting-ip": address }))).status;
        const judge = await attempt(send);
        if (minute() === before) return judge();
      } finally {
        await strata.stop();
      }
    }
  }
  const times = async (count, action) => {
    const results = [];
    for (let index = 0; index < count; index++) results.push(await action(index));
    return results;
  };

  test("lets twenty passwords of a user from an address be verified in a minute, as configured", async () => {
    const { ratelimits } = configured(join(root, "wrangler.toml")).workerOptions;
    assert.deepEqual(Object.keys(ratelimits), ["SIGN_INS", "SIGN_INS_OF_ADDRESS"]);
    await within(ratelimits, async (send) => {
      const guess = (index) => send(basic("bob", `guess ${index}`), "192.0.2.1");
      // Fewer failures than the isolate's own limit, which does not count the right password.
      const first = await times(15, guess);
      const right = await send(bob, "192.0.2.1");
      const rest = await times(4, (index) => guess(15 + index));
      const last = await guess(20);
      const others = [await send(basic("ann", "guess"), "192.0.2.1"), await send(bob, "192.0.2.2")];
      return () =>
        assert.deepEqual(
          [first, right, rest, last, others],
          [Array(15).fill(401), 200, Array(4).fill(401), 429, [401, 200]],
        );
    });
  });

  test("is asked for all users of an address together, and not for robots' tokens", async () => {
    await within({ SIGN_INS_OF_ADDRESS: { simple: { limit: 3, period: 60 } } }, async (send) => {
      const wrong = await times(4, (index) => send(basic(`user-${index}`, "guess"), "192.0.2.1"));
      const robots = await times(5, () => send(ci, "192.0.2.1"));
      const other = await send(bob, "192.0.2.2");
      return () => assert.deepEqual([wrong, robots, other], [[401, 401, 401, 429], Array(5).fill(200), 200]);
    });
  });

  test("is asked before a password is verified, and not for robots' tokens", async () => {
    await within({ SIGN_INS: { simple: { limit: 3, period: 60 } } }, async (send) => {
      const wrong = await times(3, (index) => send(basic("bob", `guess ${index}`), "192.0.2.1"));
      const right = [await send(bob, "192.0.2.1"), await send(ann, "192.0.2.1"), await send(bob, "192.0.2.2")];
      // Of IPv6, all addresses of one /64 network count as one.
      const six = [
        ...(await times(3, (index) => send(basic("ann", "wrong"), `2001:db8::${index}`))),
        await send(basic("ann", "wrong"), "2001:db8::ffff"),
        await send(basic("ann", "wrong"), "2001:db8:0:1::1"),
      ];
      const robots = await times(10, () => send(basic("ci", generateToken()), "192.0.2.1"));
      const own = await send(ci, "192.0.2.1");
      return () => {
        assert.deepEqual(
          [wrong, right],
          [
            [401, 401, 401],
            [429, 200, 200],
          ],
        );
        assert.deepEqual(six, [401, 401, 401, 429, 401]);
        assert.deepEqual([robots, own], [Array(10).fill(401), 200]);
      };
    });
  });
});

test("every response is inert in a browser, and has Strict-Transport-Security over https", async () => {
  for (const https of [false, true]) {
    const strata = await start({ https, vars: { STRATA_USERS, STRATA_RULES: rules } });
    try {
      for (const [method, path, authorization] of [
        ["GET", "/v2/", undefined],
        ["GET", "/v2/", bob],
        ["GET", "/metrics", ann],
        ["POST", "/v2/team/app/blobs/uploads/", bob],
        ["GET", "/v2/team/app/tags/list", bob],
        ["GET", "/nowhere", bob],
        ["PUT", "/v2/", bob],
      ]) {
        const { headers } = await strata.send(method, path, as(authorization));
        assert.equal(headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'; sandbox", path);
        assert.equal(headers["x-content-type-options"], "nosniff", path);
        assert.equal(headers["strict-transport-security"], https ? "max-age=31536000" : undefined, path);
      }
    } finally {
      await strata.stop();
    }
  }
});

describe("behind a proxy", () => {
  let strata;
  before(async () => {
    strata = await start({
      vars: { STRATA_USERS, STRATA_RULES: rules, STRATA_ORIGIN: "https://registry.example.com", STRATA_LOG: "errors" },
    });
  });
  after(() => strata.stop());

  test("the challenge names the token end-point at STRATA_ORIGIN", async () => {
    assert.equal(
      challenge(await strata.send("GET", "/v2/", as(undefined))).realm,
      "https://registry.example.com/v2/_strata/token",
    );
  });

  test("the log has the user of each change and refusal, and no secret", async () => {
    const content = buffer(10);
    const digest = digestOf(content);
    const address = { "cf-connecting-ip": "192.0.2.7" };
    const pushed = await strata.send("POST", `/v2/team/app/blobs/uploads/?digest=${digest}`, {
      ...as(bob, address),
      body: content,
    });
    const pulled = await strata.send("GET", `/v2/team/app/blobs/${digest}`, as(bob, address));
    const given = await strata.send(
      "GET",
      "/v2/_strata/token?scope=repository:team/app:pull&password=Hunter2",
      as(ci, address),
    );
    const { token } = given.json();
    const refused = await strata.send("DELETE", `/v2/team/app/blobs/${digest}`, as(`Bearer ${token}`, address));
    const wrong = await strata.send(
      "GET",
      "/v2/_strata/token",
      as(basic('Hunter2\r\n{"message":"forged"}', "Hunter2"), address),
    );
    assert.deepEqual(
      [pushed, pulled, given, refused, wrong].map(({ status }) => status),
      [201, 200, 200, 403, 401],
    );

    const lines = strata
      .log()
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    const of = ({ headers }) => lines.filter(({ request }) => request === headers["x-request-id"]);
    assert.deepEqual(of(pushed), [
      {
        message: "audit",
        request: pushed.headers["x-request-id"],
        user: "bob",
        address: "192.0.2.7",
        what: "push blob",
        method: "POST",
        route: "start_upload",
        repository: "team/app",
        of: digest,
        status: "201",
      },
    ]);
    assert.deepEqual([of(pulled), of(given)], [[], []]);
    assert.deepEqual(
      of(refused).map(({ user, what, of }) => ({ user, what, of })),
      [{ user: "ci", what: "refused", of: digest }],
    );
    assert.deepEqual(
      of(wrong).map(({ user, what }) => ({ user, what })),
      [{ user: "", what: "refused" }],
    );
    assert.ok(lines.every(({ message }) => message !== "forged"));
    const secrets = [
      "Hunter2",
      robot,
      token,
      token.split(".").at(-1),
      ...[ann, bob, ci].map((authorization) => authorization.split(" ")[1]),
    ];
    for (const secret of secrets) assert.ok(!strata.log().includes(secret), secret);
  });
});
