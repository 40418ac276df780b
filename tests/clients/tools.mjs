// The clients that the tests drive: found, or installed where that is ours to do.
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { find, run } from "../../scripts/command.mjs";
import { ensureDebianPackages, TOOLS } from "../../scripts/setup.mjs";

// The newest that the Go of Debian 12 compiles.
const CRANE = "v0.20.2";
const CRANE_GO = [1, 18];

/** skopeo as the distribution packages it: `{ program }`, or `{ missing }` that says why not. */
export async function skopeo() {
  try {
    await ensureDebianPackages({ skopeo: "skopeo" });
    return { program: find("skopeo") };
  } catch (error) {
    return { missing: error.message };
  }
}

/** crane, compiled once at its pinned version: `{ program }`, or `{ missing }` that says why not. */
export async function crane() {
  const program = join(TOOLS, `bin/crane-${CRANE}`);
  if (existsSync(program)) return { program };
  try {
    if (!(await recentGo())) await ensureDebianPackages({ go: "golang-go" });
  } catch (error) {
    return { missing: error.message };
  }
  if (!(await recentGo())) return { missing: `crane ${CRANE} needs Go ${CRANE_GO.join(".")} or later` };
  const folder = join(TOOLS, `go-${process.pid}`);
  const source = `github.com/google/go-containerregistry/cmd/crane@${CRANE}`;
  const { code, output } = await run("go", ["install", "-p", "2", source], { env: { GOBIN: folder } });
  if (code !== 0) return { missing: `crane ${CRANE} did not compile: ${output.trim()}` };
  await mkdir(join(TOOLS, "bin"), { recursive: true });
  // Moved into place whole: an interruption leaves no half program, and the name tells the version.
  await rename(join(folder, "crane"), program);
  await rm(folder, { recursive: true });
  return { program };
}

/** Why tests are to be skipped, or false; where nothing may be skipped, what is missing is an error. */
export function skipFor(...reasons) {
  const missing = reasons.filter(Boolean).join("; ");
  if (missing && process.env.CI === "true") throw new Error(missing);
  return missing || false;
}

async function recentGo() {
  if (!find("go")) return false;
  const [, major, minor] = /go(\d+)\.(\d+)/.exec((await run("go", ["version"])).stdout) ?? [];
  return Number(major) > CRANE_GO[0] || (Number(major) === CRANE_GO[0] && Number(minor) >= CRANE_GO[1]);
}
