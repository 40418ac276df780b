// regctl copies, indexes, attaches, lists, deletes and exports over plain HTTP.
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { buffer } from "../edge/bytes.mjs";
import { blobPath, writeLayout } from "../images/layout.mjs";
import { image, unavailable } from "../images/images.mjs";
import { smallImage } from "../images/small.mjs";
import { treeOf } from "../images/tree.mjs";
import { must, setUp } from "./client.mjs";
import { assertMounted, assertSameBlobs, assertSameImage, blobsWritten } from "./compare.mjs";
import { compiled, skipFor } from "./tools.mjs";

const { program, missing } = await compiled("regctl");
const skip = skipFor(missing, unavailable());
/** The announced chunk, in bytes. */
const CHUNK = 8 * 1024 * 1024;

describe("regctl", { skip }, () => {
  const made = setUp("regctl", skip);
  let small;

  before(async () => {
    if (skip) return;
    await regctl("registry", "set", made.strata.host, "--tls=disabled", "--skip-check");
    small = Object.fromEntries(
      await Promise.all(["amd64", "arm64"].map(async (one) => [one, await smallImage(join(made.folder, one), one)])),
    );
  });

  const at = (name) => `${made.strata.host}/${name}`;
  const regctl = (...args) => regctlWith("regctl.json", ...args);
  const regctlWith = (config, ...args) =>
    must(program, args, { env: { DOCKER_CONFIG: made.docker, REGCTL_CONFIG: join(made.folder, config) } });
  const push = ({ layout }, name) => regctl("image", "copy", `ocidir://${layout}:latest`, at(name));
  const pull = async (name, folder) => {
    const layout = join(made.folder, folder);
    await regctl("image", "copy", "--referrers", at(name), `ocidir://${layout}:latest`);
    return layout;
  };

  test("an image comes back as it was pushed", async () => {
    const pushed = await image("busybox");
    await push(pushed, "library/busybox:latest");
    assert.equal((await regctl("image", "digest", at("library/busybox:latest"))).trim(), pushed.manifest.digest);
    await assertSameImage(pushed, await pull("library/busybox:latest", "pulled"));
  });

  test("an image comes back as it was pushed in chunks of the announced size", async () => {
    // An image of its own: a client does not send blobs that the registry has.
    const stage = join(made.folder, "large");
    await mkdir(stage);
    await writeFile(join(stage, "random"), buffer(18_000_000, "chunks"));
    const layout = join(made.folder, "large-layout");
    const pushed = { layout, tree: await treeOf(stage), ...(await writeLayout(layout, [stage])) };
    // Smaller ones are asked for, and OCI-Chunk-Min-Length raises them.
    const chunked = ["--tls=disabled", "--skip-check", "--blob-chunk=7000", "--blob-max=1"];
    await regctlWith("chunked.json", "registry", "set", made.strata.host, ...chunked);
    await made.strata.reset();
    await regctlWith("chunked.json", "image", "copy", `ocidir://${layout}:latest`, at("chunked/image:1"));
    const extents = new Set((await blobsWritten(made.strata)).filter((key) => key.startsWith("extents/")));
    assert.equal(
      extents.size,
      pushed.blobs.reduce((sum, { size }) => sum + Math.ceil(size / CHUNK), 0),
    );
    await assertSameImage(pushed, await pull("chunked/image:1", "chunked"));
  });

  test("a copy into another repository mounts every blob", async () => {
    await push(small.amd64, "copied/from:1");
    await made.strata.reset();
    await regctl("image", "copy", at("copied/from:1"), at("copied/to:1"));
    await assertMounted(made.strata);
    await assertSameImage(small.amd64, await pull("copied/to:1", "copied"));
  });

  test("an index of two images comes back with both", async () => {
    for (const [architecture, one] of Object.entries(small)) await push(one, `multi/image:${architecture}`);
    const refs = Object.keys(small).map((architecture) => `--ref=${at(`multi/image:${architecture}`)}`);
    await regctl("index", "create", at("multi/image:all"), ...refs);
    const index = JSON.parse(await regctl("manifest", "get", "--format=raw-body", at("multi/image:all")));
    assert.deepEqual(
      index.manifests.map(({ digest, platform }) => [platform.architecture, digest]),
      Object.entries(small).map(([architecture, { manifest }]) => [architecture, manifest.digest]),
    );

    const pulled = await pull("multi/image:all", "multi");
    for (const one of Object.values(small)) await assertSameBlobs(one, pulled);
    const digest = (await regctl("image", "digest", "--platform=linux/arm64", at("multi/image:all"))).trim();
    assert.equal(digest, small.arm64.manifest.digest);

    await made.strata.reset();
    await regctl("image", "copy", at("multi/image:all"), at("multi/copy:all"));
    await assertMounted(made.strata);
  });

  test("artifacts are attached, listed by type, and come back", async () => {
    await push(small.amd64, "attached/image:1");
    const subject = at("attached/image:1");
    const types = ["application/vnd.example.sbom", "application/vnd.example.signature"];
    for (const type of types) {
      const file = join(made.folder, type.split(".").at(-1));
      await writeFile(file, `what ${type} says`);
      const described = [`--artifact-type=${type}`, `--subject=${subject}`, "--annotation=made=here"];
      await regctl("artifact", "put", ...described, `--file=${file}`);
    }
    const list = async (...args) =>
      JSON.parse(await regctl("artifact", "list", "--format=raw-body", ...args, subject)).manifests;
    assert.deepEqual((await list()).map(({ artifactType }) => artifactType).sort(), types);
    const [found, ...more] = await list(`--filter-artifact-type=${types[1]}`);
    assert.deepEqual(more, []);
    assert.equal(found.annotations.made, "here");
    assert.equal(await regctl("artifact", "get", at(`attached/image@${found.digest}`)), `what ${types[1]} says`);

    // Only the list of referrers has them: no tag was made for it.
    assert.deepEqual((await regctl("tag", "ls", at("attached/image"))).trim().split("\n"), ["1"]);
  });

  test("repositories and tags are listed, a page at a time too", async () => {
    for (const name of ["listed/a:2", "listed/a:10", "listed/b:1"]) await push(small.amd64, name);
    const repositories = (await regctl("repo", "ls", made.strata.host)).trim().split("\n");
    assert.deepEqual(
      repositories.filter((name) => name.startsWith("listed/")),
      ["listed/a", "listed/b"],
    );
    assert.deepEqual((await regctl("tag", "ls", at("listed/a"))).trim().split("\n"), ["10", "2"]);
    assert.equal((await regctl("repo", "ls", "--limit=1", "--last=listed/a", made.strata.host)).trim(), "listed/b");
  });

  test("a tag that is deleted leaves the manifest, which takes its tags with it", async () => {
    for (const tag of ["1", "2", "3"]) await push(small.amd64, `deleted/image:${tag}`);
    const tags = async () => (await regctl("tag", "ls", at("deleted/image"))).trim().split("\n").filter(Boolean);
    const byDigest = at(`deleted/image@${small.amd64.manifest.digest}`);
    await regctl("tag", "rm", at("deleted/image:2"));
    assert.deepEqual(await tags(), ["1", "3"]);
    await regctl("manifest", "head", byDigest);

    await regctl("manifest", "rm", byDigest);
    assert.deepEqual(await tags(), []);
    const gone = await made.strata.send("GET", `/v2/deleted/image/manifests/${small.amd64.manifest.digest}`);
    assert.equal(gone.status, 404);
    await push(small.amd64, "deleted/image:2");
    await assertSameImage(small.amd64, await pull("deleted/image:2", "again"));
  });

  test("an export holds the blobs as they were pushed", async () => {
    await push(small.amd64, "exported/image:1");
    const [tar, exported] = [join(made.folder, "exported.tar"), join(made.folder, "exported")];
    await regctl("image", "export", at("exported/image:1"), tar);
    await mkdir(exported);
    await must("tar", ["--extract", `--file=${tar}`, `--directory=${exported}`]);
    await assertSameBlobs(small.amd64, exported);
    const manifest = await readFile(blobPath(small.amd64.layout, small.amd64.manifest.digest), "utf8");
    assert.equal(await regctl("manifest", "get", "--format=raw-body", at("exported/image:1")), manifest);
  });
});
