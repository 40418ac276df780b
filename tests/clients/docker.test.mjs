// docker signs in, builds, pushes, pulls and runs, with a daemon for the tests alone, through the
// listener of `npm start`.
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { front } from "../../scripts/front.mjs";
import { buffer } from "../edge/bytes.mjs";
import { password, start, user } from "../edge/harness.mjs";
import { docker, missing, startDockerd } from "./dockerd.mjs";
import { skipFor, unpacked } from "./tools.mjs";

// A static program, so that the image needs nothing else.
const program = await unpacked("tini-static", "tini");
const skip = skipFor(missing, program.missing);

/** The longest step, in milliseconds: a client that waits for TLS to fail takes ten seconds. */
const STEP = 10_000;

describe("docker", { skip, timeout: 180_000 }, () => {
  let folder;
  let strata;
  let listener;
  let daemon;
  let reference;
  before(async () => {
    if (skip) return;
    folder = await mkdtemp(join(tmpdir(), "strata-docker-"));
    strata = await start({ probe: false });
    listener = await front({ host: "127.0.0.1", port: 0, target: async () => strata.url.port });
    daemon = await startDockerd(folder);
    reference = `127.0.0.1:${listener.address.port}/docker/app:v1`;
  });
  after(async () => {
    await daemon?.stop();
    listener?.stop();
    await strata?.stop();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  /** Runs a command of docker that must work, and returns its output. */
  async function must(args, options) {
    const { code, output, timedOut } = await run(docker, args, { env: daemon.env, limit: STEP, ...options });
    assert.ok(!timedOut, `docker ${args.join(" ")} took ${STEP / 1000} seconds: ${output}`);
    assert.equal(code, 0, `docker ${args.join(" ")}: ${output}`);
    return output;
  }

  test("signs in", async () => {
    const host = reference.split("/")[0];
    const secret = join(folder, "secret");
    await writeFile(secret, password);
    const signIn = `"$0" login --username ${user} --password-stdin ${host} < "$1"`;
    const { code, output, timedOut } = await run("sh", ["-c", signIn, docker, secret], {
      env: daemon.env,
      limit: STEP,
    });
    assert.ok(code === 0 && !timedOut, output);
    assert.match(output, /Login Succeeded/);
  });

  test("builds and pushes an image", async () => {
    const context = join(folder, "context");
    await mkdir(context);
    await copyFile(program.program, join(context, "tini"));
    await writeFile(join(context, "random"), buffer(12_000_000, "docker"));
    await writeFile(
      join(context, "Dockerfile"),
      'FROM scratch\nCOPY tini /tini\nCOPY random /random\nCMD ["/tini", "--version"]\n',
    );
    await must(["build", "--tag", reference, context]);
    assert.match(await must(["push", reference]), /v1: digest: sha256:[0-9a-f]{64}/);
  });

  test("pulls and runs the image", async () => {
    await must(["image", "rm", "--force", reference]);
    assert.match(await must(["pull", reference]), /Status: Downloaded newer image/);
    assert.match(await must(["run", "--rm", "--network=none", reference]), /^tini version/m);
  });

  test("pushes an image whose layers are there without sending them", async () => {
    const { body } = await strata.send("GET", "/metrics");
    const received = (text) => Number(/^strata_received_bytes_total (\d+)/m.exec(text)?.[1]);
    const other = reference.replace("app:v1", "other:v1");
    await must(["tag", reference, other]);
    assert.match(await must(["push", other]), /Mounted from docker\/app/);
    const after = received((await strata.send("GET", "/metrics")).body.toString());
    assert.ok(after - received(body.toString()) < 10_000);
  });
});
