// Compares what a client pulled with what was pushed.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { blobPath } from "../images/layout.mjs";
import { treeOf } from "../images/tree.mjs";
import { run } from "../../scripts/command.mjs";

/** The pulled layout holds the image's manifest, and nothing else at its top, and every blob it names, byte for byte. */
export async function assertSameImage(image, layout) {
  const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8"));
  assert.deepEqual(
    index.manifests.map(({ digest }) => digest),
    [image.manifest.digest],
  );
  await assertSameBlobs(image, layout);
}

/** The layout holds the image's manifest and every blob it names, byte for byte. */
export async function assertSameBlobs(image, layout) {
  for (const { digest } of [image.manifest, ...image.blobs]) {
    const [pushed, pulled] = await Promise.all([image.layout, layout].map((one) => readFile(blobPath(one, digest))));
    assert.ok(pushed.equals(pulled), `${digest} came back different`);
  }
}

/** The tars, extracted in order into an empty folder, give the image's files and nothing else. */
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

/** Bytes that the registry keeps for blobs, whole or in extents. */
export async function storedBytes(strata) {
  const objects = [...(await strata.objects("blobs/")), ...(await strata.objects("extents/"))];
  return objects.reduce((sum, { size }) => sum + size, 0);
}

/** Keys of blobs and extents that were written since the last reset. */
export async function blobsWritten(strata) {
  const writes = (await blobCalls(strata)).filter(({ call, idle }) => /put|upload/i.test(call) && !idle);
  return writes.map(({ key }) => key);
}

/**
 * No layer went in or out since the last reset. Bytes that a client sends again would be hashed and not kept, so that nothing was
 * written does not show that it mounted; but it would have had to read them first.
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

// What a blob in extents has at its own key is read to mount it, and is smaller than any layer of the tests.
const RECORD = 500;
