// Requests that another site's page makes a browser send, with the credentials that the browser
// keeps. The registry refuses them before any call of a store.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";
import { manifestOf, whole } from "./push.mjs";

const blob = Buffer.from("a blob that is somebody else's\n");
const digest = digestOf(blob);

const HARDENED = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

function hardened({ headers }, what) {
  for (const [name, value] of Object.entries(HARDENED)) assert.equal(headers[name], value, `${what}: ${name}`);
}

describe("a request with Basic", () => {
  let strata;
  before(async () => {
    strata = await start();
    assert.equal((await whole(strata, "theirs", digest, blob)).status, 201);
    const manifest = manifestOf({ digest, size: blob.length }, []);
    assert.equal(
      (
        await strata.send("PUT", "/v2/theirs/manifests/v1", {
          body: manifest.body,
          headers: { "content-type": manifest.mediaType },
        })
      ).status,
      201,
    );
  });
  after(() => strata?.stop());

  const works = [
    ["POST", `/v2/mine/blobs/uploads/?mount=${digest}&from=theirs`, 201],
    ["POST", "/v2/_strata/sweep?dry-run", 200],
    ["GET", "/v2/_strata/token?service=strata", 200],
    ["GET", "/v2/theirs/_strata/images/v1/files/", 200],
  ];
  const reads = ["/v2/", "/metrics", `/v2/theirs/blobs/${digest}`, "/v2/theirs/manifests/v1"];
  const own = () => [
    {},
    { "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "none" },
    { origin: strata.url.origin },
    { "sec-fetch-site": "same-origin", origin: strata.url.origin },
  ];
  const foreign = () => [
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { origin: "null" },
    { origin: "https://evil.example" },
    { origin: strata.url.origin.replace("http:", "https:") },
    {
      "sec-fetch-site": "cross-site",
      origin: "https://evil.example",
      "content-type": "application/x-www-form-urlencoded",
    },
  ];

  for (const [method, path, status] of works) {
    test(`from another site is refused, and reaches no store: ${method} ${path.replace(digest, "…")}`, async () => {
      for (const headers of foreign()) {
        await strata.reset();
        const reply = await strata.send(method, path, { headers });
        assert.equal(reply.status, 403, `${JSON.stringify(headers)}: ${reply.body}`);
        const [{ code, message }] = reply.json().errors;
        assert.equal(code, "DENIED");
        assert.match(message, /a page of another site caused this request/);
        assert.deepEqual(await strata.calls(), []);
        hardened(reply, path);
      }
    });

    test(`from its own pages, from an address that was typed and without a browser is answered: ${method} ${path.replace(digest, "…")}`, async () => {
      for (const headers of own()) {
        const reply = await strata.send(method, path, { headers });
        assert.equal(reply.status, status, `${JSON.stringify(headers)}: ${reply.body}`);
        hardened(reply, path);
      }
    });
  }

  test("that only reads stored content is answered, from any site", async () => {
    for (const path of reads) {
      for (const headers of [...own(), ...foreign()]) {
        const reply = await strata.send("GET", path, { headers });
        assert.equal(reply.status, 200, path);
        hardened(reply, path);
      }
    }
  });
});

test("behind a proxy, STRATA_ORIGIN is the registry's own origin", async () => {
  const strata = await start({ vars: { STRATA_ORIGIN: "https://registry.example" } });
  try {
    const begin = (origin) => strata.send("POST", "/v2/a/blobs/uploads/", { headers: { origin } });
    assert.equal((await begin("https://registry.example")).status, 202);
    assert.equal((await begin(strata.url.origin)).status, 403);
  } finally {
    await strata.stop();
  }
});

test("a response is inert in a browser even if a setting is wrong", async () => {
  const broken = await start({ vars: { STRATA_UPLOADS: "none" } });
  try {
    const reply = await broken.send("GET", "/v2/");
    assert.equal(reply.status, 503);
    hardened(reply, "a wrong setting");
  } finally {
    await broken.stop();
  }
});
