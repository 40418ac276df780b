// `npm run user`: edits the users of a deployment, in the format of the secret STRATA_USERS.

import fs from "node:fs";

import { generate, generateToken, hash, hashToken, isToken, kind, secretOf } from "./password.mjs";
import { bold, dim, Failure, main, parse, say } from "./terminal.mjs";

const HELP = `npm run user -- COMMAND [OPTIONS]

  Makes STRATA_USERS, the secret with the users of a registry.

  add NAME       a person; prompts for the password, or reads it from standard input
  add NAME --robot
                 a robot, such as CI; makes its token and prints it
  remove NAME    removes a user from a file
  list           lists the users in a file

  --into FILE    the file with the users; add creates it, and without it prints the new user only
  --group GROUP  a group of the user, which rules can name; repeat it for more groups
  --generate     makes a password and prints it

  Adding an existing user changes the password, or renews the token; the groups stay unless --group is given.`;

main(import.meta.url, async () => {
  const { values, positionals } = parse(
    HELP,
    {
      generate: { type: "boolean" },
      group: { type: "string", multiple: true },
      into: { type: "string" },
      robot: { type: "boolean" },
    },
    true,
  );
  const [verb, name] = positionals;
  const names = { add: 1, remove: 1, list: 0 };
  if (!Object.hasOwn(names, verb ?? "") || positionals.length !== 1 + names[verb])
    throw new Failure("expected add NAME, remove NAME or list: npm run user -- --help explains them");
  if (verb === "add") return add(name, values);

  const { into, ...others } = values;
  const [other] = Object.keys(others);
  if (other !== undefined) throw new Failure(`${verb} takes no --${other}: only add does`);
  if (into === undefined) throw new Failure("--into FILE is missing: name the file with the users");
  const users = existing(into);
  if (users === undefined) throw new Failure(`there is no ${into}: npm run user -- add NAME --into ${into} makes it`);
  return verb === "remove" ? remove(name, users, into) : list(users, into);
});

async function add(name, { generate: generated, group, into, robot }) {
  check(name, "a user's name");
  for (const one of group ?? []) check(one, "a group's name");
  if (robot && generated) throw new Failure("a robot's token is always generated: leave --generate out");

  const users = (into !== undefined && existing(into)) || new Map();
  const before = users.get(name);
  const secret = robot ? generateToken() : generated ? generate() : await ask(name);
  if ([...secret].length < SHORTEST) {
    throw new Failure(
      `the password is too short: use at least ${SHORTEST} characters, because the platform limits the cost of hashing; or --generate`,
    );
  }
  if (!robot && isToken(secret)) throw new Failure("a robot's token can't be a password: --robot makes a new one");
  const hashed = robot ? hashToken(secret) : await hash(secret);
  const groups = group ? [...new Set(group)] : (before?.groups ?? []);
  users.set(name, groups.length === 0 ? hashed : { secret: hashed, groups });

  const json = document(users);
  const size = Buffer.byteLength(json);
  if (size > MAX_BYTES) {
    throw new Failure(
      `with ${name} the users are ${size} bytes; a secret holds at most ${MAX_BYTES}: remove some first; a robot's entry is shorter than a person's`,
    );
  }
  if (into !== undefined) write(into, json);

  const made = robot ? "token" : "password";
  if (robot || generated) say(`${made} of ${bold(name)}: ${secret}  ${dim("(not stored)")}`);
  const was = before && kind(secretOf(before));
  if (was === "person" && robot) say(`${bold(name)} was a person and is a robot now: the password no longer works`);
  if (was === "robot" && !robot) say(`${bold(name)} was a robot and is a person now: the token no longer works`);
  if (into === undefined)
    return say(
      `${json}\n\nTo set it, give this line to: npx wrangler secret put STRATA_USERS\nIt replaces all users; to add one to others, use --into FILE`,
    );
  const membership = groups.length === 0 ? "" : `, ${groups.length === 1 ? "group" : "groups"} ${groups.join(", ")}`;
  say(`${bold(name)} ${before ? `has a new ${made}` : "is"} in ${into}${membership}. ${set(into)}`);
}

function remove(name, users, file) {
  if (!users.delete(name))
    throw new Failure(`${name} is not in ${file}: npm run user -- list --into ${file} lists the users`);
  write(file, document(users));
  say(`${bold(name)} is no longer in ${file}. ${set(file)}`);
}

function list(users, file) {
  if (users.size === 0) return say(`${file} has no users`);
  const width = Math.max(...[...users.keys()].map((name) => name.length));
  for (const [name, entry] of users) {
    const who = kind(secretOf(entry)) ?? "unknown scheme";
    const groups = (entry.groups ?? []).join(", ");
    say(
      `${bold(name)}${" ".repeat(width - name.length)}  ${groups === "" ? who : `${who.padEnd("person".length)}  ${dim(groups)}`}`,
    );
  }
}

function check(name, what) {
  if (!/^[A-Za-z0-9._@+-]{1,64}$/.test(name))
    throw new Failure(`${name} can't be ${what}: 1 to 64 of A-Z, a-z, 0-9, '.', '_', '@', '+' and '-'`);
}

/**
 * Returns the users in a file by name, in its order, or undefined if there is no file. Fails if it
 * is invalid.
 */
function existing(file) {
  if (!fs.existsSync(file)) return undefined;
  let found;
  try {
    found = JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    // Reported below.
  }
  if (!isObject(found) || !isObject(found.users) || Object.keys(found).length > 1) {
    throw new Failure(`${file} is not {"users":{…}}: fix it, or name another file`);
  }
  const users = new Map(Object.entries(found.users));
  for (const [name, entry] of users) {
    if (isEntry(entry)) continue;
    throw new Failure(
      `in ${file} the entry of ${name} is neither "SECRET" nor {"secret":"SECRET","groups":["GROUP"]}: fix it, or name another file`,
    );
  }
  return users;
}

function isEntry(entry) {
  if (typeof entry === "string") return true;
  if (!isObject(entry)) return false;
  const { secret, groups = [], ...others } = entry;
  const isText = (value) => typeof value === "string";
  return isText(secret) && Array.isArray(groups) && groups.every(isText) && Object.keys(others).length === 0;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * Returns the document with one user a line, so that a line in the registry's errors stands for a
 * user. It has no other whitespace, because a secret is small. A single user is one line, which can
 * be pasted into a prompt.
 */
function document(users) {
  const lines = [...users].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  return lines.length < 2 ? `{"users":{${lines.join("")}}}` : `{"users":{\n${lines.join(",\n")}\n}}`;
}

function write(file, json) {
  // Write a temporary file and rename it: an interruption must not lose the users in the file.
  const beside = `${file}.${process.pid}`;
  try {
    fs.writeFileSync(beside, `${json}\n`, { mode: 0o600 });
    fs.renameSync(beside, file);
  } catch ({ code }) {
    fs.rmSync(beside, { force: true });
    throw new Failure(`${file} can't be written (${code}): name another file`);
  }
}

function set(file) {
  return `To set it: npx wrangler secret put STRATA_USERS < ${file}`;
}

/**
 * Reads a password from standard input. On a terminal, prompts for it twice and does not show it.
 */
async function ask(name) {
  if (!process.stdin.isTTY) {
    let text = "";
    for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
    return text.replace(/\r?\n$/, "");
  }
  const password = await hidden(`password of ${name}: `);
  if ((await hidden("repeat the password: ")) !== password) throw new Failure("the passwords differ: try again");
  return password;
}

function hidden(prompt) {
  process.stdout.write(prompt);
  process.stdin.setRawMode(true).setEncoding("utf8").resume();
  return new Promise((resolve) => {
    let text = "";
    const end = () => {
      process.stdin.off("data", read).setRawMode(false).pause();
      process.stdout.write("\n");
    };
    const read = (chunk) => {
      for (const character of chunk) {
        if (character === "\r" || character === "\n") {
          end();
          return resolve(text);
        }
        if (character === "\u0003") {
          end();
          process.exit(130);
        }
        text = character === "\u007f" || character === "\b" ? text.slice(0, -1) : text + character;
      }
    };
    process.stdin.on("data", read);
  });
}

/** The shortest password that a person may choose, in characters. */
const SHORTEST = 12;

/** The size limit of a secret: https://developers.cloudflare.com/workers/platform/limits/#environment-variables */
const MAX_BYTES = 5 * 1024;
