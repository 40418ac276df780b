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
import { Journal, Registry, serve } from "../../relay/relay.mjs";
import { startEdge } from "../relay/edge.mjs";
import { docker, missing, startDockerd } from "./dockerd.mjs";
import { skipFor, unpacked } from "./tools.mjs";

// A static program, so that the image needs nothing else.
const program = await unpacked("tini-static", "tini");
const skip = skipFor(missing, program.missing);

/** The longest step, in milliseconds: a client that waits for TLS to fail takes ten seconds. */
const STEP = 10_000;

/** The timeout of steps that do more than that, on a busy machine. */
const LONG = 60_000;

/** The edge's limit of request bodies, and the relay's chunk. The image's layer is larger. */
const [LIMIT, CHUNK] = [8_000_000, 5_000_000];

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

  /** Signs in to a host. */
  async function signIn(host) {
    const secret = join(folder, "secret");
    await writeFile(secret, password);
    const login = `"$0" login --username ${user} --password-stdin ${host} < "$1"`;
    const { code, output, timedOut } = await run("sh", ["-c", login, docker, secret], { env: daemon.env, limit: STEP });
    assert.ok(code === 0 && !timedOut, output);
    assert.match(output, /Login Succeeded/);
  }

  test("signs in", () => signIn(reference.split("/")[0]));

  test("builds and pushes an image", async () => {
    const context = join(folder, "context");
    await mkdir(context);
    await copyFile(program.program, join(context, "tini"));
    await writeFile(join(context, "random"), buffer(12_000_000, "docker"));
    await writeFile(
      join(context, "Dockerfile"),
      'FROM scratch\nCOPY tini /tini\nCOPY random /random\nCMD ["/tini", "--version"]\n',
    );
    await must(["build", "--tag", reference, context], { limit: LONG });
    assert.match(await must(["push", reference], { limit: LONG }), /v1: digest: sha256:[0-9a-f]{64}/);
  });

  test("pulls and runs the image", async () => {
    await must(["image", "rm", "--force", reference]);
    assert.match(await must(["pull", reference]), /Status: Downloaded newer image/);
    const started = await must(["run", "--rm", "--network=none", reference], { limit: LONG });
    assert.match(started, /^tini version/m);
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

  test("pushes a layer above the edge's limit through the relay", async () => {
    const edge = await startEdge({ origin: strata.url, limit: LIMIT });
    const relay = await serve({
      registry: new Registry(edge.url.origin, {}),
      journal: new Journal(join(folder, "journal")),
      chunk: CHUNK,
      blobs: 4,
      port: 0,
      say: () => {},
    });
    try {
      await signIn(`localhost:${relay.port}`);
      const relayed = `localhost:${relay.port}/relayed/app:v1`;
      await must(["tag", reference, relayed]);
      const [, digest] = /v1: digest: (sha256:[0-9a-f]{64})/.exec(await must(["push", relayed], { limit: LONG })) ?? [];
      assert.equal(edge.refusals, 0);
      assert.ok(edge.requests.some(({ bytes }) => bytes === CHUNK));
      const direct = await strata.send("HEAD", "/v2/relayed/app/manifests/v1");
      assert.deepEqual([direct.status, direct.headers["docker-content-digest"]], [200, digest]);
    } finally {
      await relay.stop();
      await edge.stop();
    }
  });
});
