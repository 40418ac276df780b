// Checks that the core is pure: it depends on no platform and, built as a module of its own,
// imports nothing.

import fs from "node:fs";
import path from "node:path";

import { ROOT, run } from "./command.mjs";
import { ensureRust } from "./setup.mjs";
import { Failure, main, MARKS, say } from "./terminal.mjs";

/** Crates that need a platform: a runtime, a browser, a clock, a socket or randomness. */
const PLATFORM =
  /^(async-std|chrono|cloudflare-.*|getrandom|gloo.*|hyper|instant|js-sys|mio|rand|reqwest|smol|socket2|time|tokio|wasi|wasm-bindgen.*|wasm-streams|web-sys|web-time|worker(-.*)?)$/;

main(import.meta.url, async () => {
  await ensureRust();
  await checkDependencies();
  await checkImports();
});

async function checkDependencies() {
  const tree = await cargo(
    "tree",
    "--locked",
    "--package",
    "strata",
    "--edges",
    "normal",
    "--target",
    "all",
    "--prefix",
    "none",
    "--format",
    "{p}",
  );
  const names = [
    ...new Set(
      tree
        .split("\n")
        .filter(Boolean)
        .map((line) => line.split(" ")[0]),
    ),
  ];
  const found = names.filter((name) => PLATFORM.test(name));
  if (found.length > 0)
    throw new Failure(`the core depends on ${found.join(", ")}: platform code belongs in worker/`, tree);
  say(`${MARKS.passed} the core depends on ${names.length - 1} crates, none of a platform`);
}

/**
 * Builds purity.rs, which is a whole registry, into a module. Checks that it imports nothing, and
 * that it answers requests.
 */
async function checkImports() {
  const folder = path.join(ROOT, "target/purity");
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, "Cargo.toml"), MANIFEST);
  // Start from the workspace's lock file: cargo removes the packages that are not needed, and adds
  // this one.
  const lock = path.join(folder, "Cargo.lock");
  const workspace = fs.readFileSync(path.join(ROOT, "Cargo.lock"), "utf8");
  fs.writeFileSync(lock, workspace);
  const manifest = path.join(folder, "Cargo.toml");
  await cargo("fmt", "--manifest-path", manifest, "--check");
  await cargo("update", "--workspace", "--manifest-path", manifest);
  const [known, used] = [workspace, fs.readFileSync(lock, "utf8")].map(packages);
  const moved = used.filter(
    (one) =>
      one.name !== "strata-purity" && !known.some(({ name, version }) => name === one.name && version === one.version),
  );
  if (moved.length > 0)
    throw new Failure(
      `the core was built with ${moved.map(({ name, version }) => `${name} ${version}`).join(", ")}, which Cargo.lock does not have`,
    );
  const messages = await cargo(
    "build",
    "--locked",
    "--manifest-path",
    manifest,
    "--target",
    "wasm32-unknown-unknown",
    "--message-format=json-render-diagnostics",
  );
  const artefact = messages
    .split("\n")
    .flatMap((line) => (line.startsWith("{") ? (JSON.parse(line).filenames ?? []) : []))
    .findLast((file) => file.endsWith(".wasm"));

  const module = await WebAssembly.compile(fs.readFileSync(artefact));
  const imports = WebAssembly.Module.imports(module);
  if (imports.length > 0) {
    const list = imports.map(({ module: from, name, kind }) => `${kind} ${from}.${name}`);
    throw new Failure("the core's module has imports: the platform must pass such things in", list.join("\n"));
  }
  // An empty module would import nothing either, so check that this one is the registry.
  const { exports } = await WebAssembly.instantiate(module, {});
  const digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  const conversation = [
    ["GET /v2/", 200],
    [`GET /v2/pure/blobs/${digest}`, 404],
    [`POST /v2/pure/blobs/uploads/?digest=${digest} hello`, 201],
    [`GET /v2/pure/blobs/${digest}`, 200],
    ["PUT /v2/pure/manifests/latest {", 400],
    [
      `PUT /v2/pure/manifests/latest {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`,
      201,
    ],
    ["GET /v2/pure/tags/list", 200],
  ];
  for (const [request, status] of conversation) {
    for (const byte of Buffer.from(request)) exports.push(byte);
    const answered = exports.answer();
    if (answered !== status)
      throw new Failure(`the core's module answered ${request} with ${answered}, expected ${status}`);
  }
  say(`${MARKS.passed} the core's module imports nothing and gives ${conversation.length} right answers`);
}

/** Returns the packages of a lock file. */
function packages(text) {
  return [...text.matchAll(/^name = "(.+)"\nversion = "(.+)"$/gm)].map(([, name, version]) => ({ name, version }));
}

async function cargo(...args) {
  // Reuse the artefacts of the other checks for wasm32.
  const env = { CARGO_TARGET_DIR: process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target") };
  const { code, stdout, output } = await run("cargo", args, { env });
  if (code !== 0) throw new Failure(`cargo ${args[0]} failed`, output);
  return stdout;
}

const MANIFEST = `[package]
name = "strata-purity"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "../../scripts/purity.rs"

[dependencies]
http = "1"
strata = { path = "../.." }

[workspace]
`;
