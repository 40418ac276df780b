// Compares a pulled image with the pushed one.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { blobPath } from "../images/layout.mjs";
import { treeOf } from "../images/tree.mjs";
import { run } from "../../scripts/command.mjs";

/**
 * Asserts that the layout lists the image's manifest and nothing else, and has all of its blobs,
 * byte for byte.
 */
export async function assertSameImage(image, layout) {
  const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8"));
  assert.deepEqual(
    index.manifests.map(({ digest }) => digest),
    [image.manifest.digest],
  );
  await assertSameBlobs(image, layout);
}

/** Asserts that the layout has the image's manifest and all of its blobs, byte for byte. */
export async function assertSameBlobs(image, layout) {
  for (const { digest } of [image.manifest, ...image.blobs]) {
    const [pushed, pulled] = await Promise.all([image.layout, layout].map((one) => readFile(blobPath(one, digest))));
    assert.ok(pushed.equals(pulled), `${digest} came back different`);
  }
}

/**
 * Asserts that the tars, extracted in order into an empty folder, give exactly the image's files.
 */
export async function assertSameFiles(image, tars, folder) {
  for (const tar of tars) {
    const { code, output } = await run("tar", [
      "--extract",
      "--same-permissions",
      `--file=${tar}`,
      `--directory=${folder}`,
    ]);
    assert.equal(code, 0, output);
  }
  assert.deepEqual(await treeOf(folder), image.tree);
}

/** Returns the bytes that the registry stores for blobs, whole or in extents. */
export async function storedBytes(strata) {
  const objects = [...(await strata.objects("blobs/")), ...(await strata.objects("extents/"))];
  return objects.reduce((sum, { size }) => sum + size, 0);
}

/** Returns the keys of blobs and extents that were written since the last reset. */
export async function blobsWritten(strata) {
  const writes = (await blobCalls(strata)).filter(({ call, idle }) => /put|upload/i.test(call) && !idle);
  return writes.map(({ key }) => key);
}

/**
 * Asserts that no layer was read or written since the last reset. Without a write, a client may
 * still have uploaded: the registry hashes known bytes again and does not store them. But the
 * client would have had to read them first.
 */
export async function assertMounted(strata) {
  assert.deepEqual(
    (await blobCalls(strata)).filter(({ bytes }) => bytes > RECORD),
    [],
  );
}

async function blobCalls(strata) {
  return (await strata.calls()).filter(({ key }) => /^(blobs|extents)\//.test(key));
}

// The most bytes of the record that a blob in extents has at its own key. A mount reads it, and
// each layer of the tests is larger.
const RECORD = 500;
