// Makes bytes that don't compress, the same for the same seed, without keeping them.
import { createCipheriv, createHash } from "node:crypto";

const CHUNK = 1 << 20;

/** `size` bytes in chunks of 1 MiB at most. */
export function* bytes(size, seed = 0) {
  const key = createHash("sha256").update(`bytes ${seed}`).digest();
  const stream = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK);
  for (let left = size; left > 0; left -= CHUNK) yield stream.update(zeros.subarray(0, Math.min(left, CHUNK)));
}

/** The same bytes, all at once. */
export function buffer(size, seed = 0) {
  return Buffer.concat([...bytes(size, seed)]);
}

/** `sha256:…` of bytes, or of what yields them. */
export function digestOf(content, algorithm = "sha256") {
  const hash = createHash(algorithm);
  for (const chunk of Buffer.isBuffer(content) ? [content] : content) hash.update(chunk);
  return `${algorithm}:${hash.digest("hex")}`;
}
