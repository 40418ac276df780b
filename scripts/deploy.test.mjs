// The checks of wrangler.toml by npm run deploy, and its messages.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT } from "./command.mjs";
import { advice, configurationOf } from "./configuration.mjs";
import { Failure } from "./terminal.mjs";

const HEAD = `name = "strata"\nmain = "index.js"\ncompatibility_date = "2026-04-01"\n`;

describe("deploying", () => {
  let folder;
  before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-deploy-"))));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  /** Writes a wrangler.toml of this text into a new folder. Returns its path. */
  const written = (text, head = HEAD) => {
    const at = fs.mkdtempSync(path.join(folder, "at-"));
    fs.writeFileSync(path.join(at, "wrangler.toml"), head + text);
    return path.join(at, "wrangler.toml");
  };
  const refusal = async (text, { environment = "", head } = {}) => {
    const error = await configurationOf(written(text, head), environment).then(
      () => assert.fail(`accepted:\n${text}`),
      (error) => error,
    );
    assert.ok(error instanceof Failure, error.stack);
    return error.message;
  };
  const sound = "workers_dev = true\npreview_urls = false\n";

  it("accepts the wrangler.toml of this project", async () => {
    const { workers_dev, preview_urls } = await configurationOf(path.join(ROOT, "wrangler.toml"), "");
    assert.deepEqual([workers_dev, preview_urls], [true, false]);
  });

  it("reads the settings that environments inherit, and their own", async () => {
    const file = written(
      `${sound}[env.staging.vars]\nA = "1"\n[env.production]\nworkers_dev = false\nroutes = ["registry.example/*"]\n`,
    );
    for (const [environment, expected] of Object.entries({ "": true, staging: true, production: false })) {
      const { workers_dev, preview_urls } = await configurationOf(file, environment);
      assert.deepEqual([workers_dev, preview_urls], [expected, false], environment);
    }
    const alone = written(`[env.staging]\n${sound}[env.production]\n${sound}`, `${HEAD}${sound}`);
    assert.equal((await configurationOf(alone, "production")).preview_urls, false);
  });

  it("is refused if old versions would answer", async () => {
    const why = "each old version would go on answering at an address of its own";
    for (const text of [
      "workers_dev = true\n",
      "",
      `# preview_urls = false\nworkers_dev = true\n`,
      `workers_dev = true\n[vars]\npreview_urls = false\n`,
    ]) {
      assert.match(
        await refusal(text),
        new RegExp(`^wrangler.toml leaves preview_urls out: ${why}.* Set preview_urls = false there, then `),
      );
    }
    assert.match(
      await refusal("workers_dev = true\npreview_urls = true\n"),
      new RegExp(`^wrangler.toml sets preview_urls = true: ${why}`),
    );
  });

  it("is refused if any environment lets old versions answer, whichever is deployed", async () => {
    const staging = `${sound}[env.production]\n[env.staging]\npreview_urls = true\n`;
    for (const environment of ["", "production", "staging"]) {
      assert.match(
        await refusal(staging, { environment }),
        /^environment staging of wrangler.toml sets preview_urls = true: /,
      );
    }
    const top = `workers_dev = true\n[env.production]\n${sound}`;
    assert.match(await refusal(top, { environment: "production" }), /^wrangler.toml leaves preview_urls out: /);
    // The parsed value counts, not how it is written.
    assert.match(
      await refusal(`${sound}env = { "odd one" = { preview_urls = true } }\n`),
      /^environment odd one of wrangler.toml sets preview_urls = true: /,
    );
  });

  it("is refused if workers_dev is not set", async () => {
    assert.match(
      await refusal("preview_urls = false\n"),
      /^wrangler.toml leaves workers_dev out: .* Set workers_dev = true there, or false /,
    );
  });

  it("is refused with the error in the file, or if the environment does not exist", async () => {
    assert.match(await refusal("preview_urls = \n"), /^wrangler.toml can't be read: .*; fix it, then /);
    assert.match(
      await refusal(`preview_urls = "false"\n`),
      /^wrangler.toml can't be read: .*Expected "preview_urls" to be of type boolean/,
    );
    assert.equal(
      await refusal(sound, { environment: "staging" }),
      "wrangler.toml has no environment staging: it has none",
    );
    assert.equal(
      await refusal(`${sound}[env.a]\n[env.b]\n`, { environment: "c" }),
      "wrangler.toml has no environment c: it has a, b",
    );
    await assert.rejects(configurationOf(path.join(folder, "none.toml"), ""), Failure);
  });

  it("stops before anything is built", () => {
    // A project that has only the scripts: any later step would fail.
    const project = fs.mkdtempSync(path.join(folder, "project-"));
    fs.cpSync(path.join(ROOT, "scripts"), path.join(project, "scripts"), { recursive: true });
    for (const name of ["package.json", "package-lock.json"])
      fs.copyFileSync(path.join(ROOT, name), path.join(project, name));
    const long = new Date(0);
    fs.utimesSync(path.join(project, "package-lock.json"), long, long);
    fs.symlinkSync(path.join(ROOT, "node_modules"), path.join(project, "node_modules"));
    const deploy = (text, args = [], more = {}) => {
      fs.writeFileSync(path.join(project, "wrangler.toml"), HEAD + text);
      const env = { PATH: process.env.PATH, HOME: folder, npm_lifecycle_event: "deploy", ...more };
      const { status, stderr } = spawnSync(process.execPath, ["scripts/deploy.mjs", ...args], {
        cwd: project,
        env,
        encoding: "utf8",
      });
      assert.equal(status, 1);
      return stderr.trimEnd();
    };
    assert.match(
      deploy("workers_dev = true\n", ["--dry-run"]),
      /^✗ wrangler.toml leaves preview_urls out: .* Set preview_urls = false there, then run npm run deploy again$/,
    );
    assert.match(
      deploy(`${sound}[env.staging]\n`, ["--env", "production"]),
      /^✗ wrangler.toml has no environment production: it has staging$/,
    );
    const namespace = `[[kv_namespaces]]\nbinding = "WARM"\n`;
    const another = `${sound}${namespace}[env.staging]\n[[env.staging.kv_namespaces]]\nbinding = "WARM"\nid = "ab"\n`;
    assert.match(
      deploy(another, [], { CLOUDFLARE_API_TOKEN: "none" }),
      /^✗ wrangler.toml has no id for the KV namespace WARM: /,
    );
  });

  it("says when to turn workers.dev off", () => {
    assert.match(advice({ workers_dev: true }).join(), /Once it has a domain of its own, set workers_dev = false/);
    assert.match(
      advice({ workers_dev: true, routes: [{ pattern: "registry.example", custom_domain: true }] }).join(),
      /^The registry answers at registry.example, and at its workers.dev address as well.* set workers_dev = false/,
    );
    assert.match(
      advice({ workers_dev: true, route: "registry.example/*" }).join(),
      /^The registry answers at registry.example\/\*, and/,
    );
    assert.deepEqual(advice({ workers_dev: false, routes: ["registry.example/*"] }), []);
    assert.match(advice({ workers_dev: false, routes: [] }).join(), /there are no routes/);
  });
});
