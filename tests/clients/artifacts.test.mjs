// Artifacts that helm, oras and cosign pushed: their requests, as tests/data/artifacts keeps them,
// get the same responses again. `npm run judges -- artifacts --keep` writes these files.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { start } from "../edge/harness.mjs";
import { bytesOf, manifestsOf, referrersOf, replay } from "./replay.mjs";

const FOLDER = new URL("../data/artifacts/", import.meta.url);
const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));

describe("artifacts", () => {
  let strata;
  before(async () => {
    strata = await start({ probe: false });
  });
  after(() => strata?.stop());

  for (const file of files) {
    const fixture = JSON.parse(readFileSync(new URL(file, FOLDER), "utf8"));
    const pull = async (path) => {
      const { status, headers, body } = await strata.send("GET", path, { headers: { accept: "*/*" } });
      assert.equal(status, 200, `${path}: ${body}`);
      return { headers, body };
    };

    describe(`${file.replace(".json", "")}, as ${fixture.versions.join(" and ")} pushed it`, () => {
      test("gets the same responses", () => replay(strata, fixture));

      test("comes back byte for byte", async () => {
        const manifests = [...manifestsOf(fixture)];
        assert.ok(manifests.length > 0);
        for (const { name, type, digest, text, json } of manifests) {
          const pulled = await pull(`/v2/${name}/manifests/${digest}`);
          assert.equal(pulled.body.toString(), text);
          assert.equal(pulled.headers["content-type"], type);
          for (const blob of [json.config, ...json.layers]) {
            const { body } = await pull(`/v2/${name}/blobs/${blob.digest}`);
            assert.ok(body.equals(bytesOf(fixture.blobs[blob.digest])), blob.digest);
          }
        }
        // A tag may have been pushed several times: the last push counts.
        const tags = new Map(manifests.map((one) => [`/v2/${one.name}/manifests/${one.reference}`, one.text]));
        for (const [path, text] of tags) assert.equal((await pull(path)).body.toString(), text);
      });

      test("has the same referrers", async () => {
        assert.deepEqual(await referrersOf(strata, fixture), fixture.referrers);
      });
    });
  }
});
