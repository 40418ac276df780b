// Shared by the tests of all clients: a registry, a folder, credentials, and commands that must
// work.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { run } from "../../scripts/command.mjs";
import { password, start, user } from "../edge/harness.mjs";

export const credentials = `${user}:${password}`;

/** Writes the credentials for a host in docker's form. Resolves with the folder of the file. */
export async function dockerConfig(folder, host) {
  await mkdir(folder, { recursive: true });
  const auths = { [host]: { auth: Buffer.from(credentials).toString("base64") } };
  await writeFile(join(folder, "config.json"), JSON.stringify({ auths }));
  return folder;
}

/**
 * Starts a registry and makes an empty folder before a suite's first test, and removes both after
 * its last. Returns `{ strata, folder, docker }`; `docker` is a folder with the credentials in
 * Docker's form.
 */
export function setUp(client, skip, options) {
  const made = {};
  before(async () => {
    if (skip) return;
    made.strata = await start(options);
    made.folder = await mkdtemp(join(tmpdir(), `strata-${client}-`));
    made.docker = await dockerConfig(join(made.folder, "docker"), made.strata.host);
  });
  after(async () => {
    await made.strata?.stop();
    if (made.folder) await rm(made.folder, { recursive: true });
  });
  return made;
}

/** Returns an environment whose credentials are in this folder only. */
export const homeIn = (folder) => ({
  HOME: folder,
  DOCKER_CONFIG: folder,
  XDG_RUNTIME_DIR: folder,
  REGCTL_CONFIG: join(folder, "regctl.json"),
});

/** Runs a command that must work, and returns its output. */
export async function must(program, args, options) {
  const { code, stdout, output } = await run(program, args, options);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${output}`);
  return stdout;
}
