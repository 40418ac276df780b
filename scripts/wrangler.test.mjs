// `npx wrangler dev` serves the same registry and page as `npm start`, from the same state.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import crypto from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT } from "./command.mjs";
import { developmentUser } from "./development.mjs";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const EMPTY = "application/vnd.oci.empty.v1+json";
/** The timeout of a start, in milliseconds: the custom build may have to build everything. */
const START = 10 * 60_000;

const digestOf = (bytes) => `sha256:${crypto.createHash("sha256").update(bytes).digest("hex")}`;
const blob = crypto.randomBytes(3_000_000);
const manifest = JSON.stringify({
  schemaVersion: 2,
  mediaType: MANIFEST,
  artifactType: "application/vnd.example.wrangler",
  config: { mediaType: EMPTY, digest: digestOf("{}"), size: 2 },
  layers: [{ mediaType: "application/octet-stream", digest: digestOf(blob), size: blob.length }],
});

describe("wrangler dev", { timeout: 2 * START }, () => {
  let project;
  let state;
  let wrangler;
  before(async () => {
    // A project folder of its own, whose entries are links to this one: wrangler puts its temporary
    // files beside its configuration, and reads the users from .dev.vars there.
    project = fs.mkdtempSync(path.join(os.tmpdir(), "strata-wrangler-"));
    state = path.join(project, "state");
    for (const name of ["node_modules", "scripts", "src", "worker", "www"])
      fs.symlinkSync(path.join(ROOT, name), path.join(project, name));
    fs.copyFileSync(path.join(ROOT, "wrangler.toml"), path.join(project, "wrangler.toml"));
    const user = await developmentUser(path.join(project, ".dev.vars"));
    wrangler = await begin("node_modules/.bin/wrangler", ["dev", "--port", "0", "--persist-to", state], {
      cwd: project,
      env: withoutAccount(project),
      ready: /Ready on (http:\/\/\S+)/,
    });
    wrangler.user = user;
  });
  after(async () => {
    await wrangler?.end();
    fs.rmSync(project, { recursive: true, force: true });
  });

  /** Sends a request as the development user. */
  const ask = (target, { headers, ...options } = {}) => {
    const [name] = wrangler.user.names;
    const authorization = `Basic ${Buffer.from(`${name}:${wrangler.user.password}`).toString("base64")}`;
    return fetch(wrangler.url + target, { ...options, headers: { authorization, ...headers } });
  };

  it("runs the build, and reads the users", async (t) => {
    assert.match(wrangler.printed(), /custom build\] Running: node scripts\/build\.mjs/);
    assert.equal((await fetch(`${wrangler.url}/v2/`)).status, 401);
    assert.equal((await ask("/v2/")).status, 200);
    t.diagnostic(`ready after ${wrangler.seconds.toFixed(1)} s`);
  });

  it("takes a blob and a manifest, and gives both back", async () => {
    for (const bytes of [Buffer.from("{}"), blob]) {
      const target = `/v2/wrangler/image/blobs/uploads/?digest=${digestOf(bytes)}`;
      const pushed = await ask(target, { method: "POST", body: bytes });
      assert.equal(pushed.status, 201, await pushed.text());
    }
    const headers = { "content-type": MANIFEST };
    const put = await ask("/v2/wrangler/image/manifests/v1", { method: "PUT", body: manifest, headers });
    assert.equal(put.status, 201, await put.text());
    assert.equal(put.headers.get("docker-content-digest"), digestOf(manifest));

    const pulled = await ask("/v2/wrangler/image/manifests/v1", { headers: { accept: MANIFEST } });
    assert.deepEqual([pulled.status, pulled.headers.get("content-type")], [200, MANIFEST]);
    assert.equal(await pulled.text(), manifest);
    const stored = await ask(`/v2/wrangler/image/blobs/${digestOf(blob)}`);
    assert.ok(Buffer.from(await stored.arrayBuffer()).equals(blob));
    assert.deepEqual((await (await ask("/v2/wrangler/image/tags/list")).json()).tags, ["v1"]);
  });

  it("serves the page, its assets, and the relay", async () => {
    const page = await fetch(wrangler.url);
    assert.equal(page.status, 200);
    assert.match(page.headers.get("content-security-policy"), /^default-src 'none'/);
    const html = await page.text();
    assert.equal(html, fs.readFileSync(path.join(ROOT, "www/dist/index.html"), "utf8"));
    const scripts = [...html.matchAll(/<script[^>]* src="([^"]+)"/g)].map(([, source]) => source);
    assert.ok(scripts.length > 0, html);
    for (const source of scripts) {
      const script = await fetch(new URL(source, wrangler.url));
      assert.deepEqual([script.status, /javascript/.test(script.headers.get("content-type"))], [200, true], source);
    }
    const relay = await fetch(`${wrangler.url}/relay.mjs`);
    assert.equal(await relay.text(), fs.readFileSync(path.join(ROOT, "relay/relay.mjs"), "utf8"));
    assert.equal((await ask("/no/such/page")).status, 404);
  });

  it("ends when interrupted, and npm start serves what it stored", async () => {
    await wrangler.end();
    const served = await begin("npm", ["start", "--", "--open", "--port", "0", "--state", state], {
      cwd: ROOT,
      ready: /ready on (http:\/\/\S+)[\s\S]*Ctrl-C ends/,
    });
    try {
      const pulled = await fetch(`${served.url}/v2/wrangler/image/manifests/v1`, { headers: { accept: MANIFEST } });
      assert.equal(await pulled.text(), manifest);
      const stored = await fetch(`${served.url}/v2/wrangler/image/blobs/${digestOf(blob)}`);
      assert.ok(Buffer.from(await stored.arrayBuffer()).equals(blob));
    } finally {
      await served.end();
    }
  });
});

/**
 * Returns an environment in which wrangler has no account, sends nothing, and writes its logs below
 * a folder.
 */
function withoutAccount(folder) {
  const env = { ...process.env };
  for (const name of Object.keys(env)) if (/^(CLOUDFLARE|CF|WRANGLER)_/.test(name)) delete env[name];
  return {
    ...env,
    CI: "true",
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    NO_COLOR: "1",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_SEND_METRICS: "false",
    XDG_CONFIG_HOME: path.join(folder, "config"),
  };
}

/**
 * Starts a program that serves, and waits until it has printed `ready`, whose group is its address.
 * `end` interrupts it and waits until none of its processes is left.
 */
async function begin(program, args, { cwd, env = process.env, ready }) {
  const begun = performance.now();
  // In its own process group, because an interruption from the keyboard reaches its children, too.
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "exit");
  let printed = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk) => (printed += chunk));
  const signal = (name) => {
    try {
      process.kill(-child.pid, name);
      return true;
    } catch {
      return false;
    }
  };
  const end = async () => {
    signal("SIGINT");
    const deadline = Date.now() + 20_000;
    while (signal(0) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    const isLeft = signal("SIGKILL");
    await ended;
    assert.ok(!isLeft, `${program} did not end within 20 seconds:\n${printed}`);
  };
  while (!ready.test(printed)) {
    const isLate = performance.now() - begun > START;
    if (child.exitCode !== null || isLate) {
      if (isLate) await end();
      assert.fail(`${program} is not ready:\n${printed}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const [, url] = ready.exec(printed);
  return { url, end, seconds: (performance.now() - begun) / 1000, printed: () => printed };
}
