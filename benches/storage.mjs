// The cost of storing a family of real images in R2 and, for a limited time, in KV.
import { readFileSync } from "node:fs";
import { digestOf } from "../tests/edge/bytes.mjs";
import { manifestOf, whole } from "../tests/edge/push.mjs";
import { blobPath } from "../tests/images/layout.mjs";
import { image } from "../tests/images/images.mjs";
import { NO_MEMORY } from "./contestants.mjs";
import { STORED } from "./prices.mjs";
import { expect, settled, within } from "./registry.mjs";
import { figure } from "./table.mjs";

const REPOSITORIES = ["bench/one", "bench/two", "bench/three"];
// The registry's default TTL of a warm value.
const RETENTION_DAYS = 1;
const MONTH_DAYS = 30;

export async function storage(print) {
  const images = await family();
  await within({ vars: NO_MEMORY }, async (strata) => {
    for (const repository of REPOSITORIES) for (const one of images) await push(strata, repository, one);
    cold(print, images, await strata.objects());
    await warm(print, strata, images);
  });
}

/** Makes images that build on one another: a shell, then each with one more package on top. */
async function family() {
  const sources = [await image("busybox"), await image("files"), await image("tools")];
  const layers = sources.flatMap(({ layout, blobs: [config, ...layers] }) => {
    const diffIds = JSON.parse(readFileSync(blobPath(layout, config.digest), "utf8")).rootfs.diff_ids;
    return layers.map(({ digest, size }, index) => ({
      digest,
      size,
      diffId: diffIds[index],
      path: blobPath(layout, digest),
    }));
  });
  return layers.map((_, last) => {
    const below = layers.slice(0, last + 1);
    const rootfs = { type: "layers", diff_ids: below.map(({ diffId }) => diffId) };
    const body = Buffer.from(
      JSON.stringify({ architecture: "amd64", os: "linux", config: { Cmd: ["/bin/sh"] }, rootfs }),
    );
    const config = { digest: digestOf(body), size: body.length, body };
    const described = [config, ...below].map(({ digest, size }) => ({ digest, size }));
    return { tag: `with-${last}`, blobs: [config, ...below], manifest: manifestOf(described[0], described.slice(1)) };
  });
}

/** Pushes an image as a client does: blobs that the repository has are not sent again. */
async function push(strata, repository, { tag, blobs, manifest }) {
  for (const { digest, path, body } of blobs) {
    const { status } = await strata.send("HEAD", `/v2/${repository}/blobs/${digest}`);
    if (status !== 200) await expect(201, whole(strata, repository, digest, body ?? readFileSync(path)));
  }
  const headers = { "content-type": manifest.mediaType };
  await expect(201, strata.send("PUT", `/v2/${repository}/manifests/${tag}`, { body: manifest.body, headers }));
}

/**
 * Compares the size of the bucket, records and grants included, with storage that shares fewer
 * blobs.
 */
function cold(print, images, objects) {
  const manifests = sum(images.map(({ manifest }) => manifest.body.length));
  const whole = sum(images.flatMap(({ blobs }) => blobs.map(({ size }) => size))) + manifests;
  const unique = new Map(images.flatMap(({ blobs }) => blobs.map(({ digest, size }) => [digest, size])));
  const each = sum([...unique.values()]) + manifests;
  const stored = {
    "each image by itself": REPOSITORIES.length * whole,
    "blobs shared within a repository": REPOSITORIES.length * each,
    "Strata: blobs shared by all repositories": sum(objects.map(({ size }) => size)),
  };
  const pushed = stored["each image by itself"];
  const rows = Object.entries(stored).map(([name, bytes]) => {
    const ratio = bytes / pushed;
    return [name, figure(bytes / 1e6), percent(ratio), percent(1 - ratio), `$${(STORED.r2 * ratio).toFixed(4)}`];
  });
  const title = `${images.length} images built on one another, in ${REPOSITORIES.length} repositories`;
  print(title, ["R2", "MB", "of all", "saved", "a GB-month of images"], rows);
}

/**
 * Measures the bytes that repeated reads of manifests and configs write to KV, with and without
 * compression.
 */
async function warm(print, strata, images) {
  await strata.reset();
  for (let time = 0; time < 30; time += 1) {
    for (const { blobs, manifest } of images) {
      const headers = { accept: manifest.mediaType };
      await expect(200, strata.send("GET", `/v2/${REPOSITORIES[0]}/manifests/${manifest.digest}`, { headers }));
      await expect(200, strata.send("GET", `/v2/${REPOSITORIES[0]}/blobs/${blobs[0].digest}`));
    }
  }
  await settled(strata);
  const { "kv.put": put } = await strata.counts();
  if (!put) throw new Error("nothing was put into KV");
  const metrics = (await expect(200, strata.send("GET", "/metrics"))).body.toString();
  const [, saved] = /^strata_warm_compression_saved_bytes_total(?:\{.*\})? (\S+)$/m.exec(metrics) ?? [];
  if (saved === undefined) throw new Error("the metrics have no strata_warm_compression_saved_bytes_total");
  const plain = put.bytes + Number(saved);
  const rows = [
    ["TTL of a month, plain", plain, 1],
    ["TTL of a month, compressed", put.bytes, 1],
    ["TTL of a day, plain", plain, RETENTION_DAYS / MONTH_DAYS],
    ["TTL of a day, compressed", put.bytes, RETENTION_DAYS / MONTH_DAYS],
  ].map(([name, bytes, part]) => [
    name,
    bytes,
    (bytes / plain).toFixed(2),
    `$${((STORED.kv * part * bytes) / plain).toFixed(4)}`,
  ]);
  print(
    `${put.calls} warm values, each read on one day of a month, by TTL`,
    ["KV", "bytes", "of plain", "a GB of values"],
    rows,
  );
}

function percent(ratio) {
  return `${(100 * ratio).toFixed(1)} %`;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
