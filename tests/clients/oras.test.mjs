// oras pushes files, attaches artifacts to them and discovers these, over plain HTTP.
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { buffer } from "../edge/bytes.mjs";
import { smallImage } from "../images/small.mjs";
import { must, setUp } from "./client.mjs";
import { assertMounted, assertSameImage } from "./compare.mjs";
import { compiled, skipFor } from "./tools.mjs";

const { program, missing } = await compiled("oras");
const skip = skipFor(missing);
const SBOM = "application/vnd.example.sbom";
const SIGNATURE = "application/vnd.example.signature";

describe("oras", { skip }, () => {
  const made = setUp("oras", skip);
  const files = {
    "words.txt": Buffer.from("some words"),
    "noise.bin": buffer(6 << 20, "oras"),
    "empty.txt": Buffer.alloc(0),
  };
  let work;

  before(async () => {
    if (skip) return;
    work = join(made.folder, "work");
    await mkdir(work);
    for (const [name, content] of Object.entries(files)) await writeFile(join(work, name), content);
  });

  const at = (name) => `${made.strata.host}/${name}`;
  // oras names files by their path, and refuses absolute paths.
  const oras = (...args) => must(program, args, { cwd: work, env: { DOCKER_CONFIG: made.docker } });
  const push = (name) =>
    oras("push", "--plain-http", "--artifact-type=application/vnd.example.files", at(name), ...Object.keys(files));
  const attach = async (name, type, file) =>
    JSON.parse(await oras("attach", "--plain-http", "--format=json", `--artifact-type=${type}`, name, file)).digest;
  const discover = async (name, ...args) =>
    JSON.parse(await oras("discover", "--plain-http", "--format=json", ...args, name)).manifests.map(
      ({ digest }) => digest,
    );

  test("files come back as they were pushed", async () => {
    await push("files/artifact:1");
    const pulled = join(made.folder, "pulled");
    await oras("pull", "--plain-http", `--output=${pulled}`, at("files/artifact:1"));
    for (const [name, content] of Object.entries(files)) {
      assert.ok((await readFile(join(pulled, name))).equals(content), `${name} came back different`);
    }
  });

  test("attached artifacts are discovered, by type and through all levels", async () => {
    await push("attached/artifact:1");
    const subject = at("attached/artifact:1");
    const sbom = await attach(subject, SBOM, "words.txt");
    const signature = await attach(subject, SIGNATURE, "noise.bin");
    const second = await attach(at(`attached/artifact@${sbom}`), SIGNATURE, "words.txt");
    assert.deepEqual((await discover(subject)).sort(), [sbom, signature].sort());
    assert.deepEqual(await discover(subject, `--artifact-type=${SBOM}`), [sbom]);
    assert.deepEqual(await discover(subject, "--artifact-type=application/vnd.example.other"), []);
    const tree = await oras("discover", "--plain-http", "--format=tree", subject);
    for (const digest of [sbom, signature, second]) assert.ok(tree.includes(digest), tree);
    // The registry lists referrers itself, so oras made no tag for them.
    assert.deepEqual((await oras("repo", "tags", "--plain-http", at("attached/artifact"))).trim().split("\n"), ["1"]);
  });

  test("a copy with all attached artifacts mounts every blob", async () => {
    await push("copied/from:1");
    const sbom = await attach(at("copied/from:1"), SBOM, "words.txt");
    await made.strata.reset();
    await oras("cp", "--recursive", "--from-plain-http", "--to-plain-http", at("copied/from:1"), at("copied/to:1"));
    await assertMounted(made.strata);
    assert.deepEqual(await discover(at("copied/to:1")), [sbom]);
  });

  test("an image goes from layout to registry to layout as it was", async () => {
    const small = await smallImage(join(made.folder, "small"));
    const pulled = join(made.folder, "layout");
    await oras("cp", "--from-oci-layout", "--to-plain-http", `${small.layout}:latest`, at("layout/image:1"));
    await oras("cp", "--from-plain-http", "--to-oci-layout", at("layout/image:1"), `${pulled}:latest`);
    await assertSameImage(small, pulled);
  });

  test("repositories are listed, and a deleted artifact is gone from the referrers of its subject", async () => {
    await push("deleted/artifact:1");
    const subject = at("deleted/artifact:1");
    assert.match(await oras("repo", "ls", "--plain-http", made.strata.host), /^deleted\/artifact$/m);
    const digests = [await attach(subject, SBOM, "words.txt"), await attach(subject, SIGNATURE, "words.txt")];
    await oras("manifest", "delete", "--plain-http", "--force", at(`deleted/artifact@${digests[0]}`));
    assert.deepEqual(await discover(subject), [digests[1]]);
  });
});
