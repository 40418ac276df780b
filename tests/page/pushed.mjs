// Small images for the tests of the page, with everything that people look for.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { gzipSync } from "node:zlib";
import { digestOf } from "../edge/bytes.mjs";
import { whole } from "../edge/push.mjs";

const OCI = "application/vnd.oci.image";
const LAYER = `${OCI}.layer.v1.tar+gzip`;

/** Pushes a blob, and returns its descriptor. */
export async function blob(strata, name, bytes, mediaType, more = {}) {
  const digest = digestOf(bytes);
  const reply = await whole(strata, name, digest, bytes);
  if (reply.status !== 201) throw new Error(`pushing a blob answered ${reply.status}: ${reply.body}`);
  return { mediaType, digest, size: bytes.length, ...more };
}

/** Pushes a manifest, and returns its descriptor. */
export async function manifest(strata, name, reference, document) {
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, ...document }));
  const digest = digestOf(body);
  const reply = await strata.send("PUT", `/v2/${name}/manifests/${reference ?? digest}`, {
    body,
    headers: { "content-type": document.mediaType },
  });
  if (reply.status !== 201) throw new Error(`pushing a manifest answered ${reply.status}: ${reply.body}`);
  return { mediaType: document.mediaType, digest, size: body.length };
}

/**
 * Pushes an image of layers, each `{ tar, history }` with an archive. Returns its descriptor, and
 * those of its configuration and layers.
 */
export async function image(
  strata,
  name,
  reference,
  layers,
  { architecture = "amd64", config = {}, created = "2026-03-01T12:00:00Z" } = {},
) {
  const descriptors = [];
  for (const { tar } of layers) descriptors.push(await blob(strata, name, gzipSync(tar), LAYER));
  const history = layers.flatMap(({ history = "COPY . /", empty = [] }) => [
    { created, created_by: history },
    ...empty.map((created_by) => ({ created, created_by, empty_layer: true })),
  ]);
  const body = Buffer.from(
    JSON.stringify({
      created,
      architecture,
      os: "linux",
      config,
      rootfs: { type: "layers", diff_ids: layers.map(({ tar }) => digestOf(tar)) },
      history,
    }),
  );
  const of = await blob(strata, name, body, `${OCI}.config.v1+json`);
  const pushed = await manifest(strata, name, reference, {
    mediaType: `${OCI}.manifest.v1+json`,
    config: of,
    layers: descriptors,
  });
  return { ...pushed, config: of, layers: descriptors };
}

/** Pushes an index of images, each with its platform. Returns its descriptor. */
export function index(strata, name, reference, images) {
  const manifests = images.map(([{ mediaType, digest, size }, platform]) => ({ mediaType, digest, size, platform }));
  return manifest(strata, name, reference, { mediaType: `${OCI}.index.v1+json`, manifests });
}

/**
 * Pushes an artifact that refers to an image, such as a signature or an SBOM. Returns its
 * descriptor.
 */
export async function artifact(strata, name, subject, artifactType, content) {
  const config = await blob(strata, name, Buffer.from("{}"), "application/vnd.oci.empty.v1+json");
  const layer = await blob(strata, name, Buffer.from(content), artifactType, {
    annotations: { "org.opencontainers.image.title": "content.json" },
  });
  const { mediaType, digest, size } = subject;
  return manifest(strata, name, undefined, {
    mediaType: `${OCI}.manifest.v1+json`,
    artifactType,
    config,
    layers: [layer],
    subject: { mediaType, digest, size },
  });
}

/** Returns a tar archive of a folder. */
export async function tarOf(folder, options = []) {
  const tar = spawn(
    "tar",
    [
      "--sort=name",
      "--mtime=@1700000000",
      "--owner=root:0",
      "--group=root:0",
      "--format=gnu",
      ...options,
      "--create",
      "--file=-",
      `--directory=${folder}`,
      ".",
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const chunks = [];
  tar.stdout.on("data", (chunk) => chunks.push(chunk));
  const [code] = await once(tar, "close");
  if (code !== 0) throw new Error(`tar ended with ${code}`);
  return Buffer.concat(chunks);
}
