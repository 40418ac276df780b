// The development user in .dev.vars.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

import { developmentUser } from "./development.mjs";
import { hash, verify } from "./password.mjs";

describe("the development user", () => {
  let folder;
  let file;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-vars-"))));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));
  beforeEach(() => {
    file = path.join(folder, ".dev.vars");
    fs.rmSync(file, { force: true });
  });

  it("is made once, with a password that is printed again", async () => {
    const { names, password } = await developmentUser(file);
    assert.deepEqual(names, ["dev"]);
    assert.match(password, /^[A-Za-z0-9]{24}$/);
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    const [, json] = /^STRATA_USERS='(.*)'$/m.exec(fs.readFileSync(file, "utf8"));
    assert.equal(await verify(password, JSON.parse(json).users.dev), true);
    assert.deepEqual(await developmentUser(file), { names, password });
  });

  it("keeps the other lines of the file", async () => {
    fs.writeFileSync(file, "STRATA_ANONYMOUS_PULL=true");
    await developmentUser(file);
    assert.match(fs.readFileSync(file, "utf8"), /^STRATA_ANONYMOUS_PULL=true\n# The development user/);
  });

  it("is not made if the file names other users", async () => {
    const own = `STRATA_USERS={"users":{"alice":"${await hash("correct horse")}","bob":""}}\n`;
    fs.writeFileSync(file, own);
    assert.deepEqual(await developmentUser(file), { names: ["alice", "bob"], password: undefined });
    assert.equal(fs.readFileSync(file, "utf8"), own);
  });

  it("is found among entries in both forms, a line each", async () => {
    const { password } = await developmentUser(file);
    const hashed = await hash(password);
    const lines = ['{"users":{', `"alice":"${hashed}",`, `"dev":{"secret":"${hashed}","groups":["staff"]}`, "}}"];
    fs.writeFileSync(file, `# password of dev: ${password}\nSTRATA_USERS='${lines.join("\n")}'\nSTRATA_LOG=errors\n`);
    assert.deepEqual(await developmentUser(file), { names: ["alice", "dev"], password });
  });

  it("does not print a password that is no longer right", async () => {
    const { password } = await developmentUser(file);
    fs.writeFileSync(
      file,
      fs.readFileSync(file, "utf8").replace(/"dev":"[^"]*"/, `"dev":"${await hash("another one")}"`),
    );
    assert.notEqual(password, undefined);
    assert.deepEqual(await developmentUser(file), { names: ["dev"], password: undefined });
  });

  it("says that the line can't be read", async () => {
    for (const value of ["dev", "[]", "null", '{"users":null}']) {
      fs.writeFileSync(file, `STRATA_USERS=${value}\n`);
      await assert.rejects(developmentUser(file), {
        message: /^STRATA_USERS in \.dev\.vars is not \{"users":\{…\}\}: delete that line/,
      });
    }
  });
});
