// What must be on the machine before anything else works, and how it gets there: each `ensure…` is quiet where nothing is missing.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { find, ROOT, run } from "./command.mjs";
import { again, Failure, tail, task } from "./terminal.mjs";

/** Where the build tools are installed, at the versions that this project pins. */
export const TOOLS = path.join(ROOT, ".tools");

/** Everything that building and serving needs. */
export async function ensureAll() {
  ensureNode();
  // Downloading packages leaves the processor to the compiler.
  await Promise.all([ensurePackages(), ensureRust().then(ensureBuildTools)]);
}

export function ensureNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  // What Vite runs on.
  if (major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)) return;
  throw new Failure(
    `Node 20.19, 22.12 or later is needed, this is ${process.versions.node}: install it from https://nodejs.org, then ${again()}`,
  );
}

/** The packages of package-lock.json, in node_modules. */
export async function ensurePackages() {
  const modules = path.join(ROOT, "node_modules");
  const lock = path.join(ROOT, "package-lock.json");
  const fresh = () => modified(path.join(modules, ".package-lock.json")) >= modified(lock);
  if (fresh()) return;
  await task("node packages", async (detail) => {
    // Installed beside and moved into place, so that neither an interruption nor a second start at the same time leaves half of them.
    const beside = path.join(TOOLS, `packages-${process.pid}`);
    fs.mkdirSync(beside, { recursive: true });
    for (const name of fs.readdirSync(TOOLS)) {
      const [, starter] = /^packages-(\d+)$/.exec(name) ?? [];
      if (starter && !lives(Number(starter))) fs.rmSync(path.join(TOOLS, name), { recursive: true, force: true });
    }
    try {
      for (const file of ["package.json", "package-lock.json"])
        fs.copyFileSync(path.join(ROOT, file), path.join(beside, file));
      await install("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
        cwd: beside,
        detail,
        from: "npm's registry",
        check: "the network, and what `npm config get registry` and `npm config get proxy` say",
      });
      if (fs.existsSync(modules)) fs.renameSync(modules, path.join(beside, "old"));
      fs.renameSync(path.join(beside, "node_modules"), modules);
    } catch (error) {
      // Where two starts cross, one of them moves its packages into place first: they are the same.
      if (!fresh()) throw error;
    } finally {
      fs.rmSync(beside, { recursive: true, force: true });
    }
  });
}

/** The toolchain of rust-toolchain.toml with its target and components, and what a Rust program needs to link. */
export async function ensureRust() {
  const text = fs.readFileSync(path.join(ROOT, "rust-toolchain.toml"), "utf8");
  const channel = /^channel = "(.+)"$/m.exec(text)[1];
  const list = (key) => new RegExp(`^${key} = \\[(.*)\\]$`, "m").exec(text)?.[1].match(/[\w-]+/g) ?? [];
  const components = list("components");
  const targets = list("targets");

  // A rustup installed a minute ago is not on this shell's PATH yet.
  const home = path.join(process.env.CARGO_HOME ?? path.join(os.homedir(), ".cargo"), "bin");
  if (!find("rustup")) process.env.PATH += path.delimiter + home;
  if (!find("rustup")) throw new Failure(`rustup is missing: install it from https://rustup.rs, then ${again()}`);
  await ensureLinker();

  // Looked up without letting rustup install anything on its own, then used directly: whatever else the machine calls cargo does not matter.
  const bin = async () => {
    const { code, stdout } = await run("rustup", ["which", "--toolchain", channel, "rustc"], {
      env: { RUSTUP_AUTO_INSTALL: "0" },
    });
    return code === 0 ? path.dirname(stdout.trim()) : undefined;
  };
  const complete = (folder) => {
    const installed = read(path.join(folder, "../lib/rustlib/components")).split("\n");
    const has = (name) => installed.some((line) => line === name || line.startsWith(`${name}-`));
    return (
      components.every((name) => has(name) || has(`${name}-preview`)) &&
      targets.every((name) => has(`rust-std-${name}`))
    );
  };
  let folder = await bin();
  if (!folder || !complete(folder)) {
    await task(`Rust ${channel}`, (detail) => {
      const options = [
        ...components.flatMap((name) => ["--component", name]),
        ...targets.flatMap((name) => ["--target", name]),
      ];
      return install(
        "rustup",
        ["toolchain", "install", channel, "--profile", "minimal", "--no-self-update", ...options],
        {
          detail,
          from: "Rust's server",
          check: "the network and the proxy settings (https_proxy)",
        },
      );
    });
    folder = await bin();
  }
  process.env.PATH = folder + path.delimiter + process.env.PATH;
  process.env.RUSTUP_TOOLCHAIN = channel;
}

/** wasm-bindgen's tools, at the version of the library in Cargo.lock. */
export async function ensureBuildTools() {
  const bindgen = /^name = "wasm-bindgen"\nversion = "(.+)"$/m.exec(read(path.join(ROOT, "Cargo.lock")))?.[1];
  if (!bindgen)
    throw new Failure(`Cargo.lock names no wasm-bindgen: restore it with git checkout Cargo.lock, then ${again()}`);
  // By cargo's own record of what it installed there.
  const missing = () => !read(path.join(TOOLS, ".crates.toml")).includes(`"wasm-bindgen-cli ${bindgen} (`);
  if (!missing()) return;
  await task("build tools (once, a few minutes)", async (detail) => {
    const target = path.join(TOOLS, "target");
    try {
      await install("cargo", ["install", "--locked", "--root", TOOLS, `wasm-bindgen-cli@${bindgen}`], {
        detail,
        from: "crates.io",
        check: "the network and the proxy settings (https_proxy)",
        env: {
          // They run for a second and compile for minutes: quick to compile is what matters.
          CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "16",
          CARGO_PROFILE_RELEASE_DEBUG: "false",
          CARGO_PROFILE_RELEASE_LTO: "off",
          CARGO_PROFILE_RELEASE_OPT_LEVEL: "0",
          CARGO_TARGET_DIR: target,
        },
      });
    } catch (error) {
      // Where two starts cross, the first to end takes the other's folder away: what it installed is the same.
      if (missing()) throw error;
    }
    fs.rmSync(target, { recursive: true, force: true });
  });
}

/**
 * Programs that the distribution packages, as program → Debian's package. Installed where that is ours to do, else named with the
 * command that installs them.
 */
export async function ensureDebianPackages(programs) {
  const missing = () => Object.entries(programs).flatMap(([program, name]) => (find(program) ? [] : [name]));
  await installDebianPackages(missing(), (names) => `${names} missing`);
  const left = missing();
  if (left.length > 0) throw new Failure(`${left.join(", ")} did not bring the programs that it is known for`);
}

/**
 * Programs out of the distribution's packages, as program → Debian's package, that need not be installed to run: unpacked beside the
 * build tools where they are missing. That takes no root, and starts no service.
 */
export async function ensureUnpacked(programs) {
  const bin = path.join(TOOLS, "bin");
  if (!process.env.PATH.split(path.delimiter).includes(bin)) process.env.PATH += path.delimiter + bin;
  for (const [program, pack] of Object.entries(programs)) {
    if (find(program)) continue;
    if (!find("apt-get"))
      throw new Failure(
        `${program} missing: install with your system's packages (Debian calls it ${pack}), then ${again()}`,
      );
    await task(`Debian package: ${pack}`, (detail) => unpack(program, pack, bin, detail));
  }
}

async function unpack(program, pack, bin, detail) {
  fs.mkdirSync(bin, { recursive: true });
  const work = fs.mkdtempSync(path.join(TOOLS, `${program}-`));
  const options = { cwd: work, detail, from: "Debian's packages", check: "the network and /etc/apt/sources.list" };
  const download = () => install("apt-get", ["-q", "-o", "APT::Sandbox::User=root", "download", pack], options);
  try {
    await download().catch(async (error) => {
      // A fresh machine has no lists of packages yet, and only root may have them brought.
      if (process.getuid() !== 0)
        throw new Failure(
          `${program} missing: install with sudo apt-get install ${pack}, then ${again()}`,
          error.output,
        );
      await install("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"], options);
      await download();
    });
    await install("sh", ["-c", "dpkg-deb -x ./*.deb tree"], options);
    // Moved into place whole: an interruption leaves no half program.
    fs.renameSync(path.join(work, "tree/usr/bin", program), path.join(bin, program));
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** A C linker, which every Rust program needs. */
async function ensureLinker() {
  if (find("cc")) return;
  if (process.platform === "darwin")
    throw new Failure(
      `a C linker is missing and Rust needs one: install it with xcode-select --install, then ${again()}`,
    );
  await installDebianPackages(["build-essential"], () => "Rust needs a C linker (cc)");
}

async function installDebianPackages(names, why) {
  if (names.length === 0) return;
  const list = names.join(" ");
  const debian = Boolean(find("apt-get"));
  if (!debian || process.getuid() !== 0) {
    const way = debian ? `sudo apt-get install ${list}` : `your system's packages (Debian calls them ${list})`;
    throw new Failure(`${why(list)}: install with ${way}, then ${again()}`);
  }
  await task(`Debian packages: ${list}`, async (detail) => {
    const apt = (...args) =>
      install("apt-get", ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", ...args], {
        detail,
        from: "Debian's packages",
        check: "the network and /etc/apt/sources.list",
        env: { DEBIAN_FRONTEND: "noninteractive" },
      });
    await apt("update");
    await apt("install", "--no-install-recommends", ...names);
  });
}

/** Runs an installer; says what stopped it in one line, with the way out. */
async function install(program, args, { detail, from, check, cwd, env }) {
  if (!find(program)) throw new Failure(`${program} is not on PATH: add the folder that holds it, then ${again()}`);
  const { code, output } = await run(program, args, { cwd, env, line: detail });
  if (code === 0) return;
  const said = tail(output, 40);
  if (FULL.test(output)) throw new Failure(`the disk is full: make room, then ${again()}`, said);
  if (UNREACHABLE.test(output))
    throw new Failure(`${from} could not be reached: check ${check}, then ${again()}`, said);
  throw new Failure(`${program} failed: its last lines are above; when that is mended, ${again()}`, said);
}

function lives(pid) {
  try {
    return process.kill(pid, 0);
  } catch ({ code }) {
    return code === "EPERM";
  }
}

function read(file) {
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
}

function modified(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

const FULL = /ENOSPC|No space left on device/i;
const UNREACHABLE =
  /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|could not resolve|couldn't resolve|could not connect|couldn't connect|failed to connect|error sending request|could not download|failed to download|failed to fetch|temporary failure resolving|unable to connect|timed out|dns error/i;
