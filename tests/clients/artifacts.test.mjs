// Artifacts that helm, oras, cosign and buildctl pushed: their requests, as tests/data/artifacts
// keeps them, get the same responses again. `npm run judges -- artifacts --keep` and
// `npm run judges -- cache --keep` write these files.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { start } from "../edge/harness.mjs";
import { whole } from "../edge/push.mjs";
import { rounds } from "../edge/rounds.mjs";
import { bytesOf, listedBy, manifestsOf, referrersOf, replay } from "./replay.mjs";

const FOLDER = new URL("../data/artifacts/", import.meta.url);
const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
const GRACE = 6;

describe("artifacts", () => {
  let strata;
  before(async () => {
    strata = await start({
      probe: false,
      vars: { STRATA_GRACE_SECONDS: String(GRACE), STRATA_STALE_SECONDS: "1" },
    });
  });
  after(() => strata?.stop());

  const pull = async (path) => {
    const { status, headers, body } = await strata.send("GET", path, { headers: { accept: "*/*" } });
    assert.equal(status, 200, `${path}: ${body}`);
    return { headers, body };
  };

  /** Pulls all that a fixture pushed, and compares the bytes. */
  async function isWhole(fixture) {
    const manifests = [...manifestsOf(fixture)];
    assert.ok(manifests.length > 0);
    for (const { name, type, digest, text, json } of manifests) {
      const pulled = await pull(`/v2/${name}/manifests/${digest}`);
      assert.equal(pulled.body.toString(), text);
      assert.equal(pulled.headers["content-type"], type);
      const listed = listedBy(json, fixture);
      assert.ok(listed.length > 0);
      for (const blob of listed) {
        const { body } = await pull(`/v2/${name}/blobs/${blob.digest}`);
        assert.ok(body.equals(bytesOf(fixture.blobs[blob.digest])), blob.digest);
      }
    }
    // A tag may have been pushed several times: the last push counts.
    const tags = new Map(manifests.map((one) => [`/v2/${one.name}/manifests/${one.reference}`, one.text]));
    for (const [path, text] of tags) assert.equal((await pull(path)).body.toString(), text);
    assert.deepEqual(await referrersOf(strata, fixture), fixture.referrers);
  }

  const fixtures = files.map((file) => [file, JSON.parse(readFileSync(new URL(file, FOLDER), "utf8"))]);
  for (const [file, fixture] of fixtures) {
    describe(`${file.replace(".json", "")}, as ${fixture.versions.join(" and ")} pushed it`, () => {
      test("gets the same responses", () => replay(strata, fixture));

      test("comes back byte for byte, with its referrers", () => isWhole(fixture));
    });
  }

  test("the caches of BuildKit list layers and a configuration, in each form", () => {
    const caches = fixtures.filter(([file]) => file.startsWith("cache-"));
    const forms = caches.map(([, fixture]) => {
      const { type, json } = [...manifestsOf(fixture)].at(-1);
      const types = listedBy(json, fixture).map(({ mediaType }) => mediaType);
      assert.deepEqual([type, types], [fixture.type, fixture.types]);
      assert.ok(types.includes("application/vnd.buildkit.cacheconfig.v0"));
      return json.manifests ? "index" : "image";
    });
    assert.deepEqual(forms.sort(), ["image", "index", "index"]);
  });

  test("all of them stay after rounds of the sweep", async () => {
    const stray = buffer(1000, "stray");
    assert.equal((await whole(strata, "artifacts/stray", digestOf(stray), stray)).status, 201);
    const stored = async () => (await strata.objects("blobs/")).map(({ key }) => `sha256:${key.split("/").at(-1)}`);
    const before = await stored();
    // A round deletes the grant and marks the blob, and the next one removes it.
    await rounds(strata, { times: 2, grace: GRACE });
    const left = await stored();
    assert.deepEqual(
      before.filter((digest) => !left.includes(digest)),
      [digestOf(stray)],
    );
    for (const [, fixture] of fixtures) await isWhole(fixture);
  });
});
