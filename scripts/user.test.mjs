// `npm run user`, and the stored form of passwords and tokens.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT } from "./command.mjs";
import { generate, generateToken, hash, hashToken, verify } from "./password.mjs";

describe("passwords", () => {
  it("are kept as scheme, iterations, salt and key", async () => {
    assert.equal(
      await hash("correct horse", Buffer.alloc(16, 1)),
      "pbkdf2-sha256$100000$AQEBAQEBAQEBAQEBAQEBAQ$xOI1F8Rk3lh4vYZ0kAW2IhEJiQ4YHQWTP/PQ1JLu/OU",
    );
    assert.notEqual(await hash("correct horse"), await hash("correct horse"));
  });

  it("are verified", async () => {
    const hashed = await hash("correct horse");
    assert.equal(await verify("correct horse", hashed), true);
    assert.equal(await verify("correct Horse", hashed), false);
    assert.equal(await verify("correct horse", "nothing of the kind"), false);
  });

  it("are made of letters and digits", () => {
    for (let n = 0; n < 1000; n += 1) assert.match(generate(), /^[A-Za-z0-9]{24}$/);
  });
});

describe("tokens", () => {
  const token = `strata_${"0123456789".repeat(4)}`;

  it("are kept as scheme, salt and key", () => {
    assert.equal(
      hashToken(token, Buffer.alloc(16, 1)),
      "token-sha256$AQEBAQEBAQEBAQEBAQEBAQ$sQUWdG0ka17L09yU6kNh2Ci0VZr053wPd14DxFFTuUg",
    );
    assert.notEqual(hashToken(token), hashToken(token));
  });

  it("are verified", async () => {
    assert.equal(await verify(token, hashToken(token)), true);
    assert.equal(await verify(token.replace("9", "8"), hashToken(token)), false);
    assert.equal(await verify(token, await hash(token)), false);
  });

  it("are refused unless they have the generated form", async () => {
    for (const other of [
      "correct horse",
      `${token}0`,
      token.slice(0, -1),
      token.replace("0", "-"),
      token.replace("strata", "Strata"),
      `${token}\n`,
    ]) {
      assert.throws(() => hashToken(other), TypeError);
      assert.equal(await verify(other, hashToken(token)), false);
    }
  });

  it("are made of letters and digits, one as likely as another", () => {
    const counts = {};
    const tokens = 4000;
    for (let n = 0; n < tokens; n += 1) {
      const made = generateToken();
      assert.match(made, /^strata_[A-Za-z0-9]{40}$/);
      for (const character of made.slice("strata_".length)) counts[character] = (counts[character] ?? 0) + 1;
    }
    const expected = (tokens * 40) / 62;
    assert.equal(Object.keys(counts).length, 62);
    // A tolerance of more than six deviations. Bytes modulo 62 would show a deviation of 21 %.
    for (const count of Object.values(counts))
      assert.ok(Math.abs(count / expected - 1) < 0.125, `${count} and not about ${expected}`);
  });
});

describe("npm run user", () => {
  let folder;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-user-"))));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  const user = (args, input = "") => {
    const { status, stdout, stderr } = spawnSync("node", ["scripts/user.mjs", ...args], {
      cwd: ROOT,
      input,
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  };

  it("prints the value of the secret, from a password on standard input", async () => {
    const { status, stdout } = user(["add", "alice"], "correct horse\n");
    assert.equal(status, 0);
    const { users } = JSON.parse(stdout.split("\n")[0]);
    assert.deepEqual(Object.keys(users), ["alice"]);
    assert.equal(await verify("correct horse", users.alice), true);
  });

  it("adds to a file, and changes a password in it", async () => {
    const file = path.join(folder, "users.json");
    const read = () => JSON.parse(fs.readFileSync(file, "utf8")).users;
    assert.equal(user(["add", "alice", "--into", file], "correct horse").status, 0);
    const { stdout } = user(["add", "bob", "--generate", "--into", file]);
    const password = /^password of bob: ([A-Za-z0-9]{24}) /m.exec(stdout)[1];
    const { alice } = read();
    assert.deepEqual(Object.keys(read()), ["alice", "bob"]);
    assert.equal(await verify(password, read().bob), true);
    assert.equal(user(["add", "bob", "--into", file], "another horse").status, 0);
    assert.equal(await verify("another horse", read().bob), true);
    assert.equal(read().alice, alice);
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(fs.readdirSync(folder), ["users.json"]);
  });

  const users = (file) => JSON.parse(fs.readFileSync(file, "utf8")).users;
  const tokenOf = (name, stdout) =>
    new RegExp(`^token of ${name}: (strata_[A-Za-z0-9]{40})  \\(not stored\\)$`, "m").exec(stdout)[1];

  it("makes a robot's token, which is printed and not stored", async () => {
    const file = path.join(folder, "robots.json");
    const { status, stdout } = user(["add", "ci", "--robot", "--into", file]);
    assert.equal(status, 0);
    const token = tokenOf("ci", stdout);
    assert.match(users(file).ci, /^token-sha256\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    assert.equal(await verify(token, users(file).ci), true);
    assert.equal(fs.readFileSync(file, "utf8").includes(token), false);

    const alone = user(["add", "ci", "--robot", "--group", "robots"]).stdout;
    const [json] = alone.split("\n").filter((line) => line.startsWith("{"));
    const { secret, groups } = JSON.parse(json).users.ci;
    assert.equal(await verify(tokenOf("ci", alone), secret), true);
    assert.deepEqual(groups, ["robots"]);
  });

  it("keeps the groups unless others are given", async () => {
    const file = path.join(folder, "groups.json");
    const groups = (...args) => {
      assert.equal(user([...args, "--into", file], "correct horse").status, 0);
      return users(file)[args[1]].groups;
    };
    assert.deepEqual(groups("add", "alice@example.org", "--group", "staff", "--group", "Ops", "--group", "staff"), [
      "staff",
      "Ops",
    ]);
    assert.equal(await verify("correct horse", users(file)["alice@example.org"].secret), true);
    assert.deepEqual(groups("add", "alice@example.org"), ["staff", "Ops"]);
    assert.deepEqual(groups("add", "alice@example.org", "--group", "staff"), ["staff"]);
    assert.deepEqual(groups("add", "ci", "--robot", "--group", "robots"), ["robots"]);
    const first = users(file).ci.secret;
    assert.deepEqual(groups("add", "ci", "--robot"), ["robots"]);
    assert.notEqual(users(file).ci.secret, first);
  });

  it("says that a person becomes a robot, and a robot a person", () => {
    const file = path.join(folder, "turned.json");
    const add = (...args) => user(["add", "alice", ...args, "--into", file], "correct horse").stdout;
    assert.doesNotMatch(add("--group", "staff"), / was a /);
    assert.match(add("--robot"), /^alice was a person and is a robot now: the password no longer works$/m);
    assert.match(users(file).alice.secret, /^token-sha256\$/);
    assert.doesNotMatch(add("--robot"), / was a /);
    assert.match(add(), /^alice was a robot and is a person now: the token no longer works$/m);
    assert.deepEqual(users(file).alice.groups, ["staff"]);
  });

  it("writes a user a line, lists and removes them, and prints no hash", () => {
    const file = path.join(folder, "lines.json");
    user(["add", "alice", "--group", "staff", "--group", "ops", "--into", file], "correct horse");
    user(["add", "__proto__", "--robot", "--into", file]);
    user(["add", "ci", "--robot", "--group", "robots", "--into", file]);
    const lines = fs.readFileSync(file, "utf8").split("\n");
    assert.deepEqual(
      lines.map((line) => line.replace(/"[a-z0-9-]+\$[^"]+"/, "SECRET")),
      [
        '{"users":{',
        '"alice":{"secret":SECRET,"groups":["staff","ops"]},',
        '"__proto__":SECRET,',
        '"ci":{"secret":SECRET,"groups":["robots"]}',
        "}}",
        "",
      ],
    );

    const list = () => user(["list", "--into", file]).stdout;
    assert.equal(list(), "alice      person  staff, ops\n__proto__  robot\nci         robot   robots\n");
    const { status, stdout } = user(["remove", "alice", "--into", file]);
    assert.equal(status, 0);
    assert.equal(stdout, `alice is no longer in ${file}. To set it: npx wrangler secret put STRATA_USERS < ${file}\n`);
    assert.equal(list(), "__proto__  robot\nci         robot   robots\n");
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    user(["remove", "__proto__", "--into", file]);
    user(["remove", "ci", "--into", file]);
    assert.equal(list(), `${file} has no users\n`);
    assert.deepEqual(users(file), {});
    assert.equal(
      user(["remove", "ci", "--into", file]).stderr,
      `✗ ci is not in ${file}: npm run user -- list --into ${file} lists the users\n`,
    );
  });

  it("writes nothing that is too large for a secret", () => {
    const file = path.join(folder, "large.json");
    const fill = (length) => fs.writeFileSync(file, `{"users":{"filler":"${"x".repeat(length)}"}}`);
    fill(0);
    user(["add", "ci", "--robot", "--into", file]);
    // The newline at the end of the file is not part of the secret.
    const room = 5_120 - (fs.statSync(file).size - 1);

    fill(room + 1);
    const before = fs.readFileSync(file, "utf8");
    const { status, stdout, stderr } = user(["add", "ci", "--robot", "--into", file]);
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.equal(
      stderr,
      "✗ with ci the users are 5121 bytes; a secret holds at most 5120: remove some first; a robot's entry is shorter than a person's\n",
    );
    assert.equal(fs.readFileSync(file, "utf8"), before);

    assert.equal(user(["list", "--into", file]).stdout, "filler  unknown scheme\n");
    fill(room);
    assert.equal(user(["add", "ci", "--robot", "--into", file]).status, 0);
  });

  it("reports wrong arguments, files and passwords", () => {
    const broken = path.join(folder, "broken.json");
    fs.writeFileSync(broken, "[]");
    const odd = path.join(folder, "odd.json");
    fs.writeFileSync(odd, '{"users":{"alice":{"secret":"…","group":"staff"}}}');
    const nowhere = path.join(folder, "nowhere", "users.json");
    const allowed = "1 to 64 of A-Z, a-z, 0-9, '.', '_', '@', '+' and '-'";
    const wrong = [
      [[], "expected add NAME, remove NAME or list: npm run user -- --help explains them"],
      [["constructor", "alice"], "expected add NAME, remove NAME or list: npm run user -- --help explains them"],
      [["remove", "--into", broken], "expected add NAME, remove NAME or list: npm run user -- --help explains them"],
      [
        ["list", "alice", "--into", broken],
        "expected add NAME, remove NAME or list: npm run user -- --help explains them",
      ],
      [["remove", "alice"], "--into FILE is missing: name the file with the users"],
      [["list", "--robot", "--into", broken], "list takes no --robot: only add does"],
      [["list", "--into", nowhere], `there is no ${nowhere}: npm run user -- add NAME --into ${nowhere} makes it`],
      [["list", "--into", broken], `${broken} is not {"users":{…}}: fix it, or name another file`],
      [
        ["list", "--into", odd],
        `in ${odd} the entry of alice is neither "SECRET" nor {"secret":"SECRET","groups":["GROUP"]}: fix it, or name another file`,
      ],
      [["add", "a:b"], `a:b can't be a user's name: ${allowed}`],
      [["add", "alice", "--group", "all staff"], `all staff can't be a group's name: ${allowed}`],
      [["add", "ci", "--robot", "--generate"], "a robot's token is always generated: leave --generate out"],
      [["add", "ci", "--robot", "--into", nowhere], `${nowhere} can't be written (ENOENT): name another file`],
      [
        ["add", "alice"],
        "the password is too short: use at least 12 characters, because the platform limits the cost of hashing; or --generate",
      ],
      [["add", "alice", "--into", broken], `${broken} is not {"users":{…}}: fix it, or name another file`],
    ];
    for (const [args, line] of wrong) {
      const { status, stdout, stderr } = user(args, "elevenchars");
      assert.equal(status, 1);
      assert.equal(stdout, "");
      assert.equal(stderr, `✗ ${line}\n`);
    }
    assert.equal(fs.readFileSync(broken, "utf8"), "[]");
    assert.equal(
      user(["add", "alice"], generateToken()).stderr,
      "✗ a robot's token can't be a password: --robot makes a new one\n",
    );
  });
});
