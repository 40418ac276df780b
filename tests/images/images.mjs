// Images of real Debian packages as OCI layouts, made without docker and cached in target/.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { find, ROOT, run } from "../../scripts/command.mjs";
import { writeLayout } from "./layout.mjs";
import { treeOf } from "./tree.mjs";

const cache = join(ROOT, "target/test-images");

// Package names that Debian's releases share. Versions change, so digests are computed and never
// written here.
const recipes = {
  busybox: [
    {
      packages: ["busybox-static"],
      links: { "bin/sh": "busybox", "bin/ls": "busybox", "usr/bin/env": "../../bin/busybox" },
    },
  ],
  files: [{ packages: ["tzdata"] }, { packages: ["iso-codes"] }, { packages: ["vim-runtime"] }, { packages: ["git"] }],
  tools: [
    { packages: ["less"] },
    { packages: ["nano"] },
    { packages: ["jq"] },
    { packages: ["tree"] },
    { packages: ["file"] },
  ],
};

// Raise this if a change here makes another image of the same packages.
const RECIPE = 1;

const known = new Map();

/**
 * Resolves with an image as `{ layout, manifest, blobs, tree }`: the layout's folder, the
 * manifest's descriptor, the descriptors of all blobs of the manifest (the config first), and all
 * files of the merged layers as `treeOf` describes them.
 *
 * @param {"busybox" | "files" | "tools"} name
 */
export function image(name) {
  // Cache the result: listing the versions takes a second.
  if (!known.has(name)) known.set(name, locate(name));
  return known.get(name);
}

async function locate(name) {
  const layers = recipes[name];
  const files = await fileNames(layers.flatMap((layer) => layer.packages));
  const key = createHash("sha256")
    .update(JSON.stringify([RECIPE, layers, [...files]]))
    .digest("hex")
    .slice(0, 16);
  const folder = join(cache, `${name}-${key}`);
  if (!existsSync(folder)) await make(folder, layers, files);
  return { layout: join(folder, "layout"), ...JSON.parse(await readFile(join(folder, "image.json"), "utf8")) };
}

/** Returns the reason that images can't be made on this machine, or undefined. */
export function unavailable() {
  const missing = ["apt-get", "dpkg-deb", "tar"].filter((tool) => !find(tool));
  if (missing.length === 0) return undefined;
  return `test images need ${missing.join(", ")}, not found on PATH`;
}

/**
 * Resolves with the current file names of packages in the distribution; the version is part of
 * them.
 */
async function fileNames(packages) {
  const ask = () => run("apt-get", ["download", "--print-uris", ...packages]);
  let { code, stdout, output } = await ask();
  if (code !== 0) {
    // A fresh machine has no package lists yet.
    await must("apt-get", ["update"]);
    ({ code, stdout, output } = await ask());
  }
  if (code !== 0) throw new Error(`apt-get can't find the packages: ${output}`);
  const names = stdout.split("\n").flatMap((line) => /^'[^']*' (\S+)/.exec(line)?.[1] ?? []);
  return new Map(packages.map((one) => [one, names.find((name) => name.startsWith(`${one}_`))]));
}

/**
 * Unpacks the packages of each layer, `{ packages, links }`, into its own folder. Resolves with the
 * folders.
 */
export async function stagesOf(folder, layers) {
  return extract(folder, layers, await fileNames(layers.flatMap((layer) => layer.packages)));
}

async function extract(folder, layers, files) {
  await must("apt-get", ["download", "-o", "APT::Sandbox::User=root", ...files.keys()], { cwd: folder });
  const stages = [];
  for (const [index, { packages, links = {} }] of layers.entries()) {
    const stage = join(folder, `stage-${index}`);
    for (const one of packages) await must("dpkg-deb", ["--extract", join(folder, files.get(one)), stage]);
    for (const [path, target] of Object.entries(links)) {
      await mkdir(dirname(join(stage, path)), { recursive: true });
      await symlink(target, join(stage, path));
    }
    stages.push(stage);
  }
  return stages;
}

/**
 * Makes an image in a temporary folder and moves it into place, so that neither a crash nor a
 * concurrent run leaves a partial image.
 */
async function make(folder, layers, files) {
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, "making-"));
  try {
    const stages = await extract(work, layers, files);
    const made = join(work, "made");
    const written = await writeLayout(join(made, "layout"), stages);
    const tree = Object.assign({}, ...(await Promise.all(stages.map(treeOf))));
    await writeFile(join(made, "image.json"), JSON.stringify({ ...written, tree }));
    await rename(made, folder).catch((error) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(work, { recursive: true });
  }
}

async function must(program, args, options) {
  const { code, output } = await run(program, args, options);
  if (code !== 0) throw new Error(`${program} ${args[0]} ended with ${code}: ${output}`);
}
