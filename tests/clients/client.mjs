// What the tests of each client share: a registry, a folder, credentials, and commands that must work.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { run } from "../../scripts/command.mjs";
import { password, start, user } from "../edge/harness.mjs";

export const credentials = `${user}:${password}`;

/**
 * A registry and an empty folder for the tests of one suite, made before the first and gone after the last:
 * `{ strata, folder, docker }`, where `docker` is a folder with the credentials in Docker's form.
 */
export function setUp(client, skip, options) {
  const made = {};
  before(async () => {
    if (skip) return;
    made.strata = await start(options);
    made.folder = await mkdtemp(join(tmpdir(), `strata-${client}-`));
    made.docker = join(made.folder, "docker");
    await mkdir(made.docker);
    const auths = { [made.strata.host]: { auth: Buffer.from(credentials).toString("base64") } };
    await writeFile(join(made.docker, "config.json"), JSON.stringify({ auths }));
  });
  after(async () => {
    await made.strata?.stop();
    if (made.folder) await rm(made.folder, { recursive: true });
  });
  return made;
}

/** The environment of somebody who keeps credentials in this folder, and finds none of anybody else. */
export const homeIn = (folder) => ({
  HOME: folder,
  DOCKER_CONFIG: folder,
  XDG_RUNTIME_DIR: folder,
  REGCTL_CONFIG: join(folder, "regctl.json"),
});

/** What a command that must work prints. */
export async function must(program, args, options) {
  const { code, stdout, output } = await run(program, args, options);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${output}`);
  return stdout;
}
