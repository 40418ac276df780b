// Passwords as Strata keeps them: pbkdf2-sha256$<iterations>$<salt>$<key>, salt and key in base64 without padding.

import crypto from "node:crypto";
import util from "node:util";

const derive = util.promisify(crypto.pbkdf2);

/** The platform derives no longer than this in production, although it does locally. */
const ITERATIONS = 100_000;

export async function hash(password, salt = crypto.randomBytes(16)) {
  const key = await derive(password, salt, ITERATIONS, 32, "sha256");
  return ["pbkdf2-sha256", ITERATIONS, unpadded(salt), unpadded(key)].join("$");
}

export async function verify(password, hashed) {
  const salt = Buffer.from(String(hashed).split("$")[2] ?? "", "base64");
  return (await hash(password, salt)) === hashed;
}

/** A password of 24 letters and digits, which need no escaping anywhere and are not taken for an option. */
export function generate() {
  return crypto.randomBytes(64).toString("base64").replace(/[^A-Za-z0-9]/g, "").slice(0, 24);
}

function unpadded(bytes) {
  return bytes.toString("base64").replace(/=+$/, "");
}
