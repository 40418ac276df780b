// The clients that the judge of the relay drives: each pushes the same image.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { credentials, dockerConfig } from "../clients/client.mjs";
import { compiled, packaged } from "../clients/tools.mjs";
import { must } from "./steps.mjs";

const first = ({ output }) => output.trim().split("\n")[0];
const version = async (program, ...args) => first(await must(program, args));

/** Returns a program that a step needs, or fails with the reason that it can't run here. */
function needed({ program, missing }) {
  assert.ok(!missing, missing);
  return program;
}

/**
 * Each client: `packs` if it compresses the layer itself, while the others send the layout as it
 * is; and `ready()`, which finds or installs its programs. That resolves with `versions`, and with
 * `open(folder, image)`, which resolves with `{ push(host, name), stop() }` and the `versions` of a
 * daemon. `image` is `{ layout, manifest, tar, stage }`.
 */
export const PUSHERS = {
  skopeo: {
    async ready() {
      const skopeo = needed(await packaged("skopeo"));
      const open = (_, { layout }) => {
        const push = (host, name) => {
          const to = ["--dest-tls-verify=false", `--dest-creds=${credentials}`];
          const copy = ["--insecure-policy", "copy", "--preserve-digests", ...to];
          return must(skopeo, [...copy, `oci:${layout}:latest`, `docker://${host}/${name}:v1`]);
        };
        return { push, stop() {} };
      };
      return { versions: await version(skopeo, "--version"), open };
    },
  },

  crane: {
    async ready() {
      const crane = needed(await compiled("crane"));
      const open = (folder, { layout }) => {
        const push = async (host, name) => {
          const env = { DOCKER_CONFIG: await dockerConfig(join(folder, "crane"), host) };
          return must(crane, ["push", layout, `${host}/${name}:v1`], { env });
        };
        return { push, stop() {} };
      };
      return { versions: basename(crane), open };
    },
  },

  containerd: {
    async ready() {
      const { ctr, startContainerd, missing } = await import("../clients/containerd.mjs");
      assert.ok(!missing, missing);
      const open = async (folder, { layout, manifest }) => {
        const home = join(folder, "containerd");
        await mkdir(home);
        const daemon = await startContainerd(home);
        const images = (...args) => must(ctr, ["--address", daemon.socket, "images", ...args]);
        const archive = join(home, "layout.tar");
        await must("tar", ["--create", `--file=${archive}`, `--directory=${layout}`, "."]);
        const names = ["--index-name=index", "--digests", "--base-name=loaded"];
        await images("import", "--no-unpack", ...names, archive);
        const push = async (host, name) => {
          const reference = `${host}/${name}:v1`;
          await images("tag", `loaded@${manifest.digest}`, reference);
          return images("push", "--plain-http", `--user=${credentials}`, reference);
        };
        return { push, stop: daemon.stop };
      };
      return { versions: await version(ctr, "--version"), open };
    },
  },

  docker: {
    packs: true,
    async ready() {
      const { docker, startDockerd, missing } = await import("../clients/dockerd.mjs");
      assert.ok(!missing, missing);
      const open = async (folder, { tar }) => {
        const home = join(folder, "docker");
        await mkdir(home);
        const { env, stop } = await startDockerd(home);
        await must(docker, ["import", tar, "judged"], { env });
        const push = async (host, name) => {
          await dockerConfig(env.DOCKER_CONFIG, host);
          await must(docker, ["tag", "judged", `${host}/${name}:v1`], { env });
          return must(docker, ["push", `${host}/${name}:v1`], { env });
        };
        const server = await must(docker, ["version", "--format={{.Server.Version}}"], { env });
        return { push, stop, versions: `dockerd ${first(server)}` };
      };
      return { versions: await version(docker, "--version"), open };
    },
  },

  podman: {
    packs: true,
    async ready() {
      const podman = needed(await packaged("podman"));
      assert.equal(process.getuid(), 0, "podman needs root here");
      const open = async (folder, { layout }) => {
        const home = join(folder, "podman");
        await mkdir(home);
        const policy = join(home, "policy.json");
        await writeFile(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
        const own = ["root", "runroot", "tmpdir"].map((name) => `--${name}=${join(home, name)}`);
        const call = (command, ...args) => {
          const options = [...own, "--storage-driver=vfs", "--events-backend=none"];
          const words = [...options, command, `--signature-policy=${policy}`, ...args];
          return must(podman, words, { cwd: dirname(layout) });
        };
        // podman names the image by this path, which may have no capital letters.
        const pulled = await call("pull", "--quiet", `oci:${basename(layout)}:latest`);
        const id = pulled.output.trim().split("\n").at(-1);
        const push = (host, name) =>
          call("push", "--tls-verify=false", `--creds=${credentials}`, id, `docker://${host}/${name}:v1`);
        return { push, stop() {} };
      };
      return { versions: await version(podman, "--version"), open };
    },
  },

  buildkit: {
    packs: true,
    async ready() {
      const { buildctl, buildkitd, startBuildkitd, missing } = await import("../clients/buildkitd.mjs");
      assert.ok(!missing, missing);
      const open = async (folder, { stage }) => {
        const home = join(folder, "buildkit");
        const dockerfile = join(home, "dockerfile");
        await mkdir(dockerfile, { recursive: true });
        await writeFile(join(dockerfile, "Dockerfile"), "FROM scratch\nCOPY . /\n");
        const daemon = await startBuildkitd(home);
        const push = async (host, name) => {
          const env = { DOCKER_CONFIG: await dockerConfig(join(home, "config"), host) };
          const build = [
            `--addr=${daemon.address}`,
            "build",
            "--progress=plain",
            "--frontend=dockerfile.v0",
            `--local=context=${stage}`,
            `--local=dockerfile=${dockerfile}`,
            "--opt=build-arg:SOURCE_DATE_EPOCH=0",
            `--output=type=image,name=${host}/${name}:v1,push=true,registry.insecure=true`,
          ];
          return must(buildctl, build, { env });
        };
        return { push, stop: daemon.stop };
      };
      // A program that was compiled as a module says no version; its file's name has it.
      return { versions: basename(buildkitd), open };
    },
  },
};
