// `npm run user`: the users of a deployment, in the form that its secret STRATA_USERS takes.

import fs from "node:fs";

import { generate, generateToken, hash, hashToken, isToken, kind, secretOf } from "./password.mjs";
import { bold, dim, Failure, main, parse, say } from "./terminal.mjs";

const HELP = `npm run user -- COMMAND [OPTIONS]

  Makes STRATA_USERS, the secret that says who the users of a registry are.

  add NAME       a person, whose password is asked for, or read from standard input
  add NAME --robot
                 a robot, such as CI, whose token is made and printed
  remove NAME    takes a user out of a file
  list           names the users in a file

  --into FILE    the file that the users are in; add makes it, and without it prints the user alone
  --group GROUP  a group that the user is in, which rules can name; again for another
  --generate     make a password and print it

  Adding who is there already changes the password, or renews the token; the groups stay if none is given.`;

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
    throw new Failure("what to do? npm run user -- --help tells");
  if (verb === "add") return add(name, values);

  const { into, ...others } = values;
  const [other] = Object.keys(others);
  if (other !== undefined) throw new Failure(`${verb} takes no --${other}: only add does`);
  if (into === undefined) throw new Failure("which users? --into FILE names the file that they are in");
  const users = existing(into);
  if (users === undefined) throw new Failure(`there is no ${into}: npm run user -- add NAME --into ${into} makes it`);
  return verb === "remove" ? remove(name, users, into) : list(users, into);
});

async function add(name, { generate: generated, group, into, robot }) {
  check(name, "a user's name");
  for (const one of group ?? []) check(one, "a group's name");
  if (robot && generated) throw new Failure("a robot's token is always made here: leave --generate out");

  const users = (into !== undefined && existing(into)) || new Map();
  const before = users.get(name);
  const secret = robot ? generateToken() : generated ? generate() : await ask(name);
  if ([...secret].length < SHORTEST) {
    throw new Failure(
      `the password is too short: ${SHORTEST} characters at least, as the platform limits how slow guessing can be made; or --generate`,
    );
  }
  if (!robot && isToken(secret)) throw new Failure("a robot's token is nobody's password: --robot makes a new one");
  const hashed = robot ? hashToken(secret) : await hash(secret);
  const groups = group ? [...new Set(group)] : (before?.groups ?? []);
  users.set(name, groups.length === 0 ? hashed : { secret: hashed, groups });

  const json = document(users);
  const size = Buffer.byteLength(json);
  if (size > MAX_BYTES) {
    throw new Failure(
      `with ${name} the users are ${size} bytes, and the platform keeps ${MAX_BYTES} in one secret: remove some first; a robot's entry is shorter than a person's`,
    );
  }
  if (into !== undefined) write(into, json);

  const made = robot ? "token" : "password";
  if (robot || generated) say(`${made} of ${bold(name)}: ${secret}  ${dim("(not kept anywhere)")}`);
  const was = before && kind(secretOf(before));
  if (was === "person" && robot) say(`${bold(name)} was a person and is a robot now: the password is no longer of use`);
  if (was === "robot" && !robot) say(`${bold(name)} was a robot and is a person now: the token is no longer of use`);
  if (into === undefined) return say(`${json}\n\nTo set it, give this line to: npx wrangler secret put STRATA_USERS`);
  const membership = groups.length === 0 ? "" : `, ${groups.length === 1 ? "group" : "groups"} ${groups.join(", ")}`;
  say(`${bold(name)} ${before ? `has a new ${made}` : "is"} in ${into}${membership}. ${set(into)}`);
}

function remove(name, users, file) {
  if (!users.delete(name))
    throw new Failure(`${name} is not in ${file}: npm run user -- list --into ${file} tells who is`);
  write(file, document(users));
  say(`${bold(name)} is no longer in ${file}. ${set(file)}`);
}

function list(users, file) {
  if (users.size === 0) return say(`nobody is in ${file}`);
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

/** The users in a file by their names, in its order; undefined where there is no such file. */
function existing(file) {
  if (!fs.existsSync(file)) return undefined;
  let found;
  try {
    found = JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    // Said below.
  }
  if (!isObject(found) || !isObject(found.users) || Object.keys(found).length > 1) {
    throw new Failure(`${file} is not {"users":{…}}: mend it, or name another file`);
  }
  const users = new Map(Object.entries(found.users));
  for (const [name, entry] of users) {
    if (isEntry(entry)) continue;
    throw new Failure(
      `in ${file} the entry of ${name} is neither "SECRET" nor {"secret":"SECRET","groups":["GROUP"]}: mend it, or name another file`,
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
 * A user a line, so that the line that the registry's errors name is a user's, and no space more than that: there is little room. One
 * user alone is one line, which can be given to a prompt.
 */
function document(users) {
  const lines = [...users].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  return lines.length < 2 ? `{"users":{${lines.join("")}}}` : `{"users":{\n${lines.join(",\n")}\n}}`;
}

function write(file, json) {
  // Beside and then in its place: an interruption must not cost the users that are in it.
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

/** A line from standard input; on a terminal it is asked for twice and not shown. */
async function ask(name) {
  if (!process.stdin.isTTY) {
    let text = "";
    for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
    return text.replace(/\r?\n$/, "");
  }
  const password = await hidden(`password of ${name}: `);
  if ((await hidden("once more: ")) !== password) throw new Failure("the two are not the same: try again");
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

/** For a password of a person's own making. */
const SHORTEST = 12;

/** https://developers.cloudflare.com/workers/platform/limits/#environment-variables */
const MAX_BYTES = 5 * 1024;
