// umoci unpacks an image of real packages, and the registry shows the same files, path by path.
import assert from "node:assert/strict";
import {
  chmod,
  chown,
  link,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { digestOf } from "../edge/bytes.mjs";
import { start } from "../edge/harness.mjs";
import { whole } from "../edge/push.mjs";
import { stagesOf, unavailable } from "../images/images.mjs";
import { blobPath, writeLayout } from "../images/layout.mjs";
import { must } from "./client.mjs";
import { skipFor, unpacked } from "./tools.mjs";

const { program, missing } = await unpacked("umoci", "umoci");
const skip = skipFor(missing, unavailable());
// Only root can change owners. Otherwise all unpacked files are the user's.
const isRoot = process.getuid() === 0;
const rootless = isRoot ? [] : ["--rootless"];

const name = "umoci/image";

describe("umoci", { skip }, () => {
  let strata;
  let folder;
  let manifest;
  let expected;
  let shown;

  before(async () => {
    if (skip) return;
    folder = await mkdtemp(join(tmpdir(), "strata-umoci-"));
    const layout = join(folder, "layout");
    await build(layout);
    await must(program, ["unpack", ...rootless, "--image", `${layout}:latest`, join(folder, "bundle")]);
    strata = await start();
    manifest = await push(layout);
    expected = await walk(join(folder, "bundle/rootfs"));
    shown = await list("");
  });
  after(async () => {
    await strata?.stop();
    if (folder) await rm(folder, { recursive: true });
  });

  /**
   * Builds layers of packages by GNU tar, and layers with changes to them by umoci, which is in Go.
   */
  async function build(layout) {
    const stages = await stagesOf(folder, [
      { packages: ["busybox-static", "tzdata"] },
      { packages: ["vim-runtime"] },
      { packages: ["git"] },
    ]);
    const [base, , top] = stages;
    await odd(base);
    // Entries that replace, hide and restore paths within one layer of GNU tar.
    await mkdir(join(top, "odd/opaque"), { recursive: true });
    await writeFile(join(top, "odd/opaque/.wh..wh..opq"), "");
    await writeFile(join(top, "odd/opaque/new"), "new\n");
    await writeFile(join(top, "odd/.wh.removed"), "");
    await writeFile(join(top, "odd/.wh.never-there"), "");
    await writeFile(join(top, "odd/linked"), "another file than what was linked\n");
    await writeFile(join(top, "odd/was-a-folder"), "a file\n");
    await mkdir(join(top, "odd/was-a-file"));
    await writeFile(join(top, "odd/was-a-file/within"), "within\n");
    await symlink("was-a-file", join(top, "odd/was-a-link"));
    await writeLayout(layout, stages, { tar: ["--format=pax", "--numeric-owner", "--sort=name"] });

    const image = ["--image", `${layout}:latest`];
    const stage = join(folder, "inserted");
    await mkdir(join(stage, "folder"), { recursive: true });
    await writeFile(join(stage, "folder/inserted"), "inserted\n");
    await link(join(stage, "folder/inserted"), join(stage, "folder/another"));
    const zones = "/usr/share/zoneinfo";
    await must(program, ["insert", ...rootless, ...image, "--whiteout", `${zones}/Europe`]);
    await must(program, ["insert", ...rootless, ...image, "--whiteout", `${zones}/UTC`]);
    await must(program, ["insert", ...rootless, ...image, "--opaque", join(stage, "folder"), `${zones}/America`]);
    await must(program, ["insert", ...rootless, ...image, join(stage, "folder"), "/odd/inserted"]);
    // This restores a hidden directory.
    await must(program, ["insert", ...rootless, ...image, join(stage, "folder"), `${zones}/Europe`]);
  }

  /** Writes files with odd names, modes, owners, times and links. */
  async function odd(stage) {
    const at = (path) => join(stage, "odd", path);
    await mkdir(at("opaque/deep"), { recursive: true });
    await mkdir(at("was-a-folder/deep"), { recursive: true });
    for (const path of [
      "opaque/old",
      "opaque/deep/old",
      "was-a-folder/deep/old",
      "removed",
      "was-a-file",
      "linked",
      "empty",
      "ä\u{1f980} #%?",
      "times",
    ]) {
      await writeFile(at(path), path === "empty" ? "" : `${path}\n`);
    }
    await link(at("linked"), at("link-to-linked"));
    await symlink("../../etc/no such", at("was-a-link"));
    await symlink("/odd/linked", at("absolute"));
    await writeFile(at("x".repeat(200)), "a long name\n");
    await chmod(at("times"), 0o4755);
    await chmod(at("opaque"), 0o1777);
    await chmod(at("removed"), 0o600);
    if (isRoot) await chown(at("times"), 1234, 3_000_000);
    await utimes(at("times"), 1, 1_234_567_890.123456);
    await lutimes(at("absolute"), 1, 1_000_000_000.5);
  }

  /** Pushes an image from a layout. Returns its digest and layers. */
  async function push(layout) {
    const { manifests } = JSON.parse(await readFile(join(layout, "index.json"), "utf8"));
    const [{ digest, mediaType }] = manifests;
    const body = await readFile(blobPath(layout, digest));
    const { config, layers } = JSON.parse(body.toString());
    for (const blob of [config, ...layers]) {
      const reply = await whole(strata, name, blob.digest, await readFile(blobPath(layout, blob.digest)));
      assert.equal(reply.status, 201, reply.body.toString());
    }
    const reply = await strata.send("PUT", `/v2/${name}/manifests/latest`, {
      body,
      headers: { "content-type": mediaType },
    });
    assert.equal(reply.status, 201, reply.body.toString());
    return { digest, layers };
  }

  const addressOf = (path) =>
    `/v2/${name}/_strata/images/${manifest.digest}/files/${path.split("/").map(encodeURIComponent).join("/")}`;

  /** Returns all that the registry shows below a directory, page by page. */
  async function list(directory, found = new Map()) {
    for (let address = addressOf(directory); address; ) {
      const reply = await strata.send("GET", address);
      assert.equal(reply.status, 200, `${directory}: ${reply.body}`);
      for (const child of reply.json().children) {
        found.set(directory + child.name, child);
        if (child.type === "directory") await list(`${directory}${child.name}/`, found);
      }
      [, address] = /<(.*)>; rel="next"/.exec(reply.headers.link ?? "") ?? [];
    }
    return found;
  }

  /** Returns the entries of a folder in the registry's format. */
  async function walk(root, directory = "", found = new Map()) {
    for (const name of await readdir(join(root, directory))) {
      const path = directory + name;
      const stat = await lstat(join(root, path), { bigint: true });
      const type = stat.isDirectory() ? "directory" : stat.isSymbolicLink() ? "symlink" : "file";
      const nanoseconds = stat.mtimeNs % 1_000_000_000n;
      found.set(path, {
        type,
        mode: Number(stat.mode & 0o7777n),
        ...(isRoot && { uid: Number(stat.uid), gid: Number(stat.gid) }),
        modified: `${stat.mtimeNs / 1_000_000_000n}${nanoseconds > 0n ? `.${String(nanoseconds).padStart(9, "0")}` : ""}`,
        ...(type === "file" && { size: Number(stat.size) }),
        ...(type === "symlink" && { link: await readlink(join(root, path)) }),
      });
      if (type === "directory") await walk(root, `${path}/`, found);
    }
    return found;
  }

  test("made an image of many layers, of two writers of gzip", () => {
    assert.ok(manifest.layers.length >= 8, `${manifest.layers.length} layers`);
    assert.ok(expected.size > 2000, `${expected.size} paths`);
  });

  test("and the registry show the same paths", () => {
    assert.deepEqual([...shown.keys()].sort(), [...expected.keys()].sort());
  });

  test("and the registry show the same attributes of each path", async () => {
    const different = [];
    for (const [path, there] of expected) {
      const child = shown.get(path);
      const here = Object.fromEntries(Object.keys(there).map((key) => [key, child[key]]));
      // A hard link is the file that was there when the link was written. Its entry has all facts
      // about that file but the size.
      if (child.type === "hardlink") {
        const reply = await strata.send("HEAD", addressOf(path));
        assert.equal(reply.status, 200, path);
        Object.assign(here, { type: "file", size: Number(reply.headers["content-length"]) });
      }
      try {
        assert.deepEqual(here, there);
      } catch {
        different.push({ path, umoci: there, registry: here });
      }
    }
    assert.deepEqual(different, []);
    assert.ok(
      [...shown.values()].some(({ type }) => type === "hardlink"),
      "no hard link was shown",
    );
  });

  test("and the registry give the same bytes", async () => {
    const left = [...expected].flatMap(([path, { type }]) => (type === "file" ? [path] : []));
    const files = left.length;
    // Read neighbours in a layer one after the other.
    left.sort();
    const reader = async () => {
      for (let path = left.pop(); path !== undefined; path = left.pop()) {
        const reply = await strata.send("GET", addressOf(path));
        assert.equal(reply.status, 200, `${path}: ${reply.body}`);
        assert.equal(digestOf(reply.body), digestOf(await readFile(join(folder, "bundle/rootfs", path))), path);
      }
    };
    await Promise.all(Array.from({ length: 8 }, reader));
    assert.ok(files > 1000, `${files} files`);
  });

  test("and the registry follow the same links", {
    skip: skipFor(isRoot ? undefined : "chroot needs root"),
  }, async () => {
    const paths = [...expected.keys()].filter((path) => expected.get(path).type === "symlink");
    assert.ok(paths.length > 100, `${paths.length} links`);
    const script = 'for path; do readlink -f "/$path" || echo; done';
    const resolved = await must("chroot", [
      join(folder, "bundle/rootfs"),
      "/bin/busybox",
      "sh",
      "-c",
      script,
      "sh",
      ...paths,
    ]);
    for (const [index, target] of resolved.split("\n").slice(0, -1).entries()) {
      const there = expected.get(target.slice(1));
      const reply = await strata.send("HEAD", addressOf(paths[index]));
      assert.equal(
        reply.status,
        there === undefined ? 404 : there.type === "file" ? 200 : 422,
        `${paths[index]} → ${target}`,
      );
      if (there?.type === "file") assert.equal(Number(reply.headers["content-length"]), there.size, paths[index]);
    }
  });
});
