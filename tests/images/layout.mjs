// Writes an OCI image layout whose layers are folders.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";

const CONFIG = "application/vnd.oci.image.config.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

/** Options of tar: sorted, without dates and owners, so that the same files give the same bytes. */
const PLAIN = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];

/**
 * Writes a layout with a layer for each folder. Resolves with the manifest's descriptor, and the
 * descriptors of all blobs that it names, the config first. `tar` has the options of tar for
 * layers.
 */
export async function writeLayout(layout, stages, { architecture = native(), tar = PLAIN } = {}) {
  await mkdir(join(layout, "blobs/sha256"), { recursive: true });
  const layers = [];
  for (const stage of stages) layers.push(await writeLayer(layout, stage, tar));

  const config = await writeJson(layout, CONFIG, {
    architecture,
    os: "linux",
    config: { Cmd: ["/bin/sh"] },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
  });
  const descriptors = layers.map((layer) => layer.descriptor);
  const manifest = await writeJson(layout, MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config,
    layers: descriptors,
  });
  await writeFile(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const annotations = { "org.opencontainers.image.ref.name": "latest" };
  const index = { schemaVersion: 2, mediaType: INDEX, manifests: [{ ...manifest, annotations }] };
  await writeFile(join(layout, "index.json"), JSON.stringify(index));
  return { manifest, blobs: [config, ...descriptors] };
}

/** Returns this machine's architecture by its name in images. */
export function native() {
  return { x64: "amd64", ia32: "386" }[process.arch] ?? process.arch;
}

/** Returns the path of a blob in a layout. */
export const blobPath = (layout, digest) => join(layout, "blobs", ...digest.split(":"));

/** Writes a folder as a gzipped tar, hashed before and after compression. */
async function writeLayer(layout, stage, options) {
  const top = (await readdir(stage)).sort();
  const tar = spawn("tar", [...options, "--create", "--file=-", `--directory=${stage}`, "--", ...top], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(tar, "close");
  const [diff, hash] = [createHash("sha256"), createHash("sha256")];
  let size = 0;
  const path = join(layout, "layer");
  await pipeline(
    tar.stdout,
    seen((chunk) => diff.update(chunk)),
    createGzip(),
    seen((chunk) => {
      hash.update(chunk);
      size += chunk.length;
    }),
    createWriteStream(path),
  );
  const [code] = await ended;
  if (code !== 0) throw new Error(`tar ended with ${code}`);
  const digest = `sha256:${hash.digest("hex")}`;
  await rename(path, blobPath(layout, digest));
  return { diffId: `sha256:${diff.digest("hex")}`, descriptor: { mediaType: LAYER, digest, size } };
}

async function writeJson(layout, mediaType, value) {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  await writeFile(blobPath(layout, digest), bytes);
  return { mediaType, digest, size: bytes.length };
}

function seen(look) {
  return new PassThrough().on("data", look);
}
