// Describes the files in a folder, so that two folders can be compared.
import { createHash } from "node:crypto";
import { readFile, readdir, readlink, lstat } from "node:fs/promises";
import { join } from "node:path";

/**
 * Resolves with each path below `folder` and its type, its mode, and the SHA-256 of its content or
 * the target of its link.
 */
export async function treeOf(folder) {
  const tree = {};
  for (const path of (await readdir(folder, { recursive: true })).sort()) {
    const full = join(folder, path);
    const stat = await lstat(full);
    const mode = (stat.mode & 0o7777).toString(8);
    if (stat.isSymbolicLink()) tree[path] = `link ${await readlink(full)}`;
    else if (stat.isDirectory()) tree[path] = `folder ${mode}`;
    else
      tree[path] = `file ${mode} ${createHash("sha256")
        .update(await readFile(full))
        .digest("hex")}`;
  }
  return tree;
}
