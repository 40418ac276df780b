// The stored form of users' secrets, with salt and key in base64 without padding:
//
//   pbkdf2-sha256$<iterations>$<salt>$<key>   a person's password
//   token-sha256$<salt>$<key>                 a robot's token: key = SHA-256(salt, token)

import crypto from "node:crypto";
import util from "node:util";

const derive = util.promisify(crypto.pbkdf2);

/**
 * The most iterations that the platform derives in production, although it derives more locally.
 */
const ITERATIONS = 100_000;

export async function hash(password, salt = crypto.randomBytes(16)) {
  const key = await derive(password, salt, ITERATIONS, 32, "sha256");
  return ["pbkdf2-sha256", ITERATIONS, unpadded(salt), unpadded(key)].join("$");
}

/**
 * Returns the stored form of a robot's token. One SHA-256 is enough only for a secret that nobody
 * can guess, so anything but a token throws.
 */
export function hashToken(token, salt = crypto.randomBytes(16)) {
  if (!isToken(token)) throw new TypeError("not a token");
  const key = crypto.createHash("sha256").update(salt).update(token).digest();
  return ["token-sha256", unpadded(salt), unpadded(key)].join("$");
}

export async function verify(password, hashed) {
  const fields = String(hashed).split("$");
  const salt = Buffer.from(fields.at(-2) ?? "", "base64");
  // As in the registry, the form of the given secret decides. So the response time does not reveal
  // which user is a robot.
  return (isToken(password) ? hashToken(password, salt) : await hash(password, salt)) === hashed;
}

/**
 * Returns the kind of user by the scheme of the stored secret, or undefined if the scheme is
 * unknown.
 */
export function kind(hashed) {
  if (/^pbkdf2-sha256\$/.test(hashed)) return "person";
  if (/^token-sha256\$/.test(hashed)) return "robot";
  return undefined;
}

/**
 * Returns the secret of an entry in STRATA_USERS: the text itself, or its member beside the groups.
 */
export function secretOf(entry) {
  return typeof entry === "string" ? entry : entry?.secret;
}

/**
 * Returns a password of 24 letters and digits, which need no escaping and do not look like an
 * option.
 */
export function generate() {
  return random(24);
}

/** Returns a robot's token: 238 random bits after a prefix by which scanners find leaked tokens. */
export function generateToken() {
  return `strata_${random(40)}`;
}

/** Returns whether a text has the form of a robot's token. */
export function isToken(text) {
  return /^strata_[A-Za-z0-9]{40}$/.test(text);
}

function random(length) {
  return Array.from({ length }, () => CHARACTERS[crypto.randomInt(CHARACTERS.length)]).join("");
}

const CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

function unpadded(bytes) {
  return bytes.toString("base64").replace(/=+$/, "");
}
