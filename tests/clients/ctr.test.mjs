// containerd pushes and pulls by ctr, over plain HTTP, with a daemon for the tests alone.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { digestOf } from "../edge/bytes.mjs";
import { image, unavailable } from "../images/images.mjs";
import { treeOf } from "../images/tree.mjs";
import { credentials, must, setUp } from "./client.mjs";
import { assertMounted, assertSameBlobs } from "./compare.mjs";
import { ctr as program, missing, startContainerd } from "./containerd.mjs";
import { skipFor } from "./tools.mjs";

const skip = skipFor(missing, unavailable());

describe("ctr", { skip }, () => {
  const made = setUp("ctr", skip);
  let containerd;

  before(async () => {
    if (skip) return;
    containerd = await startContainerd(made.folder);
  });
  after(() => containerd?.stop());

  const at = (name) => `${made.strata.host}/${name}`;
  const ctr = (namespace, ...args) =>
    must(program, ["--address", containerd.socket, "--namespace", namespace, ...args]);
  const remote = ["--plain-http", `--user=${credentials}`];

  /** Imports an image from a tar, as another tool would export it. */
  const load = async (name, { layout, manifest }, reference) => {
    const tar = join(made.folder, `${name}.tar`);
    await must("tar", ["--create", `--file=${tar}`, `--directory=${layout}`, "."]);
    await ctr(
      "pusher",
      "images",
      "import",
      "--no-unpack",
      `--index-name=${name}`,
      "--digests",
      "--base-name=loaded",
      tar,
    );
    await ctr("pusher", "images", "tag", `loaded@${manifest.digest}`, reference);
  };
  /** Exports an image from a namespace. Returns the folder with its blobs. */
  const exportOf = async (namespace, reference) => {
    const [tar, folder] = [join(made.folder, `${namespace}.tar`), join(made.folder, namespace)];
    await ctr(namespace, "images", "export", tar, reference);
    await mkdir(folder);
    await must("tar", ["--extract", `--file=${tar}`, `--directory=${folder}`]);
    return folder;
  };

  for (const name of ["busybox", "files"]) {
    test(`${name} comes back as it was pushed`, async () => {
      const pushed = await image(name);
      const reference = at(`library/${name}:latest`);
      await load(name, pushed, reference);
      await ctr("pusher", "images", "push", ...remote, reference);
      const stored = await made.strata.send("GET", `/v2/library/${name}/manifests/latest`);
      assert.equal(digestOf(stored.body), pushed.manifest.digest);

      await ctr(`fetched-${name}`, "content", "fetch", ...remote, reference);
      await assertSameBlobs(pushed, await exportOf(`fetched-${name}`, reference));
    });
  }

  test("an image is pulled and unpacked into its files", async () => {
    const pushed = await image("busybox");
    const reference = at("unpacked/busybox:1");
    await load("unpacked", pushed, reference);
    await ctr("pusher", "images", "push", ...remote, reference);
    await ctr("unpacker", "images", "pull", ...remote, "--snapshotter=native", reference);
    const folder = join(made.folder, "unpacked");
    await mkdir(folder);
    await ctr("unpacker", "images", "mount", "--snapshotter=native", reference, folder);
    try {
      assert.deepEqual(await treeOf(folder), pushed.tree);
    } finally {
      await ctr("unpacker", "images", "unmount", folder);
    }
  });

  test("pushing again, there and into another repository, sends no blob", async () => {
    const pushed = await image("busybox");
    const [first, second] = [at("again/busybox:1"), at("again/other:1")];
    await load("again", pushed, first);
    await ctr("pusher", "images", "push", ...remote, first);
    await ctr("mounter", "content", "fetch", ...remote, first);
    await ctr("mounter", "images", "tag", first, second);
    await made.strata.reset();
    await ctr("pusher", "images", "push", ...remote, first);
    await ctr("mounter", "images", "push", ...remote, second);
    await assertMounted(made.strata);
    await ctr("mounted", "content", "fetch", ...remote, second);
    await assertSameBlobs(pushed, await exportOf("mounted", second));
  });
});
