// Builds other versions of the Worker, each from its commit in a clone of its own.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { ROOT } from "./command.mjs";
import { Failure } from "./terminal.mjs";

const FOLDER = path.join(ROOT, "target/versions");

/**
 * Returns the folder of a version's built Worker. `version` is such a folder, or a commit, which is
 * built if need be. With `part`, its uploads have parts of so many bytes.
 */
export function builtOf(version, { part } = {}) {
  if (fs.existsSync(path.join(version, "index.js"))) return version;
  const git = (args, cwd = ROOT) => execFileSync("git", args, { cwd, encoding: "utf8" }).trim();
  const commit = git(["rev-parse", "--short", version]);
  const clone = path.join(FOLDER, part ? `${commit}-parts-of-${part}` : commit);
  const folder = path.join(clone, "worker/build");
  if (fs.existsSync(path.join(folder, "index.js"))) return folder;
  if (!fs.existsSync(clone)) git(["clone", "--quiet", ROOT, clone]);
  git(["checkout", "--quiet", "--force", commit], clone);
  if (part) resize(path.join(clone, "worker/src/parts.rs"), part);
  lend(clone);
  execFileSync("node", ["scripts/build.mjs"], {
    cwd: clone,
    stdio: ["ignore", 2, 2],
    // All versions share the compiled dependencies.
    env: { CARGO_TARGET_DIR: path.join(FOLDER, "target"), ...process.env },
  });
  return folder;
}

/** Changes the size of the parts in the source. */
function resize(file, part) {
  const text = fs.readFileSync(file, "utf8");
  const changed = text.replace(/(const PART: u32 = )[\d *_]+;/, `$1${part};`);
  if (changed === text) throw new Failure(`${file} has no size of parts: adapt scripts/versions.mjs`);
  fs.writeFileSync(file, changed);
}

/** Links the build tools and the packages of this version, if the other one wants the same. */
function lend(clone) {
  const read = (folder, file) => fs.readFileSync(path.join(folder, file), "utf8");
  const bindgen = (folder) => /^name = "wasm-bindgen"\nversion = "(.+)"$/m.exec(read(folder, "Cargo.lock"))?.[1];
  const lock = "package-lock.json";
  const lent = [];
  if (bindgen(clone) === bindgen(ROOT)) lent.push(".tools");
  if (read(clone, lock) === read(ROOT, lock)) {
    lent.push("node_modules");
    // The packages are fresh if they are not older than this file.
    fs.utimesSync(path.join(clone, lock), new Date(0), new Date(0));
  }
  for (const name of lent) {
    const [own, other] = [path.join(ROOT, name), path.join(clone, name)];
    if (fs.existsSync(own) && !fs.existsSync(other)) fs.symlinkSync(fs.realpathSync(own), other);
  }
}
