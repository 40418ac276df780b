// An image of a few kilobytes, for tests that need several images but no packages.
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "../edge/bytes.mjs";
import { native, writeLayout } from "./layout.mjs";
import { treeOf } from "./tree.mjs";

/**
 * Makes an image of two layers, with files that differ by architecture. Resolves with the same
 * members as `image`: `{ layout, manifest, blobs, tree }`.
 */
export async function smallImage(folder, architecture = native()) {
  const stages = [join(folder, "base"), join(folder, "top")];
  for (const stage of stages) await mkdir(join(stage, "data"), { recursive: true });
  await write(join(stages[0], "data/random"), buffer(20_000, `small ${architecture}`), 0o644);
  await symlink("random", join(stages[0], "data/link"));
  await write(join(stages[1], "data/architecture"), `${architecture}\n`, 0o755);
  const layout = join(folder, "layout");
  const written = await writeLayout(layout, stages, { architecture });
  const tree = Object.assign({}, ...(await Promise.all(stages.map(treeOf))));
  return { layout, ...written, tree };
}

/** Writes a file with exactly this mode, whatever the umask. */
async function write(path, content, mode) {
  await writeFile(path, content);
  await chmod(path, mode);
}
