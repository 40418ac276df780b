// The development user of `npm start`. It is made once and kept in .dev.vars, from which wrangler
// reads local secrets too.

import fs from "node:fs";
import path from "node:path";

import { ROOT } from "./command.mjs";
import { generate, hash, secretOf, verify } from "./password.mjs";
import { Failure } from "./terminal.mjs";

/**
 * Resolves with the users of the local registry, and the password of `dev` if it is still the
 * generated one. Makes the user if the file names none. Fails if STRATA_USERS is invalid.
 */
export async function developmentUser(file = path.join(ROOT, ".dev.vars")) {
  const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  // A quoted value may have several lines, as `npm run user` writes it.
  const line = /^\s*STRATA_USERS\s*=\s*('[^']*'|`[^`]*`|.*)$/m.exec(text)?.[1];
  if (line === undefined) return make(file, text);

  let users;
  try {
    users = JSON.parse(line.trim().replace(/^(['"`])(.*)\1$/s, "$2")).users;
    if (users === null || typeof users !== "object") throw new SyntaxError("no users");
  } catch {
    throw new Failure(
      `STRATA_USERS in .dev.vars is not {"users":{…}}: delete that line for a new development user, or see npm run user -- --help`,
    );
  }
  const password = /^# password of dev: (\S+)$/m.exec(text)?.[1];
  // The line may have been edited since.
  const ours = password !== undefined && users.dev !== undefined && (await verify(password, secretOf(users.dev)));
  return { names: Object.keys(users), password: ours ? password : undefined };
}

async function make(file, text) {
  const password = generate();
  const users = JSON.stringify({ users: { dev: await hash(password) } });
  const lines = [
    "# The development user of `npm start`: for this machine only, never deployed.",
    `# password of dev: ${password}`,
    `STRATA_USERS='${users}'`,
  ];
  const kept = text && !text.endsWith("\n") ? `${text}\n` : text;
  const beside = `${file}.${process.pid}`;
  fs.writeFileSync(beside, `${kept}${lines.join("\n")}\n`, { mode: 0o600 });
  fs.renameSync(beside, file);
  return { names: ["dev"], password };
}
