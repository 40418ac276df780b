// crane pushes and pulls real images over plain HTTP.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { password, start, user } from "../edge/harness.mjs";
import { blobPath } from "../images/layout.mjs";
import { image, unavailable } from "../images/images.mjs";
import { smallImage } from "../images/small.mjs";
import { assertMounted, assertSameFiles, assertSameImage, storedBytes } from "./compare.mjs";
import { compiled, skipFor } from "./tools.mjs";

const { program, missing } = await compiled("crane");
const skip = skipFor(missing, unavailable());

describe("crane", () => {
  let strata;
  let folder;

  before(async () => {
    if (skip) return;
    strata = await start();
    folder = await mkdtemp(join(tmpdir(), "strata-crane-"));
    for (const [name, secret] of [
      ["good", password],
      ["wrong", "wrong"],
      ["nobody", undefined],
    ]) {
      await mkdir(join(folder, name));
      const auth = Buffer.from(`${user}:${secret}`).toString("base64");
      const auths = secret === undefined ? {} : { [strata.host]: { auth } };
      await writeFile(join(folder, name, "config.json"), JSON.stringify({ auths }));
    }
  });
  after(async () => {
    await strata?.stop();
    if (folder) await rm(folder, { recursive: true });
  });

  const at = (name) => `${strata.host}/${name}`;
  const craneAs = (who, ...args) => run(program, args, { env: { DOCKER_CONFIG: join(folder, who) } });
  /** Runs a command that must work, and returns its output. */
  const crane = async (...args) => {
    const { code, stdout, output } = await craneAs("good", ...args);
    assert.equal(code, 0, `crane ${args[0]}: ${output}`);
    return stdout;
  };

  for (const name of ["busybox", "files"]) {
    test(`${name} comes back as it was pushed`, { skip }, async () => {
      const pushed = await image(name);
      const reference = at(`library/${name}:latest`);
      await crane("push", pushed.layout, reference);
      assert.equal((await crane("digest", reference)).trim(), pushed.manifest.digest);
      const manifest = await readFile(blobPath(pushed.layout, pushed.manifest.digest), "utf8");
      assert.equal(await crane("manifest", reference), manifest);
      await crane("validate", "--remote", reference);

      const pulled = join(folder, `${name}-pulled`);
      await crane("pull", "--format=oci", reference, pulled);
      await assertSameImage(pushed, pulled);

      const [tar, files] = [join(folder, `${name}.tar`), join(folder, `${name}-files`)];
      await crane("export", reference, tar);
      await mkdir(files);
      await assertSameFiles(pushed, [tar], files);
    });
  }

  test("a second repository keeps no bytes of its own, pushed or copied", { skip }, async () => {
    const { layout, manifest } = await image("busybox");
    await crane("push", layout, at("first/busybox:1"));
    const before = await storedBytes(strata);
    await crane("push", layout, at("second/busybox:1"));
    assert.equal(await storedBytes(strata), before);

    await strata.reset();
    await crane("copy", at("first/busybox:1"), at("third/busybox:1"));
    await assertMounted(strata);
    assert.equal((await crane("digest", at("third/busybox:1"))).trim(), manifest.digest);
  });

  test("tags are listed", { skip }, async () => {
    const { layout } = await image("busybox");
    await crane("push", layout, at("tagged/busybox:b"));
    await crane("tag", at("tagged/busybox:b"), "a");
    assert.deepEqual((await crane("ls", at("tagged/busybox"))).trim().split("\n"), ["a", "b"]);
  });

  test("repositories are listed, and a deleted tag and manifest are gone", { skip }, async () => {
    const { layout, manifest } = await image("busybox");
    for (const tag of ["1", "2"]) await crane("push", layout, at(`deleted/busybox:${tag}`));
    assert.match(await crane("catalog", strata.host), /^deleted\/busybox$/m);
    await crane("delete", at("deleted/busybox:1"));
    assert.equal((await crane("ls", at("deleted/busybox"))).trim(), "2");
    await crane("delete", at(`deleted/busybox@${manifest.digest}`));
    assert.equal((await crane("ls", at("deleted/busybox"))).trim(), "");
    assert.notEqual((await craneAs("good", "manifest", at("deleted/busybox:2"))).code, 0);
  });

  test("an index of two images is made and validates", { skip }, async () => {
    const small = {};
    for (const one of ["amd64", "arm64"]) {
      small[one] = await smallImage(join(folder, one), one);
      await crane("push", small[one].layout, at(`multi/image:${one}`));
    }
    const manifests = Object.keys(small).flatMap((one) => ["--manifest", at(`multi/image:${one}`)]);
    await crane("index", "append", ...manifests, "--tag", at("multi/image:all"));
    await crane("validate", "--remote", at("multi/image:all"));
    for (const [one, { manifest }] of Object.entries(small)) {
      assert.equal((await crane("digest", `--platform=linux/${one}`, at("multi/image:all"))).trim(), manifest.digest);
    }
  });

  test("a wrong password and an anonymous caller are refused as unauthorized", { skip }, async () => {
    const { layout } = await image("busybox");
    await crane("push", layout, at("private/busybox:1"));
    for (const who of ["wrong", "nobody"]) {
      for (const args of [
        ["manifest", at("private/busybox:1")],
        ["push", layout, at("refused/busybox:1")],
      ]) {
        const { code, output } = await craneAs(who, ...args);
        assert.notEqual(code, 0, `${who} may ${args[0]}`);
        assert.match(output, /unauthorized/i);
      }
    }
    assert.deepEqual(await strata.objects("repositories/refused/"), []);
  });
});
