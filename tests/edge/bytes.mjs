// Makes bytes that don't compress, the same for the same seed, without holding them in memory.
import { createCipheriv, createHash } from "node:crypto";

const CHUNK = 1 << 20;

/** Yields `size` bytes in chunks of at most 1 MiB. */
export function* bytes(size, seed = 0) {
  const key = createHash("sha256").update(`bytes ${seed}`).digest();
  const stream = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK);
  for (let left = size; left > 0; left -= CHUNK) yield stream.update(zeros.subarray(0, Math.min(left, CHUNK)));
}

/** Returns the same bytes in one Buffer. */
export function buffer(size, seed = 0) {
  return Buffer.concat([...bytes(size, seed)]);
}

/** Returns the digest (`sha256:…`) of a Buffer, or of an iterable of them. */
export function digestOf(content, algorithm = "sha256") {
  const hash = createHash(algorithm);
  for (const chunk of Buffer.isBuffer(content) ? [content] : content) hash.update(chunk);
  return `${algorithm}:${hash.digest("hex")}`;
}
