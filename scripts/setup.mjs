// Installs the tools that building, serving and testing need. Each `ensure…` is silent if nothing
// is missing.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { find, ROOT, run } from "./command.mjs";
import { again, Failure, tail, task } from "./terminal.mjs";

/** The folder of the build tools, at the versions that this project pins. */
export const TOOLS = path.join(ROOT, ".tools");

/** Ensures everything that building and serving need. */
export async function ensureAll() {
  ensureNode();
  // In parallel, because downloads leave the processor to the compiler.
  await Promise.all([ensurePackages(), ensureRust().then(ensureBuildTools)]);
}

export function ensureNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  // The versions that Vite supports.
  if (major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)) return;
  throw new Failure(
    `Node 20.19, 22.12 or later is needed, this is ${process.versions.node}: install it from https://nodejs.org, then ${again()}`,
  );
}

/** Ensures the packages of package-lock.json, in node_modules. */
export async function ensurePackages() {
  const modules = path.join(ROOT, "node_modules");
  const lock = path.join(ROOT, "package-lock.json");
  const fresh = () => modified(path.join(modules, ".package-lock.json")) >= modified(lock);
  if (fresh()) return;
  await task("node packages", async (detail) => {
    // Install in a temporary folder and move it into place, so that neither an interruption nor a
    // concurrent start leaves a partial installation.
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
        check: "the network, and the output of `npm config get registry` and `npm config get proxy`",
      });
      if (fs.existsSync(modules)) fs.renameSync(modules, path.join(beside, "old"));
      fs.renameSync(path.join(beside, "node_modules"), modules);
    } catch (error) {
      // A concurrent start may have moved the same packages into place first.
      if (!fresh()) throw error;
    } finally {
      fs.rmSync(beside, { recursive: true, force: true });
    }
  });
}

/** Ensures the toolchain of rust-toolchain.toml with its targets and components, and a C linker. */
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

  // Find the toolchain without letting rustup install it, and put its folder first on PATH, so that
  // the machine's other cargo is not used.
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

/** Ensures wasm-bindgen's tools, at the version of the library in Cargo.lock. */
export async function ensureBuildTools() {
  const bindgen = /^name = "wasm-bindgen"\nversion = "(.+)"$/m.exec(read(path.join(ROOT, "Cargo.lock")))?.[1];
  if (!bindgen)
    throw new Failure(`Cargo.lock names no wasm-bindgen: restore it with git checkout Cargo.lock, then ${again()}`);
  // This file is cargo's own record of the tools that it installed there.
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
          // The tools compile for minutes and run for a second, so optimize for compile time.
          CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "16",
          CARGO_PROFILE_RELEASE_DEBUG: "false",
          CARGO_PROFILE_RELEASE_LTO: "off",
          CARGO_PROFILE_RELEASE_OPT_LEVEL: "0",
          CARGO_TARGET_DIR: target,
        },
      });
    } catch (error) {
      // A concurrent start that ends first deletes the target folder; it installed the same tools.
      if (missing()) throw error;
    }
    fs.rmSync(target, { recursive: true, force: true });
  });
}

/**
 * Ensures programs that the distribution packages, as program → Debian package. Installs them as
 * root on Debian; otherwise fails with the command that installs them.
 */
export async function ensureDebianPackages(programs) {
  const missing = () => Object.entries(programs).flatMap(([program, name]) => (find(program) ? [] : [name]));
  await installDebianPackages(missing(), (names) => `${names} missing`);
  const left = missing();
  if (left.length > 0)
    throw new Failure(
      `${left.join(", ")}: installed, but the programs are not on PATH: add their folder, then ${again()}`,
    );
}

/**
 * Ensures programs that run without being installed, as program → Debian package. Unpacks missing
 * ones beside the build tools, which takes no root and starts no service.
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
      // A fresh machine has no package lists yet, and only root can update them.
      if (process.getuid() !== 0)
        throw new Failure(
          `${program} missing: install with sudo apt-get install ${pack}, then ${again()}`,
          error.output,
        );
      await install("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"], options);
      await download();
    });
    await install("sh", ["-c", "dpkg-deb -x ./*.deb tree"], options);
    // Move the program into place, so that an interruption leaves no partial one.
    const folders = ["usr/bin", "usr/sbin", "bin"];
    const made = folders.map((folder) => path.join(work, "tree", folder, program)).find(fs.existsSync);
    if (!made) throw new Failure(`Debian package ${pack} has no program ${program}`);
    fs.renameSync(made, path.join(bin, program));
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** Ensures a C linker, which every Rust program needs. */
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

/** Runs an installer. Fails with one line that says the cause and the action to take. */
async function install(program, args, { detail, from, check, cwd, env }) {
  if (!find(program)) throw new Failure(`${program} is not on PATH: add the folder that holds it, then ${again()}`);
  const { code, output } = await run(program, args, { cwd, env, line: detail });
  if (code === 0) return;
  const said = tail(output, 40);
  if (FULL.test(output)) throw new Failure(`the disk is full: make room, then ${again()}`, said);
  if (UNREACHABLE.test(output))
    throw new Failure(`${from} could not be reached: check ${check}, then ${again()}`, said);
  throw new Failure(`${program} failed: its last lines are above; fix the cause, then ${again()}`, said);
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
