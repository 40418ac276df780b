// `npm start`: serves the registry on this machine, on the real runtime, and rebuilds it whenever
// its source changes.

import dns from "node:dns/promises";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { build, fingerprintOfWorker } from "./build.mjs";
import { ROOT } from "./command.mjs";
import { developmentUser } from "./development.mjs";
import { front } from "./front.mjs";
import { isLoopback } from "./hosts.mjs";
import { buildPage, fingerprintOfPage } from "./page.mjs";
import { ensureAll, ensureNode } from "./setup.mjs";
import { again, bold, cyan, dim, Failure, main, parse, say, SIGNALS } from "./terminal.mjs";

const HELP = `npm start [-- OPTIONS]

  Builds Strata and serves it on this machine. Nothing leaves it.

  --port N      the port to serve on; 0 takes a free one (default 8787)
  --host NAME   the address to serve on (default 127.0.0.1)
  --state DIR   the folder of blobs, manifests and tags (default .wrangler/state, which wrangler dev uses too)
  --open        no users: every client that reaches the port has all permissions. Only requests to localhost, an address of
                127.0.0.0/8, [::1] or the NAME of --host are answered, which protects it from web pages (DNS rebinding)`;

main(import.meta.url, async () => {
  const { values } = parse(HELP, {
    port: { type: "string", default: "8787" },
    host: { type: "string", default: "127.0.0.1" },
    state: { type: "string", default: ".wrangler/state" },
    open: { type: "boolean", default: false },
  });
  if (values.open && !(await leadsHere(values.host))) {
    throw new Failure(
      `--open would let the network that reaches ${values.host} push and delete: leave out --open, or --host`,
    );
  }
  const port = Number(values.port);
  if (!/^\d+$/.test(values.port) || port > 65535)
    throw new Failure(`${values.port} is not a port: choose one from 0 to 65535`);

  ensureNode();
  // Fail before the long part.
  const { stop } = await listen(values.host, port, () => Promise.reject());
  stop();
  await ensureAll();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "strata-start-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
  const built = await make(folder);
  const user = values.open ? undefined : await developmentUser();
  await serve({ host: values.host, port, state: path.resolve(values.state), folder, built, user });
});

/**
 * Builds the Worker and the page, and copies both below a folder. The copy is served: other builds,
 * such as that of `npm test`, replace files in the project's folders at any time.
 */
async function make(folder) {
  for (let attempts = 1; ; attempts += 1) {
    const [worker, page] = [await build(), await buildPage()];
    const copy = fs.mkdtempSync(path.join(folder, "build-"));
    const [script, assets] = [path.join(copy, "worker/index.js"), path.join(copy, "page")];
    try {
      fs.cpSync(worker.folder, path.dirname(script), { recursive: true });
      fs.cpSync(page.folder, assets, { recursive: true });
    } catch (error) {
      if (attempts === 3) throw error;
    }
    // Another build may have replaced files meanwhile.
    const fingerprint = fingerprintOfWorker(path.dirname(script)) + fingerprintOfPage(assets);
    if (fingerprint === worker.fingerprint + page.fingerprint) return { copy, script, assets, fingerprint };
    if (attempts === 3) throw new Failure("another build kept replacing the files: wait for its end, then npm start");
    fs.rmSync(copy, { recursive: true });
  }
}

/**
 * Returns a Worker's options with all permissions for everyone, whatever users and rules they name.
 */
export function opened(options) {
  const rules = [
    { repositories: ["**"], who: ["everyone"], may: ["pull", "push", "overwrite", "delete", "administer", "metrics"] },
  ];
  return { ...options, bindings: { ...options.bindings, STRATA_USERS: "", STRATA_RULES: JSON.stringify(rules) } };
}

/**
 * Returns the modules of a built Worker, behind one that only answers requests to loopback names
 * and this host.
 */
export function guarded(script, host) {
  const folder = path.dirname(script);
  const built = fs.readdirSync(folder).filter((name) => /\.(js|wasm)$/.test(name));
  const read = (name, file) => ({
    type: name.endsWith(".wasm") ? "CompiledWasm" : "ESModule",
    path: path.join(folder, name),
    contents: name.endsWith(".wasm") ? fs.readFileSync(file) : fs.readFileSync(file, "utf8"),
  });
  const first = `import { onlyFor } from "./hosts.mjs";\nimport worker from "./${path.basename(script)}";\nexport default onlyFor(${JSON.stringify(host)}, worker);\n`;
  return [
    { type: "ESModule", path: path.join(folder, "open.mjs"), contents: first },
    read("hosts.mjs", new URL("hosts.mjs", import.meta.url)),
    ...built.map((name) => read(name, path.join(folder, name))),
  ];
}

/** Resolves with true if an address, or each address that a name resolves to, is a loopback one. */
async function leadsHere(host) {
  if (isLoopback(host)) return true;
  const found = await dns.lookup(host, { all: true }).catch(() => []);
  return found.length > 0 && found.every(({ address }) => isLoopback(address));
}

/** Listens in front of the runtime. Fails with advice if the address can't be listened on. */
async function listen(host, port, target) {
  try {
    return await front({ host, port, target });
  } catch ({ code }) {
    if (code === "EADDRINUSE")
      throw new Failure(
        `port ${port} is in use: stop the program that uses it, or choose another with npm start -- --port ${port === 9000 ? 9001 : 9000}`,
      );
    if (code === "EACCES")
      throw new Failure(`no permission for port ${port}: choose one above 1023 with npm start -- --port 9000`);
    throw new Failure(
      `${host} is not an address of this machine (${code}): leave --host out, or ${again()} with another`,
    );
  }
}

async function serve({ host, port, state, folder, built, user }) {
  // By default wrangler prints each file that it reads.
  process.env.WRANGLER_LOG ??= "warn";
  const { unstable_getMiniflareWorkerOptions: read } = await import("wrangler");
  const { Log, LogLevel, Miniflare } = await import("miniflare");

  /** Prints each request on its own line. */
  class Lines extends Log {
    logWithLevel(level, message) {
      if (level <= this.level) say(`  ${message}`);
    }
    // `page` prints this, and it is not true while the Worker is replaced.
    logReady() {}
  }
  const log = new Lines(LogLevel.INFO);
  // Use Miniflare directly: wrangler's proxy in front of it is slow, and drops requests under load.
  const configured = () => {
    try {
      const { workerOptions } = read(path.join(ROOT, "wrangler.toml"));
      return user ? workerOptions : opened(workerOptions);
    } catch ({ message }) {
      throw new Failure(message.replace(/\s*\n\s*/g, " "));
    }
  };
  const options = ({ script, assets }) => ({
    host: "127.0.0.1",
    port: 0,
    log,
    // The folder of wrangler dev, so that both serve the same registry.
    defaultPersistRoot: path.join(state, "v3"),
    // `request.cf` would be downloaded, and the registry does not use it.
    cf: false,
    workers: [
      {
        name: "strata",
        rootPath: path.dirname(script),
        modulesRoot: path.dirname(script),
        ...(user ? { scriptPath: script, modules: true } : { modules: guarded(script, host) }),
        ...withAssets(configured(), assets),
      },
    ],
  });

  const miniflare = new Miniflare(options(built));
  await miniflare.ready;
  const listening = await listen(host, port, async () => (await miniflare.ready).port);
  const address = { hostname: host.includes(":") ? `[${host}]` : host, port: listening.address.port };
  let stopping;
  const stop = () => {
    listening.stop();
    stopping ??= miniflare.dispose().then(() => process.exit(0));
    return stopping;
  };
  // An interruption arrives twice: from the keyboard and from npm.
  for (const signal of Object.keys(SIGNALS)) process.removeAllListeners(signal).on(signal, stop);

  say(page({ address, state, user }));
  const describe = ({ fingerprint }) => fingerprint + JSON.stringify(configured());
  let served = built;
  let description = describe(built);
  watch(async () => {
    const next = await make(folder);
    if (describe(next) === description) return fs.rmSync(next.copy, { recursive: true });
    description = describe(next);
    await miniflare.setOptions(options(next));
    fs.rmSync(served.copy, { recursive: true });
    served = next;
    say(dim("  serving the new Worker"));
  });
}

/** Returns a Worker's options with its page in another folder. */
function withAssets({ assets, ...options }, directory) {
  return { ...options, ...(assets && { assets: { ...assets, directory } }) };
}

/** Calls `changed` after each change of a source or a setting, one call at a time. */
function watch(changed) {
  let timer;
  let working = false;
  let missed = false;
  const work = async () => {
    if (working) {
      missed = true;
      return;
    }
    working = true;
    do {
      missed = false;
      try {
        await changed();
      } catch (error) {
        (error instanceof Failure ? error : new Failure(error.message)).print();
        say(dim("  still serving the previous Worker"));
      }
    } while (missed);
    working = false;
  };
  const soon = () => {
    clearTimeout(timer);
    // Wait a moment, because editors write a file in several steps.
    timer = setTimeout(work, 100);
  };
  // Watch folders, one by one: a watched file is lost if an editor replaces it, and on Linux Node's
  // recursive mode watches files.
  const watched = new Set();
  const cover = (folder, concerns) => {
    if (watched.has(folder)) return;
    watched.add(folder);
    const watcher = fs.watch(folder, (_, file) => concerns(file) && soon());
    watcher.on("error", () => watched.delete(folder));
  };
  const sources = (folder) => {
    cover(folder, () => {
      if (fs.existsSync(folder)) sources(folder);
      return true;
    });
    for (const entry of fs.readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) sources(path.join(folder, entry.name));
  };
  for (const folder of ["src", "worker/src", "www/app", "www/src"]) sources(path.join(ROOT, folder));
  for (const folder of [".", "worker"]) cover(path.join(ROOT, folder), (file) => SETTINGS.has(file));
}

const SETTINGS = new Set([".dev.vars", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml", "wrangler.toml"]);

/**
 * Returns the text for the start: the address, the users, and commands to try. Without a user, it
 * omits signing in.
 */
export function page({ address, state, user }) {
  const reachable = ["0.0.0.0", "[::]"].includes(address.hostname) ? "127.0.0.1" : address.hostname;
  const registry = `${reachable}:${address.port}`;
  const sign = user && `-u ${user.password ? "dev" : user.names[0]} -p ${user.password ?? "PASSWORD"}`;
  const kept = path.relative(process.cwd(), state) || ".";
  const facts = user
    ? [
        `user      ${user.names.join(", ")}`,
        `password  ${user.password ? `${user.password}  ${dim("a secret of this machine only, kept in .dev.vars")}` : dim("set by you in .dev.vars")}`,
      ]
    : [`${bold("open")}      every client that reaches the port has all permissions`];
  const clients = {
    docker: [
      user && `docker login ${sign} ${registry}`,
      `docker tag busybox ${registry}/busybox`,
      `docker push ${registry}/busybox`,
      `docker pull ${registry}/busybox`,
    ],
    crane: [
      user && `crane auth login ${sign} ${registry}`,
      `crane copy busybox ${registry}/busybox`,
      `crane pull ${registry}/busybox busybox.tar`,
    ],
    skopeo: [
      user && `skopeo login --tls-verify=false ${sign} ${registry}`,
      `skopeo copy --dest-tls-verify=false docker://busybox docker://${registry}/busybox`,
      `skopeo copy --src-tls-verify=false docker://${registry}/busybox oci:busybox`,
    ],
  };
  const commands = Object.entries(clients).map(([client, lines]) => {
    const shown = lines
      .filter(Boolean)
      .map((line) => `${INDENT}${line}`)
      .join("\n");
    return shown.replace(INDENT, `    ${bold(client)}${" ".repeat(INDENT.length - 4 - client.length)}`);
  });
  return `
  ${bold("Strata")}    ready on ${cyan(`http://${registry}`)}

  ${facts.join("\n  ")}
  state     ${kept.startsWith("..") ? state : kept}
  inspect   the same address, in a browser

  ${user ? "Sign in, push and pull" : "Push and pull"}, with the client you have:

${commands.join("\n\n")}

  ${dim("Edits are built and served at once. Ctrl-C ends.")}
`;
}

const INDENT = " ".repeat(12);
