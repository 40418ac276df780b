// Clients pull real images through a mirror, each with its own way to name it. The second pull
// sends no request to the upstream.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { start } from "../edge/harness.mjs";
import { fill, imageIn, missing, startDistribution, startProxy } from "../edge/upstream.mjs";
import { image, unavailable } from "../images/images.mjs";
import { homeIn, must } from "./client.mjs";
import { assertSameBlobs, assertSameImage } from "./compare.mjs";
import * as containerd from "./containerd.mjs";
import { compiled, packaged, skipFor } from "./tools.mjs";

const skopeo = await packaged("skopeo");
const crane = await compiled("crane");
const skip = skipFor(missing, unavailable());

/** The upstream's name in clients and settings. No host has this name. */
const UPSTREAM = "up.invalid";

let folder;
let distribution;
let proxy;
before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), "strata-mirrored-"));
  await mkdir(join(folder, "upstream"));
  distribution = await startDistribution(join(folder, "upstream"));
  proxy = await startProxy(distribution.url);
  for (const name of ["busybox", "files"])
    await fill(distribution.url, `library/${name}`, "latest", await imageIn(await image(name)));
});
after(async () => {
  await proxy?.stop();
  await distribution?.stop();
  if (folder) await rm(folder, { recursive: true });
});

/** Starts an empty mirror over HTTPS, which clients require of a registry. */
function startMirror(isDefault = false) {
  const upstreams = [{ name: UPSTREAM, address: proxy.address, default: isDefault, insecure: true }];
  return start({ https: true, vars: { STRATA_UPSTREAMS: JSON.stringify(upstreams), STRATA_ANONYMOUS_PULL: "true" } });
}

const copy = (reference, layout, ...args) =>
  must(
    skopeo.program,
    [
      "--insecure-policy",
      ...args,
      "copy",
      "--preserve-digests",
      "--src-tls-verify=false",
      reference,
      `oci:${layout}:latest`,
    ],
    {
      env: homeIn(folder),
    },
  );

/**
 * The ways in which clients pull an image into a layout, from a mirror at this host. If
 * `isDefault`, images without an upstream's name are from this upstream.
 */
const ways = {
  "skopeo, by the upstream's name before the image's": {
    lacks: skopeo.missing,
    name: "files",
    pull: (host, name, layout) => copy(`docker://${host}/${UPSTREAM}/library/${name}:latest`, layout),
  },
  "skopeo, from the default upstream": {
    lacks: skopeo.missing,
    name: "busybox",
    isDefault: true,
    pull: (host, name, layout) => copy(`docker://${host}/library/${name}:latest`, layout),
  },
  "skopeo, by the mirror in its registries.conf": {
    lacks: skopeo.missing,
    name: "busybox",
    pull: async (host, name, layout) => {
      const file = join(folder, "registries.conf");
      const mirror = `[[registry.mirror]]\nlocation = "${host}/${UPSTREAM}"\ninsecure = true\n`;
      await writeFile(file, `[[registry]]\nprefix = "${UPSTREAM}"\nlocation = "${UPSTREAM}"\n\n${mirror}`);
      await copy(`docker://${UPSTREAM}/library/${name}:latest`, layout, `--registries-conf=${file}`);
    },
  },
  "crane, by the upstream's name before the image's": {
    lacks: crane.missing,
    name: "files",
    pull: (host, name, layout) =>
      must(
        crane.program,
        ["pull", "--insecure", "--format=oci", `${host}/${UPSTREAM}/library/${name}:latest`, layout],
        { env: homeIn(folder) },
      ),
  },
};

describe("through a mirror", { skip }, () => {
  for (const [way, { lacks, name, isDefault, pull }] of Object.entries(ways)) {
    test(`${way}: an image comes bit for bit, and once`, { skip: skipFor(lacks) }, async () => {
      const expected = await image(name);
      const layouts = ["first", "second"].map((time) => join(folder, `${way.replace(/\W+/g, "-")}-${time}`));
      const mirror = await startMirror(isDefault);
      try {
        proxy.requests();
        await pull(mirror.host, name, layouts[0]);
        await assertSameImage(expected, layouts[0]);
        assertOnce(expected, name);
        await pull(mirror.host, name, layouts[1]);
        await assertSameImage(expected, layouts[1]);
        assert.deepEqual(proxy.asked(), []);
      } finally {
        await mirror.stop();
      }
    });
  }

  // containerd names the upstream in each request, and the image as the upstream does.
  test("ctr, by the mirror in its hosts.toml: an image comes bit for bit, and once", {
    skip: skipFor(containerd.missing),
  }, async () => {
    const expected = await image("files");
    const reference = `${UPSTREAM}/library/files:latest`;
    const hosts = join(folder, "hosts");
    await mkdir(join(hosts, UPSTREAM), { recursive: true });
    const mirror = await startMirror();
    const running = await containerd.startContainerd(folder);
    try {
      const [server, host] = [`server = "https://${UPSTREAM}"\n`, `[host."https://${mirror.host}"]\n`];
      await writeFile(
        join(hosts, UPSTREAM, "hosts.toml"),
        `${server}\n${host}  capabilities = ["pull", "resolve"]\n  skip_verify = true\n`,
      );
      const ctr = (namespace, ...args) =>
        must(containerd.ctr, ["--address", running.socket, "--namespace", namespace, ...args]);
      proxy.requests();
      await ctr("fetched", "content", "fetch", `--hosts-dir=${hosts}`, reference);
      assertOnce(expected, "files");
      await ctr("pulled", "images", "pull", `--hosts-dir=${hosts}`, "--snapshotter=native", reference);
      assert.deepEqual(proxy.asked(), []);
      for (const namespace of ["fetched", "pulled"]) {
        const [tar, layout] = [join(folder, `${namespace}.tar`), join(folder, namespace)];
        await ctr(namespace, "images", "export", tar, reference);
        await mkdir(layout);
        await must("tar", ["--extract", `--file=${tar}`, `--directory=${layout}`]);
        await assertSameBlobs(expected, layout);
      }
    } finally {
      await running.stop();
      await mirror.stop();
    }
  });

  /** Asserts that the upstream got one GET for the manifest and one for each blob. */
  function assertOnce(expected, name) {
    const asked = proxy.asked().filter((line) => !line.startsWith("HEAD "));
    const blobs = expected.blobs.map(({ digest }) => `GET /v2/library/${name}/blobs/${digest} 200`);
    assert.deepEqual(asked.sort(), [...blobs, `GET /v2/library/${name}/manifests/latest 200`].sort());
  }
});
