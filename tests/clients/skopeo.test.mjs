// skopeo pushes and pulls real images over https, as Debian packages it.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { password, start, user } from "../edge/harness.mjs";
import { blobPath } from "../images/layout.mjs";
import { image, unavailable } from "../images/images.mjs";
import { assertSameFiles, assertSameImage, storedBytes } from "./compare.mjs";
import { skipFor, skopeo as find } from "./tools.mjs";

const { program, missing } = await find();
const skip = skipFor(missing, unavailable());

describe("skopeo", () => {
  let strata;
  let folder;

  before(async () => {
    if (skip) return;
    // skopeo tries TLS first, and a plain port would keep it waiting.
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
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", `--dest-creds=${creds}`, `oci:${layout}:latest`, at(name));
  const pull = (name, layout, creds = `${user}:${password}`) =>
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", `--src-creds=${creds}`, at(name), `oci:${layout}:latest`);

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

  test("pushing again what is there sends no blob", { skip }, async () => {
    const { layout } = await image("busybox");
    assert.equal((await push(layout, "again/busybox:1")).code, 0);
    await strata.reset();
    assert.equal((await push(layout, "again/busybox:1")).code, 0);
    const calls = await strata.calls();
    assert.deepEqual(calls.filter(({ key, bytes }) => /^(blobs|extents|uploads)\//.test(key) && bytes > 0), []);
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

  test("a wrong password and nobody are refused, and told so", { skip }, async () => {
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
