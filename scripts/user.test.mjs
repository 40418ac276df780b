// `npm run user`, and how passwords are kept.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT } from "./command.mjs";
import { generate, hash, verify } from "./password.mjs";

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

describe("npm run user", () => {
  let folder;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-user-"))));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  const user = (args, input = "") => {
    const { status, stdout, stderr } = spawnSync("node", ["scripts/user.mjs", ...args], { cwd: ROOT, input, encoding: "utf8" });
    return { status, stdout, stderr };
  };

  it("prints what the secret takes, from a password on standard input", async () => {
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

  it("says what is wrong", () => {
    const broken = path.join(folder, "broken.json");
    fs.writeFileSync(broken, "[]");
    const wrong = [
      [[], "what to do? npm run user -- --help tells"],
      [["remove", "alice"], "what to do? npm run user -- --help tells"],
      [["add", "a:b"], "a:b can't be a user's name: 1 to 64 of a-z, 0-9, '.', '_' and '-'"],
      [["add", "alice"], "the password is too short: 8 characters at least, or --generate"],
      [["add", "alice", "--into", broken], `${broken} is not {"users":{…}}: mend it, or name another file`],
    ];
    for (const [args, line] of wrong) {
      const { status, stderr } = user(args, "short");
      assert.equal(status, 1);
      assert.equal(stderr, `✗ ${line}\n`);
    }
    assert.equal(fs.readFileSync(broken, "utf8"), "[]");
  });
});
