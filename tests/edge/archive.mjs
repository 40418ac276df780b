// Writes small tar archives for the layers of tests.

/**
 * Returns the header of an entry in POSIX's ustar format:
 * `{ path, type = "0", size = 0, mode = 0o644, link = "" }`.
 */
export function header({ path, type = "0", size = 0, mode = 0o644, link = "" }) {
  const block = Buffer.alloc(512);
  const octal = (number, length) => `${number.toString(8).padStart(length - 1, "0")}\0`;
  block.write(path, 0, 100);
  block.write(octal(mode, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(size, 12), 124);
  block.write(octal(0, 12), 136);
  block.write(" ".repeat(8), 148);
  block.write(type, 156);
  block.write(link, 157, 100);
  block.write("ustar\x0000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 7)} `, 148);
  return block;
}

/** Returns the padding after a file of this size. */
export const padding = (size) => Buffer.alloc((512 - (size % 512)) % 512);

/** The end of an archive. */
export const END = Buffer.alloc(1024);

/** Returns an archive of entries, each with its `content` if it has any. */
export function archive(entries) {
  const parts = entries.flatMap(({ content = Buffer.alloc(0), ...entry }) => [
    header({ ...entry, size: content.length }),
    content,
    padding(content.length),
  ]);
  return Buffer.concat([...parts, END]);
}
