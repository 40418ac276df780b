// A page of a listing costs one operation, however much there is to list.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { digestOf } from "./bytes.mjs";
import { start } from "./harness.mjs";

const COUNT = 10_000;
// The fewest entries of a page without `n`: clients that ignore links see nothing beyond it.
const LEAST = 100;
const digits = (number) => String(number).padStart(5, "0");
// Sorted by bytes, upper case comes before lower case.
const tags = Array.from({ length: COUNT }, (_, index) => `${index % 2 ? "v" : "V"}${digits(index)}`).sort();
const repositories = Array.from({ length: COUNT }, (_, index) => `library/image-${digits(index)}`);

let folder;
let strata;

before(async () => {
  // The simulator waits for the disk with each object. In memory it is five times as fast.
  folder = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "strata-pages-"));
  const metadata = JSON.stringify({
    kind: "manifest",
    digest: digestOf(Buffer.from("a manifest")),
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    size: 10,
  });
  await seed([
    ...tags.map((tag) => ({ key: `repositories/many/tags/_tags/${tag}`, body: metadata, metadata })),
    ...repositories.map((name) => ({ key: `catalog/${name}`, body: "" })),
  ]);
  strata = await start({ folder });
});
after(async () => {
  await strata?.stop();
  await rm(folder, { recursive: true });
});
beforeEach(() => strata.reset());

const listings = {
  tags: { path: "/v2/many/tags/tags/list", field: "tags", all: tags },
  repositories: { path: "/v2/_catalog", field: "repositories", all: repositories },
};

for (const [what, { path, field, all }] of Object.entries(listings)) {
  describe(`${COUNT} ${what}`, () => {
    const list = async (query) => {
      const reply = await strata.send("GET", query.startsWith("/") ? query : `${path}${query}`);
      assert.equal(reply.status, 200, reply.body.toString());
      return { entries: reply.json()[field], next: /^<(.+)>; rel="next"$/.exec(reply.headers.link)?.[1] };
    };
    const pages = {
      "the first page": { query: "", from: 0 },
      "a page of 1,000": { query: "?n=1000", from: 0 },
      "a page of 10": { query: "?n=10", from: 0, length: 10 },
      "a page from the middle": { query: `?n=100&last=${all[COUNT / 2]}`, from: COUNT / 2 + 1, length: 100 },
      "the last page": { query: `?n=100&last=${all[COUNT - 11]}`, from: COUNT - 10, length: 10 },
    };
    for (const [page, { query, from, length }] of Object.entries(pages)) {
      test(`${page} takes one operation`, async () => {
        const { entries, next } = await list(query);
        if (length === undefined) assert.ok(entries.length >= LEAST, `${entries.length} entries`);
        assert.deepEqual(entries, all.slice(from, from + (length ?? entries.length)));
        assert.equal(next === undefined, from + entries.length === COUNT);
        assert.deepEqual(
          (await strata.calls()).map(({ call }) => call),
          ["r2.list"],
        );
      });
    }

    test("its links lead through all of it, one operation for each page", async () => {
      const found = [];
      let pages = 0;
      for (let next = ""; next !== undefined; pages += 1) {
        const page = await list(next);
        found.push(...page.entries);
        next = page.next;
      }
      assert.deepEqual(found, all);
      assert.deepEqual(
        (await strata.calls()).map(({ call }) => call),
        Array(pages).fill("r2.list"),
      );
    });
  });
}

/**
 * Writes objects as the Worker stores them. It runs inside the runtime, because from outside it
 * takes minutes.
 */
async function seed(objects) {
  const module = await readFile(new URL("inside/seed.mjs", import.meta.url));
  const seeder = await start({ folder, probe: false, modules: { "index.js": module } });
  try {
    const reply = await seeder.send("POST", "/", { body: JSON.stringify(objects) });
    assert.equal(reply.status, 200, reply.body.toString());
  } finally {
    await seeder.stop();
  }
}
