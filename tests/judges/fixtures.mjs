// The requests of clients, as the judges keep them for `npm test`.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, run } from "../../scripts/command.mjs";
import { manifestsOf, referrersOf, replay } from "../clients/replay.mjs";
import { start } from "../edge/harness.mjs";

const FOLDER = join(ROOT, "tests/data/artifacts");
/** The most bytes of a file there. */
const LARGEST = 40_000;

/**
 * Replays a fixture on a new registry, and writes it to tests/data/artifacts if it `isKept`.
 * Resolves with a line about it.
 */
export async function check(name, fixture, isKept) {
  const strata = await start({ probe: false });
  try {
    await replay(strata, fixture);
    assert.deepEqual(await referrersOf(strata, fixture), fixture.referrers);
  } finally {
    await strata.stop();
  }
  const counts = `${fixture.requests.length} requests with ${[...manifestsOf(fixture)].length} manifests replayed`;
  return isKept ? `${counts}, ${await keep(name, fixture)} bytes kept` : counts;
}

/** Writes a fixture as the formatter wants it. Resolves with its bytes. */
async function keep(name, fixture) {
  mkdirSync(FOLDER, { recursive: true });
  const file = join(FOLDER, `${name}.json`);
  writeFileSync(file, `${JSON.stringify(fixture, undefined, 2)}\n`);
  await run(join(ROOT, "node_modules/.bin/biome"), ["format", "--write", file]);
  const { length } = await readFile(file);
  assert.ok(length <= LARGEST, `${file} has ${length} bytes, at most ${LARGEST} are allowed`);
  return length;
}
