// Secrets of users as Strata keeps them, salt and key in base64 without padding:
//
//   pbkdf2-sha256$<iterations>$<salt>$<key>   a person's password
//   token-sha256$<salt>$<key>                 a robot's token: key = SHA-256(salt, token)

import crypto from "node:crypto";
import util from "node:util";

const derive = util.promisify(crypto.pbkdf2);

/** The platform derives no longer than this in production, although it does locally. */
const ITERATIONS = 100_000;

export async function hash(password, salt = crypto.randomBytes(16)) {
  const key = await derive(password, salt, ITERATIONS, 32, "sha256");
  return ["pbkdf2-sha256", ITERATIONS, unpadded(salt), unpadded(key)].join("$");
}

/** Once through SHA-256 is enough for what nobody can guess, and for nothing else: what is not a token is not hashed by this. */
export function hashToken(token, salt = crypto.randomBytes(16)) {
  if (!isToken(token)) throw new TypeError("not a token");
  const key = crypto.createHash("sha256").update(salt).update(token).digest();
  return ["token-sha256", unpadded(salt), unpadded(key)].join("$");
}

export async function verify(password, hashed) {
  const fields = String(hashed).split("$");
  const salt = Buffer.from(fields.at(-2) ?? "", "base64");
  // The registry goes by the form of what it is given, so that nobody learns from the time it takes who is a robot.
  return (isToken(password) ? hashToken(password, salt) : await hash(password, salt)) === hashed;
}

/** Whose secret it is: a person's, a robot's, or nobody's where the scheme is not one of ours. */
export function kind(hashed) {
  if (/^pbkdf2-sha256\$/.test(hashed)) return "person";
  if (/^token-sha256\$/.test(hashed)) return "robot";
  return undefined;
}

/** The secret of a user's entry in STRATA_USERS: the text itself, or a member beside the groups. */
export function secretOf(entry) {
  return typeof entry === "string" ? entry : entry?.secret;
}

/** A password of 24 letters and digits, which need no escaping anywhere and are not taken for an option. */
export function generate() {
  return random(24);
}

/** A robot's token: 238 random bits after a prefix by which scanners find those that leaked. */
export function generateToken() {
  return `strata_${random(40)}`;
}

/** Whether a text has the form of a robot's token. */
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
