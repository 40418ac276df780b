// Compares what a client pulled with what was pushed.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { blobPath } from "../images/layout.mjs";
import { treeOf } from "../images/tree.mjs";
import { run } from "../../scripts/command.mjs";

/** The pulled layout holds the image's manifest and every blob it names, byte for byte. */
export async function assertSameImage(image, layout) {
  const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8"));
  assert.deepEqual(index.manifests.map(({ digest }) => digest), [image.manifest.digest]);
  for (const { digest } of [image.manifest, ...image.blobs]) {
    const [pushed, pulled] = await Promise.all([image.layout, layout].map((one) => readFile(blobPath(one, digest))));
    assert.ok(pushed.equals(pulled), `${digest} came back different`);
  }
}

/** The tars, extracted in order into an empty folder, give the image's files and nothing else. */
export async function assertSameFiles(image, tars, folder) {
  for (const tar of tars) {
    const { code, output } = await run("tar", ["--extract", "--same-permissions", `--file=${tar}`, `--directory=${folder}`]);
    assert.equal(code, 0, output);
  }
  assert.deepEqual(await treeOf(folder), image.tree);
}

/** Bytes that the registry keeps for blobs, whole or in extents. */
export async function storedBytes(strata) {
  const objects = [...(await strata.objects("blobs/")), ...(await strata.objects("extents/"))];
  return objects.reduce((sum, { size }) => sum + size, 0);
}
