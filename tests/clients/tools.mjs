// The clients that the tests run: found on this machine, or installed if setup may do that.
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { find, run } from "../../scripts/command.mjs";
import { ensureDebianPackages, ensureUnpacked, TOOLS } from "../../scripts/setup.mjs";

/**
 * Programs in Go: the module, the program's folder in it, and the oldest Go that compiles this
 * version.
 */
const GO = {
  buildctl: { module: "github.com/moby/buildkit", folder: "cmd/buildctl", version: "v0.34.2", go: [1, 26] },
  buildkitd: { module: "github.com/moby/buildkit", folder: "cmd/buildkitd", version: "v0.34.2", go: [1, 26] },
  cosign2: { module: "github.com/sigstore/cosign/v2", folder: "cmd/cosign", version: "v2.6.5", go: [1, 25] },
  cosign3: { module: "github.com/sigstore/cosign/v3", folder: "cmd/cosign", version: "v3.1.3", go: [1, 26] },
  // The newest version that Debian 12's Go compiles.
  crane: { module: "github.com/google/go-containerregistry", folder: "cmd/crane", version: "v0.20.2", go: [1, 18] },
  helm: { module: "helm.sh/helm/v3", folder: "cmd/helm", version: "v3.22.0", go: [1, 26] },
  oras: { module: "oras.land/oras", folder: "cmd/oras", version: "v1.2.0", go: [1, 22] },
  regctl: { module: "github.com/regclient/regclient", folder: "cmd/regctl", version: "v0.11.7", go: [1, 26] },
};

/** Programs of the distribution, each with its package. */
const DEBIAN = {
  buildah: "buildah",
  containerd: "containerd",
  ctr: "containerd",
  podman: "podman",
  runc: "runc",
  skopeo: "skopeo",
};

/** Returns a client of the distribution: `{ program }`, or `{ missing }` with the reason. */
export async function packaged(name) {
  try {
    await ensureDebianPackages({ [name]: DEBIAN[name] });
    return { program: find(name) };
  } catch (error) {
    return { missing: error.message };
  }
}

/**
 * Returns a program from a package that is not installed, because that would start a service or
 * bring many dependencies: `{ program }`, or `{ missing }` with the reason.
 */
export async function unpacked(name, pack) {
  try {
    await ensureUnpacked({ [name]: pack });
    return { program: find(name) };
  } catch (error) {
    return { missing: error.message };
  }
}

/**
 * Returns a client in Go, compiled once at its pinned version: `{ program }`, or `{ missing }` with
 * the reason.
 */
export async function compiled(name) {
  const { module, folder, version, go } = GO[name];
  const bin = join(TOOLS, "bin");
  // The version is in the file's name, so that a new one is compiled.
  const program = join(bin, `${name}-${version}`);
  if (existsSync(program)) return { program };
  try {
    if (!find("go")) await ensureDebianPackages({ go: "golang-go" });
  } catch (error) {
    return { missing: error.message };
  }
  if (!(await recentGo(go))) return { missing: `${name} ${version} needs Go ${go.join(".")} or later` };

  await mkdir(bin, { recursive: true });
  const work = await mkdtemp(join(TOOLS, `${name}-`));
  try {
    // A module that requires the client. `go install` would also request the list of versions,
    // which not every proxy has.
    await writeFile(join(work, "go.mod"), `module tools\n\ngo ${go.join(".")}\n\nrequire ${module} ${version}\n`);
    const made = join(work, name);
    const build = ["build", "-mod=mod", "-p", "2", "-o", made, `${module}/${folder}`];
    const { code, output } = await run("go", build, { cwd: work });
    if (code !== 0) return { missing: `${name} ${version} did not compile: ${output.trim()}` };
    // Renamed into place, so that an interruption leaves no partial program.
    await rename(made, program);
  } finally {
    await rm(work, { recursive: true });
  }
  return { program };
}

/**
 * Returns the reason to skip tests, or false. In CI nothing may be skipped, so a reason is thrown.
 */
export function skipFor(...reasons) {
  const missing = reasons.filter(Boolean).join("; ");
  if (missing && process.env.CI === "true") throw new Error(missing);
  return missing || false;
}

async function recentGo([major, minor]) {
  const [, ...found] = /go(\d+)\.(\d+)/.exec((await run("go", ["version"])).stdout) ?? [];
  const [foundMajor, foundMinor] = found.map(Number);
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}
