// `npm run deploy`: the Worker onto the account that wrangler is signed in to, or a dry run where there is none.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { build, checkSize } from "./build.mjs";
import { ROOT } from "./command.mjs";
import { buildPage, checkPage } from "./page.mjs";
import { ensureAll } from "./setup.mjs";
import { again, Failure, main, parse, say } from "./terminal.mjs";

const HELP = `npm run deploy [-- --dry-run]

  Builds the Worker and deploys it as wrangler.toml says.

  --dry-run   everything but the upload; so too where no account is set`;

main(import.meta.url, async () => {
  const { values } = parse(HELP, { "dry-run": { type: "boolean" } });
  const dry = values["dry-run"] || !account();
  if (!dry && !/^\s*id\s*=\s*"[0-9a-f]+"/m.test(fs.readFileSync(path.join(ROOT, "wrangler.toml"), "utf8"))) {
    throw new Failure(`wrangler.toml has no id for the KV namespace WARM: npx wrangler kv namespace create WARM prints one; fill it in, then ${again()}`);
  }
  await ensureAll();
  checkSize(await build());
  checkPage(await buildPage());
  if (dry) {
    const why = values["dry-run"] ? "" : " (no account is set: npx wrangler login signs in, in CI set CLOUDFLARE_API_TOKEN)";
    say(`\nA dry run: nothing is deployed${why}.\n`);
  }
  const wrangler = path.join(ROOT, "node_modules/.bin/wrangler");
  const env = { ...process.env, WRANGLER_SEND_METRICS: "false" };
  const { status } = spawnSync(wrangler, ["deploy", ...(dry ? ["--dry-run"] : [])], { cwd: ROOT, env, stdio: "inherit" });
  if (status !== 0) throw new Failure(`wrangler did not deploy: what it says is above; when that is mended, ${again()}`);
});

/** Whether wrangler has an account to deploy to, as far as this machine knows: a token, or what `wrangler login` left. */
function account() {
  const { CLOUDFLARE_API_TOKEN, CLOUDFLARE_API_KEY, CLOUDFLARE_EMAIL, XDG_CONFIG_HOME } = process.env;
  if (CLOUDFLARE_API_TOKEN || (CLOUDFLARE_API_KEY && CLOUDFLARE_EMAIL)) return true;
  const homes = [os.homedir(), XDG_CONFIG_HOME ?? path.join(os.homedir(), ".config"), path.join(os.homedir(), "Library/Preferences")];
  return homes.some((home) => fs.existsSync(path.join(home, ".wrangler/config/default.toml")));
}
