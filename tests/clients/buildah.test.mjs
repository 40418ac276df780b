// buildah builds from scratch and from a pulled image, without running anything, and pushes over
// HTTPS.
import assert from "node:assert/strict";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { digestOf } from "../edge/bytes.mjs";
import { image, unavailable } from "../images/images.mjs";
import { treeOf } from "../images/tree.mjs";
import { credentials, must, setUp } from "./client.mjs";
import { blobsWritten } from "./compare.mjs";
import { packaged, skipFor } from "./tools.mjs";

const { program, missing } = await packaged("buildah");
const notRoot = process.getuid() === 0 ? undefined : "buildah needs root to own the files of an image";
const skip = skipFor(missing, unavailable(), notRoot);

describe("buildah", { skip }, () => {
  const made = setUp("buildah", skip, { https: true });
  let policy;

  before(async () => {
    if (skip) return;
    policy = `--signature-policy=${join(made.folder, "policy.json")}`;
    await writeFile(
      join(made.folder, "policy.json"),
      JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }),
    );
  });

  const at = (name) => `docker://${made.strata.host}/${name}`;
  /**
   * Returns buildah with storage of its own, so that each of the two has to pull the other's
   * images.
   */
  const buildahOf =
    (who) =>
    async (...args) => {
      const folders = ["root", "runroot"].map((kind) => `--${kind}=${join(made.folder, who, kind)}`);
      const storage = [...folders, "--storage-driver=vfs"];
      return (await must(program, [...storage, ...args])).trim();
    };
  const remote = () => ["--tls-verify=false", `--creds=${credentials}`, policy];
  const [builder, reader] = [buildahOf("builder"), buildahOf("reader")];

  /** Pushes an image, and returns the registry's reply with its manifest. */
  const push = async (buildah, name, target, ...args) => {
    const file = join(made.folder, "digest");
    await buildah("push", ...remote(), ...args, `--digestfile=${file}`, name, at(target));
    const digest = await readFile(file, "utf8");
    const reply = await made.strata.send("GET", `/v2/${target.split(":")[0]}/manifests/${digest}`);
    assert.equal(reply.status, 200, reply.body.toString());
    assert.equal(digestOf(reply.body), digest);
    return reply;
  };
  /** Returns the files of an image, as a container of it sees them. */
  const filesOf = async (buildah, name) =>
    treeOf(await buildah("mount", await buildah("from", policy, "--pull-never", name)));

  test("an image built from nothing comes back with its files", async () => {
    const files = join(made.folder, "files");
    await mkdir(join(files, "folder"), { recursive: true });
    await writeFile(join(files, "folder/program"), "#!/bin/sh\n");
    await chmod(join(files, "folder/program"), 0o755);

    const container = await builder("from", "scratch");
    await builder("add", container, files, "/");
    await builder("config", "--cmd", "/folder/program", container);
    await builder("commit", policy, container, "built");
    const pushed = await push(builder, "built", "built/image:1");
    assert.equal(pushed.headers["content-type"], "application/vnd.oci.image.manifest.v1+json");

    const id = await reader("pull", ...remote(), at("built/image:1"));
    assert.equal(`sha256:${id}`, pushed.json().config.digest);
    assert.deepEqual(await filesOf(reader, id), await filesOf(builder, "built"));
  });

  test("an image built on one of the registry sends only new blobs", async () => {
    const { layout, blobs, tree } = await image("busybox");
    const base = await builder("pull", policy, `oci:${layout}:latest`);
    const first = await push(builder, base, "base/busybox:1");
    // buildah compresses layers again, but the configuration names their uncompressed bytes.
    assert.equal(first.json().config.digest, blobs[0].digest);

    const id = await reader("pull", ...remote(), at("base/busybox:1"));
    assert.deepEqual(await filesOf(reader, id), tree);
    const container = await reader("from", policy, "--pull-never", id);
    await writeFile(join(made.folder, "new"), "new\n");
    await reader("add", container, join(made.folder, "new"), "/new");
    await reader("commit", policy, container, "derived");
    await made.strata.reset();
    const pushed = await push(reader, "derived", "base/derived:1");
    const layers = (reply) => reply.json().layers.map(({ digest }) => digest);
    assert.deepEqual(layers(pushed).slice(0, -1), layers(first));
    // The new layer and the configuration, and nothing of the base.
    const written = (await blobsWritten(made.strata)).filter((key) => key.startsWith("blobs/"));
    const expected = [pushed.json().config.digest, layers(pushed).at(-1)].map((digest) => digest.split(":")[1]);
    assert.deepEqual(written.map((key) => key.split("/").at(-1)).sort(), expected.sort());
  });

  test("an image goes in Docker's format and comes back", async () => {
    const container = await builder("from", "scratch");
    await writeFile(join(made.folder, "docker-file"), "docker\n");
    await builder("add", container, join(made.folder, "docker-file"), "/file");
    await builder("commit", policy, "--format=docker", container, "docker");
    const pushed = await push(builder, "docker", "docker/image:1", "--format=v2s2");
    assert.equal(pushed.headers["content-type"], "application/vnd.docker.distribution.manifest.v2+json");
    const id = await reader("pull", ...remote(), at("docker/image:1"));
    assert.equal(`sha256:${id}`, pushed.json().config.digest);
    assert.deepEqual(await filesOf(reader, id), await filesOf(builder, "docker"));
  });
});
