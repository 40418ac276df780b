// skopeo, as Debian packages it, pushes and pulls real images over HTTPS.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { digestOf } from "../edge/bytes.mjs";
import { password, start, user } from "../edge/harness.mjs";
import { blobPath } from "../images/layout.mjs";
import { image, unavailable } from "../images/images.mjs";
import { smallImage } from "../images/small.mjs";
import { credentials, must } from "./client.mjs";
import { assertSameFiles, assertSameImage, blobsWritten, storedBytes } from "./compare.mjs";
import { packaged, skipFor } from "./tools.mjs";

const { program, missing } = await packaged("skopeo");
const skip = skipFor(missing, unavailable());

describe("skopeo", () => {
  let strata;
  let folder;

  before(async () => {
    if (skip) return;
    // skopeo tries TLS first, and would wait for a plain port.
    strata = await start({ https: true });
    folder = await mkdtemp(join(tmpdir(), "strata-skopeo-"));
  });
  after(async () => {
    await strata?.stop();
    if (folder) await rm(folder, { recursive: true });
  });

  const at = (name) => `docker://${strata.host}/${name}`;
  const skopeo = (...args) => run(program, ["--insecure-policy", ...args]);
  const push = (layout, name, creds = `${user}:${password}`) =>
    skopeo(
      "copy",
      "--preserve-digests",
      "--dest-tls-verify=false",
      `--dest-creds=${creds}`,
      `oci:${layout}:latest`,
      at(name),
    );
  const pull = (name, layout, creds = `${user}:${password}`) =>
    skopeo(
      "copy",
      "--preserve-digests",
      "--src-tls-verify=false",
      `--src-creds=${creds}`,
      at(name),
      `oci:${layout}:latest`,
    );

  for (const name of ["busybox", "files"]) {
    test(`${name} comes back as it was pushed`, { skip }, async () => {
      const pushed = await image(name);
      const { code, output } = await push(pushed.layout, `library/${name}:latest`);
      assert.equal(code, 0, output);

      const pulled = join(folder, name);
      const back = await pull(`library/${name}:latest`, pulled);
      assert.equal(back.code, 0, back.output);
      await assertSameImage(pushed, pulled);

      const files = join(folder, `${name}-files`);
      await mkdir(files);
      const layers = pushed.blobs.slice(1).map(({ digest }) => blobPath(pulled, digest));
      await assertSameFiles(pushed, layers, files);
    });
  }

  test("a second repository keeps no bytes of its own", { skip }, async () => {
    const { layout } = await image("busybox");
    assert.equal((await push(layout, "first/busybox:1")).code, 0);
    const before = await storedBytes(strata);
    const { code, output } = await push(layout, "second/busybox:1");
    assert.equal(code, 0, output);
    assert.equal(await storedBytes(strata), before);
    assert.equal((await pull("second/busybox:1", join(folder, "second"))).code, 0);
  });

  test("pushing an image again sends no blob", { skip }, async () => {
    const { layout } = await image("busybox");
    assert.equal((await push(layout, "again/busybox:1")).code, 0);
    await strata.reset();
    assert.equal((await push(layout, "again/busybox:1")).code, 0);
    const calls = await strata.calls();
    assert.deepEqual(
      calls.filter(({ key, bytes }) => /^(blobs|extents|uploads)\//.test(key) && bytes > 0),
      [],
    );
  });

  test("tags are listed and a reference inspected", { skip }, async () => {
    const { layout, manifest } = await image("busybox");
    for (const tag of ["1", "2"]) assert.equal((await push(layout, `tagged/busybox:${tag}`)).code, 0);
    const creds = ["--tls-verify=false", `--creds=${user}:${password}`];
    const tags = await skopeo("list-tags", ...creds, at("tagged/busybox"));
    assert.deepEqual(JSON.parse(tags.stdout).Tags, ["1", "2"], tags.output);
    const inspected = await skopeo("inspect", ...creds, at("tagged/busybox:1"));
    assert.equal(JSON.parse(inspected.stdout).Digest, manifest.digest, inspected.output);
  });

  const formats = {
    "Docker's format": {
      args: ["--format=v2s2"],
      types: [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
      ],
    },
    "layers of zstd": {
      args: ["--format=oci", "--dest-compress-format=zstd"],
      types: ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.layer.v1.tar+zstd"],
    },
  };
  for (const [index, [format, { args, types }]] of Object.entries(formats).entries()) {
    test(`an image in ${format} comes back as it was pushed`, { skip }, async () => {
      const name = `format/image${index}`;
      const work = join(folder, `format${index}`);
      const [plain, pulled] = [join(work, "plain"), join(work, "pulled")];
      // New, uncompressed layers: skopeo reuses the compressed form of a layer that it has seen.
      const { layout } = await smallImage(join(work, "image"), `format${index}`);
      await must(program, ["--insecure-policy", "copy", "--dest-decompress", `oci:${layout}:latest`, `dir:${plain}`]);
      const to = ["--dest-tls-verify=false", `--dest-creds=${credentials}`, ...args];
      await must(program, ["--insecure-policy", "copy", ...to, `dir:${plain}`, at(`${name}:1`)]);

      const manifest = await strata.send("GET", `/v2/${name}/manifests/1`);
      const { config, layers } = manifest.json();
      assert.deepEqual([manifest.headers["content-type"], layers[0].mediaType], types);
      const from = ["--preserve-digests", "--src-tls-verify=false", `--src-creds=${credentials}`];
      await must(program, ["--insecure-policy", "copy", ...from, at(`${name}:1`), `dir:${pulled}`]);
      assert.ok((await readFile(join(pulled, "manifest.json"))).equals(manifest.body));
      for (const { digest, size } of [config, ...layers]) {
        const blob = await readFile(join(pulled, digest.split(":")[1]));
        assert.deepEqual([digestOf(blob), blob.length], [digest, size]);
      }
    });
  }

  test("a copy into another repository keeps no bytes of its own", { skip }, async () => {
    const pushed = await image("busybox");
    assert.equal((await push(pushed.layout, "copied/from:1")).code, 0);
    const before = await storedBytes(strata);
    await strata.reset();
    const both = ["src", "dest"].flatMap((end) => [`--${end}-tls-verify=false`, `--${end}-creds=${credentials}`]);
    const { code, output } = await skopeo(
      "copy",
      "--preserve-digests",
      ...both,
      at("copied/from:1"),
      at("copied/to:1"),
    );
    assert.equal(code, 0, output);
    // skopeo mounts layers, but always sends the configuration.
    assert.ok((await blobsWritten(strata)).length <= 1);
    assert.equal(await storedBytes(strata), before);
    assert.equal((await pull("copied/to:1", join(folder, "copied"))).code, 0);
    await assertSameImage(pushed, join(folder, "copied"));
  });

  test("a deleted image is gone, and can be pushed again", { skip }, async () => {
    const pushed = await image("busybox");
    for (const tag of ["1", "2"]) assert.equal((await push(pushed.layout, `deleted/busybox:${tag}`)).code, 0);
    // skopeo deletes the manifest that the tag names.
    const gone = await skopeo("delete", "--tls-verify=false", `--creds=${user}:${password}`, at("deleted/busybox:1"));
    assert.equal(gone.code, 0, gone.output);
    for (const tag of ["1", "2"])
      assert.notEqual((await pull(`deleted/busybox:${tag}`, join(folder, "deleted"))).code, 0);
    assert.equal((await push(pushed.layout, "deleted/busybox:2")).code, 0);
    assert.equal((await pull("deleted/busybox:2", join(folder, "deleted-again"))).code, 0);
    await assertSameImage(pushed, join(folder, "deleted-again"));
  });

  test("a wrong password and an anonymous caller are refused as unauthorized", { skip }, async () => {
    const { layout } = await image("busybox");
    const wrong = await push(layout, "refused/busybox:1", `${user}:wrong`);
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.output, /unauthorized|authentication required|invalid username\/password/i);

    const nobody = await skopeo("inspect", "--no-creds", "--tls-verify=false", at("library/busybox:latest"));
    assert.notEqual(nobody.code, 0);
    assert.match(nobody.output, /unauthorized|authentication required/i);
    assert.deepEqual(await strata.objects("repositories/refused/"), []);
  });
});
