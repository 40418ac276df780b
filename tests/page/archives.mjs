// Archives with content that images may have and nobody expects.
import { mkdir, mkdtemp, open, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { header, padding } from "../edge/archive.mjs";
import { tarOf } from "./pushed.mjs";

/** The smallest picture: one transparent point. */
export const PICTURE = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

/**
 * Returns a tar archive of files, given as `{ path: content }`. Text and bytes are files,
 * `{ link }` is a symbolic link, and `{ size }` a file that is one hole.
 */
export async function folder(files, options = []) {
  const at = await mkdtemp(join(tmpdir(), "strata-page-"));
  try {
    for (const [path, content] of Object.entries(files)) {
      const file = join(at, path);
      await mkdir(dirname(file), { recursive: true });
      if (Object.hasOwn(Object(content), "link")) await symlink(content.link, file);
      else if (Object.hasOwn(Object(content), "size")) {
        const handle = await open(file, "w");
        await handle.truncate(content.size);
        await handle.close();
      } else await writeFile(file, content);
    }
    return await tarOf(at, options);
  } finally {
    await rm(at, { recursive: true });
  }
}

/**
 * Returns the entry of a file with a name that file systems refuse: too long, or not text. It goes
 * before other entries.
 */
export function named(name, content) {
  const bytes = Buffer.concat([Buffer.isBuffer(name) ? name : Buffer.from(name), Buffer.alloc(1)]);
  return Buffer.concat([
    header({ path: "././@LongLink", type: "L", size: bytes.length }),
    bytes,
    padding(bytes.length),
    header({ path: "named", size: content.length }),
    content,
    padding(content.length),
  ]);
}

/** Returns an archive of `count` empty files in one directory. */
export function many(count) {
  const parts = [];
  for (let at = 0; at < count; at += 1)
    parts.push(header({ path: `many/file-${String(at).padStart(6, "0")}`, size: 0 }));
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** Returns `size` bytes of text: numbered lines of 40 bytes. */
export function lines(size) {
  const of = Buffer.alloc(size);
  for (let at = 0; at < size; at += 40)
    of.write(`${String(at / 40 + 1).padStart(10, "0")} is a line of a very long lo.\n`, at);
  return of;
}
