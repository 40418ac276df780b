// `npm run deploy`: deploys the Worker to the account that wrangler is signed in to. Without an
// account it is a dry run.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { build, checkSize } from "./build.mjs";
import { ROOT } from "./command.mjs";
import { advice, configurationOf } from "./configuration.mjs";
import { buildPage, checkPage } from "./page.mjs";
import { ensureAll, ensureNode, ensurePackages } from "./setup.mjs";
import { again, Failure, main, parse, say } from "./terminal.mjs";

const HELP = `npm run deploy [-- OPTIONS]

  Builds the Worker and deploys it as wrangler.toml says.

  --env NAME  an environment of wrangler.toml, instead of its top level
  --dry-run   everything but the upload; the default if no account is set`;

main(import.meta.url, async () => {
  const { values } = parse(HELP, { "dry-run": { type: "boolean" }, env: { type: "string" } });
  const dry = values["dry-run"] || !account();
  ensureNode();
  await ensurePackages();
  // Fail before the long part.
  const environment = values.env ?? process.env.CLOUDFLARE_ENV ?? "";
  const configured = await configurationOf(CONFIGURATION, environment);
  if (!dry && !configured.kv_namespaces.some(({ binding, id }) => binding === "WARM" && /^[0-9a-f]+$/.test(id ?? ""))) {
    throw new Failure(
      `wrangler.toml has no id for the KV namespace WARM: create one with npx wrangler kv namespace create WARM and fill in the id that it prints, then ${again()}`,
    );
  }
  await ensureAll();
  checkSize(await build());
  checkPage(await buildPage());
  if (dry) {
    const why = values["dry-run"]
      ? ""
      : " (no account is set: sign in with npx wrangler login, or set CLOUDFLARE_API_TOKEN in CI)";
    say(`\nA dry run: nothing is deployed${why}.\n`);
  }
  const wrangler = path.join(ROOT, "node_modules/.bin/wrangler");
  const env = { ...process.env, WRANGLER_SEND_METRICS: "false" };
  // Name the file and the environment that were checked, so that nothing else is deployed.
  const args = ["deploy", "--config", CONFIGURATION, "--env", environment, ...(dry ? ["--dry-run"] : [])];
  const { status } = spawnSync(wrangler, args, { cwd: ROOT, env, stdio: "inherit" });
  if (status !== 0) throw new Failure(`wrangler failed: its output is above; fix the cause, then ${again()}`);
  for (const line of advice(configured)) say(`\n${line}`);
});

const CONFIGURATION = path.join(ROOT, "wrangler.toml");

/**
 * Returns whether this machine has credentials for wrangler: in the environment, or from its login.
 */
function account() {
  const { CLOUDFLARE_API_TOKEN, CLOUDFLARE_API_KEY, CLOUDFLARE_EMAIL, XDG_CONFIG_HOME } = process.env;
  if (CLOUDFLARE_API_TOKEN || (CLOUDFLARE_API_KEY && CLOUDFLARE_EMAIL)) return true;
  const homes = [
    os.homedir(),
    XDG_CONFIG_HOME ?? path.join(os.homedir(), ".config"),
    path.join(os.homedir(), "Library/Preferences"),
  ];
  return homes.some((home) => fs.existsSync(path.join(home, ".wrangler/config/default.toml")));
}
