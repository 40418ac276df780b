// `npm run user`: the users of a deployment, in the form that its secret STRATA_USERS takes.

import fs from "node:fs";

import { generate, hash } from "./password.mjs";
import { bold, dim, Failure, main, parse, say } from "./terminal.mjs";

const HELP = `npm run user -- add NAME [OPTIONS]

  Prints STRATA_USERS with this user in it. The password is asked for, or read from standard input.

  --generate    make a password and print it
  --into FILE   add the user to those in FILE, or change the password of one, and keep the result there`;

main(import.meta.url, async () => {
  const { values, positionals } = parse(HELP, { generate: { type: "boolean" }, into: { type: "string" } }, true);
  const [verb, name] = positionals;
  if (verb !== "add" || name === undefined || positionals.length > 2) throw new Failure("what to do? npm run user -- --help tells");
  if (!/^[a-z0-9._-]{1,64}$/.test(name)) throw new Failure(`${name} can't be a user's name: 1 to 64 of a-z, 0-9, '.', '_' and '-'`);

  const { users } = values.into ? existing(values.into) : { users: {} };
  const password = values.generate ? generate() : await ask(name);
  if (password.length < SHORTEST) throw new Failure(`the password is too short: ${SHORTEST} characters at least, or --generate`);
  const json = JSON.stringify({ users: { ...users, [name]: await hash(password) } });

  if (values.generate) say(`password of ${bold(name)}: ${password}  ${dim("(not kept anywhere)")}`);
  if (values.into) {
    // Beside and then in its place: an interruption must not cost the users that are in it.
    const beside = `${values.into}.${process.pid}`;
    fs.writeFileSync(beside, `${json}\n`, { mode: 0o600 });
    fs.renameSync(beside, values.into);
    say(`${bold(name)} is in ${values.into}. To set it: npx wrangler secret put STRATA_USERS < ${values.into}`);
  } else {
    say(`${json}\n\nTo set it, give this line to: npx wrangler secret put STRATA_USERS`);
  }
});

function existing(file) {
  if (!fs.existsSync(file)) return { users: {} };
  try {
    const found = JSON.parse(fs.readFileSync(file, "utf8"));
    if (found.users?.constructor === Object) return found;
  } catch {
    // Said below.
  }
  throw new Failure(`${file} is not {"users":{…}}: mend it, or name another file`);
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

const SHORTEST = 8;
