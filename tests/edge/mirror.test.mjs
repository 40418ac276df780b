// A mirror of real upstreams: its requests, how it signs in, and the replies of clients if an
// upstream is slow, wrong or gone.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { skipFor } from "../clients/tools.mjs";
import { image as realImage, unavailable } from "../images/images.mjs";
import { bytes, digestOf } from "./bytes.mjs";
import { basic, password, start, user } from "./harness.mjs";
import { open } from "./http.mjs";
import { pull as streamed } from "./push.mjs";
import {
  credentials,
  fill,
  fillBlob,
  imageIn,
  imageOf,
  missing,
  referrerOf,
  startDistribution,
  startProxy,
  startTokens,
} from "./upstream.mjs";

const MIB = 1 << 20;
const skip = skipFor(missing, unavailable());

/** The servers to stop after the last test, the last one first. */
const started = [];
const ending = (one) => {
  started.push(one);
  return one;
};

let folder;
let distribution;
let proxy;

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), "strata-mirror-"));
  distribution = ending(await startDistribution(folder));
  proxy = ending(await startProxy(distribution.url));
});
after(async () => {
  for (const one of started.reverse()) await one.stop();
  if (folder) await rm(folder, { recursive: true });
});

/** Returns the settings of an upstream. */
const upstream = (name, { address = proxy.address, ...rest } = {}) => ({ name, address, insecure: true, ...rest });

/** Starts a mirror of upstreams. `logins` has its credentials for them. */
function startMirror(upstreams, { logins, ...options } = {}) {
  const vars = {
    STRATA_UPSTREAMS: JSON.stringify(upstreams),
    ...(logins && { STRATA_UPSTREAM_CREDENTIALS: JSON.stringify(logins) }),
  };
  return start({ vars, ...options });
}

/**
 * Returns `{ path, content }` for each pull of an image: its manifest by tag and by digest, and its
 * blobs.
 */
function pullsOf(name, { manifest, blobs }, tag = "v1") {
  return [
    { path: `/v2/${name}/manifests/${tag}`, content: manifest.content },
    { path: `/v2/${name}/manifests/${manifest.digest}`, content: manifest.content },
    ...blobs.map(({ digest, content }) => ({ path: `/v2/${name}/blobs/${digest}`, content })),
  ];
}

async function assertPulls(mirror, pulls) {
  for (const { path, content } of pulls) {
    const reply = await mirror.send("GET", path);
    assert.equal(reply.status, 200, `${path}: ${reply.body.subarray(0, 500)}`);
    assert.ok(reply.body.equals(content), `the bytes of ${path} differ`);
  }
}

/** Waits until the mirror has stored a tag, which it does after the reply. */
const stored = (mirror, name, tag = "v1") =>
  until(async () => (await mirror.objects(`repositories/${name}/_tags/${tag}`)).length > 0);

async function until(holds) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await holds()) return;
    await sleep(25);
  }
  assert.fail("the condition did not hold in time");
}

describe("a mirror of distribution", { skip }, () => {
  test("serves a real image bit for bit, and requests each part once from the upstream", async () => {
    const image = await imageIn(await realImage("busybox"));
    await fill(distribution.url, "library/busybox", "v1", image);
    const pulls = pullsOf("up.example/library/busybox", image);
    const settings = [upstream("up.example", { fresh_seconds: 3600 })];
    const kept = join(folder, "kept");

    const mirror = await startMirror(settings, { folder: kept, isolates: 2 });
    try {
      await assertPulls(mirror, pulls);
      const at = "/v2/library/busybox";
      assert.deepEqual(proxy.asked(), [
        `GET ${at}/manifests/v1 200`,
        ...image.blobs.map(({ digest }) => `GET ${at}/blobs/${digest} 200`),
      ]);
      await stored(mirror, "up.example/library/busybox");
      await assertPulls(mirror, pulls);
      await assertPulls(mirror.isolate(1), pulls);
      assert.deepEqual(proxy.asked(), []);
    } finally {
      await mirror.stop();
    }

    const again = await startMirror(settings, { folder: kept });
    try {
      await assertPulls(again, pulls);
      assert.deepEqual(proxy.asked(), []);
    } finally {
      await again.stop();
    }
  });

  test("notices a moved tag when it has expired, by one HEAD and one GET", async () => {
    const [before, now] = [imageOf("before", 100), imageOf("now", 100)];
    const name = "up.example/team/moving";
    const path = `/v2/${name}/manifests/v1`;
    const kept = join(folder, "moving");
    await fill(distribution.url, "team/moving", "v1", before);
    const pullsAfter = async (fresh_seconds, contents, asked) => {
      const mirror = await startMirror([upstream("up.example", { fresh_seconds })], { folder: kept });
      try {
        for (const [index, content] of contents.entries()) {
          await assertPulls(mirror, [{ path, content }]);
          assert.deepEqual(proxy.asked(), asked[index]);
          await stored(mirror, name);
        }
        // The mirror stores manifests after the reply.
        await until(
          async () => (await mirror.objects(`repositories/${name}/_manifests`)).length === new Set(seen).size,
        );
      } finally {
        await mirror.stop();
      }
    };
    const seen = [before];
    await pullsAfter(3600, [before.manifest.content], [["GET /v2/team/moving/manifests/v1 200"]]);
    await fill(distribution.url, "team/moving", "v1", now);
    await pullsAfter(3600, [before.manifest.content, before.manifest.content], [[], []]);
    seen.push(now);
    const look = "HEAD /v2/team/moving/manifests/v1";
    const [found, same] = [[`${look} 200`, "GET /v2/team/moving/manifests/v1 200"], [`${look} 304`]];
    await pullsAfter(0, [now.manifest.content, now.manifest.content], [found, same]);
    // That check made the tag fresh again.
    await pullsAfter(3600, [now.manifest.content], [[]]);
  });
});

describe("a mirror of a registry with all its lists", { skip }, () => {
  const name = "up.example/team/listed";
  const image = imageOf("listed", 100);
  const signature = referrerOf(image);
  const login = { user, password };
  let [strata, proxy] = [];

  before(async () => {
    if (skip) return;
    strata = ending(await start());
    proxy = ending(await startProxy(strata.url));
    for (const tag of ["v1", "v2"]) await fill(strata.url, "team/listed", tag, image, basic());
    await fill(strata.url, "team/listed", "signature", signature, basic());
  });
  const startListed = (settings) =>
    startMirror([upstream("up.example", { address: proxy.address, ...settings })], { logins: { "up.example": login } });

  test("serves the upstream's tags and referrers, and the stored ones if the upstream is down", async () => {
    const mirror = await startListed();
    try {
      await assertPulls(mirror, pullsOf(name, image));
      await stored(mirror, name);
      const tags = async () => (await mirror.send("GET", `/v2/${name}/tags/list`)).json().tags;
      assert.deepEqual(await tags(), ["signature", "v1", "v2"]);
      const referrers = async () => mirror.send("GET", `/v2/${name}/referrers/${image.manifest.digest}`);
      const { manifests } = (await referrers()).json();
      assert.deepEqual(
        manifests.map(({ digest }) => digest),
        [signature.manifest.digest],
      );
      await assertPulls(mirror, [
        { path: `/v2/${name}/manifests/${signature.manifest.digest}`, content: signature.manifest.content },
      ]);
      await until(async () => (await mirror.objects(`repositories/${name}/_referrers/`)).length > 0);
      await proxy.refuse();
      assert.deepEqual(await tags(), ["v1"]);
      const stale = await referrers();
      assert.deepEqual(
        stale.json().manifests.map(({ digest }) => digest),
        [signature.manifest.digest],
      );
      assert.equal(stale.headers["x-strata-stale"], "failed");
    } finally {
      await proxy.accept();
      await mirror.stop();
    }
  });

  test("notices a moved tag at once after an invalidation, by one HEAD and one GET", async () => {
    const mirror = await startListed({ fresh_seconds: 3600 });
    const path = `/v2/${name}/manifests/moving`;
    const [before, now] = [imageOf("listed before", 100), imageOf("listed now", 100)];
    try {
      await fill(strata.url, "team/listed", "moving", before, basic());
      await assertPulls(mirror, [{ path, content: before.manifest.content }]);
      await stored(mirror, name, "moving");
      await fill(strata.url, "team/listed", "moving", now, basic());
      proxy.requests();
      await assertPulls(mirror, [{ path, content: before.manifest.content }]);
      assert.deepEqual(proxy.asked(), []);
      const invalidated = await mirror.send("POST", `/v2/${name}/_strata/invalidate?tag=moving`);
      assert.equal(invalidated.status, 202, invalidated.body.toString());
      await assertPulls(mirror, [{ path, content: now.manifest.content }]);
      const asked = proxy.requests().filter(({ status }) => status !== 401);
      assert.deepEqual(
        asked.map(({ method, path }) => `${method} ${path}`).filter((line) => !line.endsWith("/token")),
        ["HEAD /v2/team/listed/manifests/moving", "GET /v2/team/listed/manifests/moving"],
      );
    } finally {
      await mirror.stop();
    }
  });
});

describe("an upstream with an untrusted certificate", { skip }, () => {
  test("is refused, and nothing is stored", async () => {
    const strata = await start({ https: true });
    const mirror = await startMirror([upstream("up.example", { address: strata.url.origin })]);
    try {
      const reply = await pull(mirror, "/v2/up.example/team/app/manifests/v1");
      assertError(reply, { status: 502, code: "UNAVAILABLE" });
      assert.deepEqual(await mirror.objects("repositories/"), []);
    } finally {
      await mirror.stop();
      await strata.stop();
    }
  });
});

describe("an upstream that requires credentials", { skip }, () => {
  const image = imageOf("guarded", 100, 2 * MIB);
  /**
   * The upstreams, each behind a proxy of its own. `given` returns the statuses of its token
   * requests since the last call.
   */
  const kinds = {};

  before(async () => {
    if (skip) return;
    await fill(distribution.url, "team/guarded", "v1", image);
    await fill(distribution.url, "team/other", "v1", image);
    const tokens = ending(await startTokens());
    const byTokens = ending(await startDistribution(folder, { name: "tokens", tokens }));
    const byBasic = ending(await startDistribution(folder, { name: "basic", basic: true }));
    const strata = ending(await start());
    for (const name of ["team/guarded", "team/other"]) await fill(strata.url, name, "v1", image, basic());
    const add = async (kind, { url }, rest) => (kinds[kind] = { proxy: ending(await startProxy(url)), ...rest });
    await add("tokens", byTokens, { settings: { auth: [tokens.url.host] }, given: () => tokens.requests.splice(0) });
    await add("basic", byBasic);
    await add("strata", strata, { login: { user, password } });
  });

  /** Starts a mirror with this login, and forgets earlier requests to the upstream. */
  async function startGuarded(kind, { login, isolates, user = login }) {
    const { proxy, settings, login: own = credentials } = kinds[kind];
    const known = { right: own, wrong: { ...own, password: "a guess" } }[user];
    const upstreams = [upstream("up.example", { address: proxy.address, ...settings })];
    proxy.requests();
    kinds[kind].given?.();
    return startMirror(upstreams, { logins: known && { "up.example": known }, isolates });
  }

  /** Returns the statuses of the requests, with those for tokens apart. */
  function askedOf(kind) {
    const all = kinds[kind].proxy.requests();
    const isToken = ({ path }) => path.endsWith("/token");
    const tokens = kinds[kind].given?.() ?? all.filter(isToken).map(({ status }) => status);
    return { statuses: all.filter((one) => !isToken(one)).map(({ status }) => status), tokens };
  }

  for (const kind of ["tokens", "basic", "strata"]) {
    test(`gets the right credentials (${kind}), and at most one token request for a repository`, async () => {
      const mirror = await startGuarded(kind, { login: "right" });
      try {
        await assertPulls(mirror, pullsOf("up.example/team/guarded", image));
        const { statuses, tokens } = askedOf(kind);
        assert.deepEqual(statuses.filter((status) => status === 200).length, 1 + image.blobs.length);
        // The mirror sends Basic after a challenge, and caches a token.
        if (kind === "basic") return assert.deepEqual(tokens, []);
        assert.deepEqual(tokens, [200]);
        assert.deepEqual(statuses, [401, 200, 200, 200, 200]);
        await assertPulls(mirror, pullsOf("up.example/team/other", image));
        assert.deepEqual(askedOf(kind).tokens, [200], "another repository, another token");
      } finally {
        await mirror.stop();
      }
    });

    test(`gets at most one token request for concurrent pulls (${kind})`, async () => {
      const mirror = await startGuarded(kind, { login: "right" });
      try {
        const pulls = pullsOf("up.example/team/guarded", image);
        // One of them gets its challenge after the others have signed in.
        kinds[kind].proxy.trouble(/^GET .*\/blobs\//, { delay: 500 }, 1);
        await Promise.all(pulls.map((pull) => assertPulls(mirror, [pull])));
        const { tokens } = askedOf(kind);
        assert.deepEqual(tokens, kind === "basic" ? [] : [200]);
      } finally {
        await mirror.stop();
      }
    });

    for (const login of ["wrong", "none"]) {
      test(`refuses a mirror with ${login === "none" ? "no" : "a wrong"} password (${kind}), which sends no further requests`, async () => {
        const mirror = await startGuarded(kind, { login });
        try {
          const { path } = pullsOf("up.example/team/guarded", image)[0];
          const reply = await mirror.send("GET", path);
          assert.equal(reply.status, 403, reply.body.toString());
          assert.equal(reply.json().errors[0].code, "DENIED");
          assert.match(reply.json().errors[0].message + reply.json().errors[0].detail, /up\.example denied access/);
          const { statuses, tokens } = askedOf(kind);
          assert.ok(statuses.length <= 2 && tokens.length <= 1, `${statuses} ${tokens}`);
          assert.ok(
            [...statuses, ...tokens].every((status) => status === 401 || status === 200),
            `${statuses} ${tokens}`,
          );
          assert.deepEqual(await mirror.objects("repositories/"), []);
        } finally {
          await mirror.stop();
        }
      });
    }
  }
});

describe("trouble with an upstream", { skip }, () => {
  const SIZE = 3 * MIB + 7;
  /** The hosts of redirects: an allowed one, and a forbidden one. */
  let [elsewhere, forbidden] = [];
  let mirror;
  /** The pulls that succeeded in the end. */
  const right = [];
  const to = (one, rest = "/") => `${one.address}${rest}`;
  const tenths = (count) => Math.floor((SIZE * count) / 10);
  const askingForPassword = { status: 401, headers: { "www-authenticate": 'Basic realm="up"' } };
  const said = (code) => JSON.stringify({ errors: [{ code, message: "so it says" }] });

  /**
   * The trouble with requests for a blob or a manifest, and the reply for the client: a `status`
   * with a `code`, "failed", "right", or either if it may get its part without the rest. `signs`:
   * the upstream first requires the password. `rests`: the isolate then leaves the upstream alone.
   * `asks`: the requests to the upstream. `sends`: whether another host gets requests.
   */
  const lines = [
    // The mirror requests the rest. It can't if no byte came, or if all bytes come from the start
    // again.
    ...Array.from({ length: 10 }, (_, tenth) => [
      {
        what: `breaks off after ${tenth} tenths`,
        trouble: () => ({ cut: tenths(tenth) }),
        gets: tenth > 0 ? "right" : "failed",
      },
      {
        what: `breaks off after ${tenth} tenths, from an upstream that ignores ranges`,
        trouble: () => ({ cut: tenths(tenth), whole: true }),
        gets: "failed",
      },
    ]).flat(),
    { what: "breaks off before the last byte", trouble: () => ({ cut: SIZE - 1, whole: true }), gets: "failed" },
    ...[0, SIZE >> 1, SIZE - 1].map((flip) => ({
      what: `has another byte at ${flip}`,
      trouble: () => ({ flip }),
      gets: "failed",
    })),
    { what: "has a byte too few", trouble: () => ({ grow: -1 }), gets: "failed" },
    { what: "has a byte too many", trouble: () => ({ grow: 1 }), gets: "failed" },
    { what: "has no bytes", trouble: () => ({ grow: -SIZE }), gets: "failed" },
    { what: "has a Content-Length above its size", trouble: () => ({ length: SIZE + 100 }), gets: "failed" },
    { what: "has a Content-Length below its size", trouble: () => ({ length: SIZE - 100 }), gets: "failed" },
    { what: "is larger than most_bytes", trouble: () => ({ length: 20 * MIB }), gets: "failed" },
    { what: "has no Content-Length", trouble: () => ({ length: null }), gets: "right" },
    { what: "arrives slowly", trouble: () => ({ rate: 6 * MIB }), gets: "right" },
    {
      what: "is requested in part and arrives whole",
      trouble: () => ({ whole: true }),
      range: [1_000_000, 1_099_999],
      gets: "right",
    },
    { what: "is requested in part", trouble: () => ({}), range: [1_000_000, 1_099_999], gets: "right" },
    {
      what: "is requested in part and has a wrong byte before that part",
      trouble: () => ({ flip: 1_000_000 }),
      range: [2_000_000, 2_000_009],
      gets: "failed or right",
    },
    {
      what: "is missing",
      trouble: () => ({ status: 404, body: said("BLOB_UNKNOWN") }),
      gets: { status: 404, code: "BLOB_UNKNOWN" },
    },
    {
      what: "is denied",
      trouble: () => ({ status: 403, body: said("DENIED") }),
      gets: { status: 403, code: "DENIED" },
    },
    ...[500, 502, 503].map((status) => ({
      what: `fails with ${status}`,
      trouble: () => ({ status, body: "<html>" }),
      gets: { status: 502, code: "UNAVAILABLE" },
    })),
    {
      what: "is denied to the token that was issued for it",
      trouble: () => ({
        status: 401,
        headers: { "www-authenticate": `Bearer realm="${to(proxy, "/token")}",service="up"` },
      }),
      gets: { status: 403, code: "DENIED" },
      asks: ["blob 401", "GET /token 200", "blob 401"],
    },
    {
      what: "is denied to the password",
      trouble: () => askingForPassword,
      gets: { status: 403, code: "DENIED" },
      asks: ["blob 401", "blob 401"],
    },
    {
      what: "requires a token from a host that is not allowed",
      trouble: () => ({
        status: 401,
        headers: { "www-authenticate": `Bearer realm="${to(forbidden, "/token")}",service="up"` },
      }),
      gets: { status: 502, code: "UNAVAILABLE" },
      asks: ["blob 401"],
    },
    {
      what: "is rate-limited, with Retry-After",
      trouble: () => ({ status: 429, body: said("TOOMANYREQUESTS"), headers: { "retry-after": "600" } }),
      gets: { status: 429, code: "TOOMANYREQUESTS", retry: 600 },
      asks: ["blob 429"],
      rests: true,
    },
    {
      what: "is rate-limited",
      trouble: () => ({ status: 429, body: said("TOOMANYREQUESTS") }),
      gets: { status: 429, code: "TOOMANYREQUESTS", retry: 60 },
      asks: ["blob 429"],
      rests: true,
    },
    {
      what: "redirects to an allowed host",
      trouble: () => ({ redirect: to(elsewhere) }),
      gets: "right",
      asks: ["blob 307"],
      sends: true,
    },
    {
      what: "requires the password and redirects to an allowed host, which does not get it",
      trouble: () => ({ redirect: to(elsewhere) }),
      signs: true,
      gets: "right",
      asks: ["blob 401", "blob 307"],
      sends: true,
    },
    {
      what: "redirects to an allowed host, which redirects to a forbidden one",
      trouble: () => ({ redirect: to(elsewhere, "/on/") }),
      gets: "failed",
      asks: ["blob 307"],
      sends: true,
    },
    {
      what: "redirects to another port of this machine",
      trouble: () => ({ redirect: to(forbidden) }),
      gets: { status: 502, code: "UNAVAILABLE" },
      asks: ["blob 307"],
    },
    {
      what: "redirects to a link-local address",
      trouble: () => ({ redirect: "http://169.254.169.254/latest/meta-data/" }),
      gets: { status: 502, code: "UNAVAILABLE" },
      asks: ["blob 307"],
    },
    {
      what: "redirects to an invalid address",
      trouble: () => ({ redirect: "http://" }),
      gets: { status: 502, code: "UNAVAILABLE" },
      asks: ["blob 307"],
    },
    {
      what: "redirects without end",
      trouble: () => ({ redirect: to(proxy) }),
      gets: { status: 502, code: "UNAVAILABLE" },
      asks: Array(6).fill("blob 307"),
    },
    {
      what: "never arrives",
      trouble: () => ({ delay: 10_000 }),
      gets: { status: 504, code: "UNAVAILABLE" },
      rests: true,
    },

    { of: "manifest", what: "breaks off", trouble: () => ({ cut: 100 }), gets: "failed" },
    { of: "manifest", what: "has another byte", trouble: () => ({ flip: 100 }), gets: "failed" },
    { of: "manifest", what: "has a byte too few", trouble: () => ({ grow: -1 }), gets: "failed" },
    { of: "manifest", what: "has a byte too many", trouble: () => ({ grow: 1 }), gets: "failed" },
    { of: "manifest", what: "is too large", trouble: () => ({ grow: 5 * MIB }), gets: "failed" },
    {
      of: "manifest",
      what: "is HTML",
      trouble: () => ({ status: 200, body: "<html>", headers: { "content-type": "text/html" } }),
      gets: "failed",
    },
    {
      of: "manifest",
      what: "redirects to a forbidden host",
      trouble: () => ({ redirect: to(forbidden) }),
      gets: { status: 502, code: "UNAVAILABLE" },
    },
    {
      of: "manifest",
      what: "is missing",
      trouble: () => ({ status: 404, body: said("MANIFEST_UNKNOWN") }),
      gets: { status: 404, code: "MANIFEST_UNKNOWN" },
      rests: true,
    },
    { of: "manifest", what: "fails", trouble: () => ({ status: 500 }), gets: { status: 502, code: "UNAVAILABLE" } },
    {
      of: "manifest",
      what: "is rate-limited",
      trouble: () => ({ status: 429 }),
      gets: { status: 429, code: "TOOMANYREQUESTS", retry: 60 },
      rests: true,
    },
  ];
  // An upstream for each case: a mirror that backs off from one does not ask it in the next case.
  const called = (index) => `up-${index}.example`;

  before(async () => {
    if (skip) return;
    elsewhere = ending(await startProxy(distribution.url));
    forbidden = ending(await startProxy(distribution.url));
    const settings = { redirects: [elsewhere.url.host], most_bytes: 10 * MIB };
    const logins = Object.fromEntries(lines.map((_, index) => [called(index), credentials]));
    mirror = ending(
      await startMirror(
        lines.map((_, index) => upstream(called(index), settings)),
        { logins, isolates: 2 },
      ),
    );
  });

  for (const [index, { of = "blob", what, range, trouble, signs, gets, rests, asks, sends }] of lines.entries()) {
    test(`a ${of} that ${what}`, async () => {
      const image = imageOf(`trouble ${index}`, SIZE);
      const [remote, name] = [`team/trouble-${index}`, `${called(index)}/team/trouble-${index}`];
      await fill(distribution.url, remote, "v1", image);
      const { digest, content } = of === "blob" ? image.blobs[1] : image.manifest;
      const path = of === "blob" ? `blobs/${digest}` : "manifests/v1";
      const at = `/v2/${remote}/${path}`;
      proxy.trouble(/^GET \/token$/, { status: 200, body: JSON.stringify({ token: "of no use" }) });
      proxy.trouble(new RegExp(`^GET ${at}$`), trouble());
      if (signs) proxy.trouble(new RegExp(`^GET ${at}$`), askingForPassword, 1);
      elsewhere.trouble(/^GET \/on\//, { redirect: to(forbidden) });
      proxy.requests();

      const asked = { headers: range && { range: `bytes=${range[0]}-${range[1]}` } };
      const reply = await pull(mirror, `/v2/${name}/${path}`, asked);
      if (gets === "failed") assert.ok(failed(reply), told(reply));
      else if (gets === "right") assertRight(reply, content, range);
      else if (gets === "failed or right") failed(reply) || assertRight(reply, content, range);
      else assertError(reply, gets);
      const requests = proxy.asked().map((line) => line.replace(`GET ${at}`, "blob"));
      if (asks) assert.deepEqual(requests, asks);
      assert.deepEqual(forbidden.requests(), []);
      const sent = elsewhere.requests();
      assert.equal(sent.length > 0, sends === true);
      assert.deepEqual(
        sent.filter(({ authorization }) => authorization),
        [],
      );
      if (gets !== "right") await assertNotStored(name, digest);

      // An isolate that has met some kinds of trouble backs off. Another one finds the upstream
      // healthy.
      proxy.calm();
      if (rests) {
        const again = await pull(mirror, `/v2/${name}/${path}`);
        assert.equal(again.status, reply.status, told(again));
        assert.deepEqual(proxy.asked(), []);
      }
      const well = { path: `/v2/${name}/${path}`, content };
      // A client may get its part before the rest is found to be wrong. Later pulls may still fail
      // because of that.
      if (gets === "failed or right") await until(async () => !failed(await pull(mirror, well.path)));
      await assertPulls(rests ? mirror.isolate(1) : mirror, [well]);
      await (of === "blob"
        ? until(async () => (await mirror.objects(blobKey(digest))).length > 0)
        : stored(mirror, name));
      right.push(well);
    });
  }

  test("leaves no wrong bytes in the store", async () => {
    assert.equal(right.length, lines.length);
    proxy.requests();
    await assertPulls(mirror, right);
    assert.deepEqual(proxy.asked(), []);
  });

  test("the remaining rate limit is a metric", async () => {
    const image = imageOf("allowance", 100);
    await fill(distribution.url, "team/allowance", "v1", image);
    proxy.trouble(/^GET .*allowance/, {
      headers: { "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600" },
    });
    await assertPulls(mirror, pullsOf(`${called(0)}/team/allowance`, image));
    proxy.calm();
    assert.equal((await mirror.metrics())[`strata_upstream_ratelimit_remaining{upstream="${called(0)}"}`], 76);
  });

  /** Asserts that nothing is stored: no blob under its digest, no grant, and no manifest. */
  async function assertNotStored(name, digest) {
    const encoded = digest.split(":")[1];
    for (const prefix of [blobKey(digest), `refs/sha256/${encoded}`, `repositories/${name}/`]) {
      assert.deepEqual(await mirror.objects(prefix), []);
    }
  }
});

describe("an upstream that can't be reached", { skip }, () => {
  const images = Object.fromEntries(
    ["full", "partly", "empty"].map((store) => [store, imageOf(`down ${store}`, 100, MIB + 1, 2 * MIB)]),
  );
  const name = (store) => `up.example/team/${store}`;
  let mirror;
  let proxy;

  before(async () => {
    if (skip) return;
    proxy = ending(await startProxy(distribution.url));
    for (const [store, image] of Object.entries(images)) await fill(distribution.url, `team/${store}`, "v1", image);
    mirror = ending(
      await startMirror([upstream("up.example", { address: proxy.address, fresh_seconds: 0 })], { isolates: 3 }),
    );
    await assertPulls(mirror, pullsOf(name("full"), images.full));
    await assertPulls(mirror, pullsOf(name("partly"), images.partly).slice(0, 3));
    for (const store of ["full", "partly"]) await stored(mirror, name(store));
    await proxy.refuse();
  });

  // An isolate that has pulled from the upstream, and one that has not.
  for (const isolate of [0, 1]) {
    test(`does not matter for stored content, and the rest is a 502, isolate ${isolate}`, async () => {
      const here = mirror.isolate(isolate);
      for (const [store, held] of [
        ["full", 6],
        ["partly", 3],
        ["empty", 0],
      ]) {
        const pulls = pullsOf(name(store), images[store]);
        await assertPulls(here, pulls.slice(0, held));
        for (const { path } of pulls.slice(held)) {
          const reply = await pull(here, path);
          assertError(reply, { status: 502, code: "UNAVAILABLE" });
          assert.ok(Number(reply.headers["retry-after"]) > 0);
        }
      }
    });

    test(`has its expired tags served as stale, isolate ${isolate}`, async () => {
      const here = mirror.isolate(isolate);
      const stale = 'strata_stale_served_total{reason="failed",upstream="up.example"}';
      const before = (await here.metrics())[stale] ?? 0;
      const [byTag, byDigest, blob] = await Promise.all(
        pullsOf(name("full"), images.full).map(({ path }) => here.send("GET", path)),
      );
      assert.equal(byTag.headers["x-strata-stale"], "failed");
      assert.equal(byTag.headers.warning, '110 strata "Response is Stale"');
      for (const { headers } of [byDigest, blob])
        assert.deepEqual([headers["x-strata-stale"], headers.warning], [undefined, undefined]);
      assert.equal((await here.metrics())[stale] - before, 1);
    });
  }

  test("gets requests again when it is back", async () => {
    await proxy.accept();
    for (const [store, image] of Object.entries(images))
      await assertPulls(mirror.isolate(2), pullsOf(name(store), image));
  });
});

describe("a client that disconnects", { skip }, () => {
  test("leaves no wrong bytes, and does not keep the next client from the blob", async () => {
    const mirror = await startMirror([upstream("up.example")], { isolates: 2 });
    try {
      // The client leaves early or late. The mirror is free to store the rest or not.
      for (const [index, tenths] of [0, 3, 9].entries()) {
        const image = imageOf(`left ${index}`, 12 * MIB);
        await fill(distribution.url, "team/left", "v1", image);
        const { digest, content } = image.blobs[1];
        proxy.trouble(new RegExp(`^GET .*${digest}$`), { rate: 24 * MIB });
        const path = `/v2/up.example/team/left/blobs/${digest}`;
        const reply = await open(new URL(path, mirror.url), { headers: { authorization: basic() } });
        let received = 0;
        for await (const chunk of reply.stream) {
          received += chunk.length;
          // This closes the connection.
          if (received * 10 >= content.length * tenths) break;
        }
        assert.ok(received < content.length);
        await assertPulls(mirror, [{ path, content }]);
        proxy.calm();
        await assertPulls(mirror.isolate(1), [{ path, content }]);
        const requests = proxy.asked().filter((line) => line.startsWith(`GET /v2/team/left/blobs/${digest}`));
        assert.ok(requests.length <= 2, requests.join(", "));
      }
    } finally {
      await mirror.stop();
    }
  });
});

describe("a fill of many extents", { skip }, () => {
  const SIZE = 24 * MIB;

  test("whose last megabytes are wrong breaks off, and is deleted", async () => {
    const image = imageOf("large and wrong", SIZE);
    await fill(distribution.url, "team/wrong", "v1", image);
    const { digest, content } = image.blobs[1];
    const path = `/v2/up.example/team/wrong/blobs/${digest}`;
    proxy.trouble(/^GET .*\/team\/wrong\/blobs\//, { flip: 20 * MIB });
    const mirror = await startMirror([upstream("up.example")]);
    try {
      const reply = await pull(mirror, path);
      assert.ok(reply.status === 200 && reply.broken, told(reply));
      assert.ok(reply.body.length > 5 * MIB && reply.body.length < SIZE, told(reply));
      await until(async () => (await mirror.objects("extents/")).length === 0);
      for (const prefix of [blobKey(digest), "refs/", "fills/"]) assert.deepEqual(await mirror.objects(prefix), []);
      proxy.calm();
      await assertPulls(mirror, [{ path, content }]);
    } finally {
      proxy.calm();
      await mirror.stop();
    }
  });

  // The client leaves early, so that nobody needs the rest. Or the process ends, so that nobody
  // stores it.
  for (const how of ["its client", "the process"]) {
    test(`that ${how} left is resumed by a range request`, async () => {
      const image = imageOf(`interrupted by ${how}`, SIZE);
      const remote = `team/left-by-${how.split(" ")[1]}`;
      await fill(distribution.url, remote, "v1", image);
      const { digest, content } = image.blobs[1];
      const [at, path] = [`/v2/${remote}/blobs/${digest}`, `/v2/up.example/${remote}/blobs/${digest}`];
      proxy.trouble(new RegExp(`^GET ${at}$`), { rate: 8 * MIB });
      const kept = join(folder, remote.replace("/", "-"));
      let mirror = await startMirror([upstream("up.example")], { folder: kept });
      try {
        proxy.requests();
        const reply = await open(new URL(path, mirror.url), { headers: { authorization: basic() } });
        for await (const _ of reply.stream) if ((await mirror.objects("extents/")).length >= 4) break;
        if (how === "the process") {
          await mirror.stop();
          mirror = await startMirror([upstream("up.example")], { folder: kept });
        } else {
          // Wait until the mirror notices, and no longer reads the upstream.
          await until(async () => mirror.log().includes("blob not mirrored"));
        }
        proxy.calm();
        await assertPulls(mirror, [{ path, content }]);
        const ranges = proxy.requests().map(({ method, status, range }) => `${method} ${status} ${range}`);
        assert.equal(ranges.length, 2, ranges.join());
        const [, from] = /^GET 206 bytes=(\d+)-$/.exec(ranges[1]) ?? [];
        assert.ok(Number(from) >= 128 * 1024, ranges.join());
        await until(async () => (await mirror.objects(blobKey(digest))).length > 0);
        await assertPulls(mirror, [{ path, content }]);
        assert.deepEqual(proxy.asked(), []);
      } finally {
        proxy.calm();
        await mirror.stop();
      }
    });
  }
});

describe("32 clients at once", { skip }, () => {
  test("cause one upstream request for a layer of 100 MiB, and use little memory", async (context) => {
    const size = 100 * MIB;
    const digest = digestOf(bytes(size, "crowd"));
    await fillBlob(distribution.url, "team/crowd", digest, bytes(size, "crowd"), undefined, size);
    const mirror = await startMirror([upstream("up.example")]);
    try {
      proxy.requests();
      mirror.resetPeak();
      const before = mirror.memory();
      // The first client reads nothing before the others have everything.
      const name = "up.example/team/crowd";
      const slow = await open(new URL(`/v2/${name}/blobs/${digest}`, mirror.url), {
        headers: { authorization: basic() },
      });
      const replies = await Promise.all(Array.from({ length: 31 }, () => streamed(mirror, name, digest)));
      for (const reply of replies) assert.deepEqual(reply, { status: 200, size, digest });
      assert.deepEqual([slow.status, await hashed(slow.stream)], [200, digest]);
      assert.deepEqual(proxy.asked(), [`GET /v2/team/crowd/blobs/${digest} 200`]);
      const wasm = await mirror.wasm();
      assert.ok(wasm < 32 * MIB, `${wasm} bytes of wasm memory`);
      const mib = (bytes) => Math.round(bytes / MIB);
      const { resident, peak } = mirror.memory();
      context.diagnostic(
        `wasm memory ${mib(wasm)} MiB; workerd ${mib(before.resident)} MiB before, ${mib(peak)} MiB at most, ${mib(resident)} MiB after`,
      );
    } finally {
      await mirror.stop();
    }
  });
});

async function hashed(stream) {
  const hash = createHash("sha256");
  for await (const chunk of stream) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

const blobKey = (digest) => digest.replace(/^(\w+):(..)/, "blobs/$1/$2/$2");

/** Pulls, and returns the reply. `broken` says that its body ended before its announced length. */
async function pull(mirror, path, { headers } = {}) {
  const reply = await open(new URL(path, mirror.url), { headers: { authorization: basic(), ...headers } });
  const chunks = [];
  let broken = false;
  try {
    for await (const chunk of reply.stream) chunks.push(chunk);
  } catch {
    broken = true;
  }
  return { status: reply.status, headers: reply.headers, body: Buffer.concat(chunks), broken };
}

/** Whether a client can tell that it failed: by the status, or because the body broke off. */
const failed = ({ status, broken }) => status >= 500 || broken;

const told = ({ status, body, broken }) =>
  `${status}${broken ? ", broken" : ""}: ${body.length} bytes, ${body.subarray(0, 200)}`;

/** Asserts that the reply has the requested part, or all of the content. */
function assertRight(reply, content, range) {
  const expected = reply.status === 206 ? content.subarray(range[0], range[1] + 1) : content;
  assert.ok([200, range && 206].includes(reply.status) && !reply.broken && reply.body.equals(expected), told(reply));
}

function assertError(reply, { status, code, retry }) {
  assert.equal(reply.status, status, told(reply));
  assert.equal(JSON.parse(reply.body).errors[0].code, code);
  if (retry) assert.ok(Math.abs(Number(reply.headers["retry-after"]) - retry) < 30, reply.headers["retry-after"]);
}
