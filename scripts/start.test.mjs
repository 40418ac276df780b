// `npm start`, from a user's point of view.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import crypto from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";

import { ROOT, run } from "./command.mjs";
import { isServed } from "./hosts.mjs";
import { opened, page } from "./start.mjs";

describe("npm start", { timeout: 300_000 }, () => {
  let state;
  before(() => (state = fs.mkdtempSync(path.join(os.tmpdir(), "strata-start-"))));
  after(() => fs.rmSync(state, { recursive: true, force: true }));

  // Run this test first, while a new clone has no .dev.vars yet.
  it("serves without users if it is open, and makes none", async () => {
    const file = path.join(ROOT, ".dev.vars");
    const vars = () => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined);
    const before = vars();
    const running = await start(state, "--open");
    try {
      assert.match(running.printed(), /^ {2}open +every client that reaches the port has all permissions$/m);
      assert.doesNotMatch(running.printed(), /login|PASSWORD|^ {2}(user|password) /m);
      assert.equal((await fetch(`${running.url}/v2/`)).status, 200);
      const shown = await fetch(running.url);
      assert.match(shown.headers.get("content-security-policy"), /^default-src 'none'/);
      assert.match(await shown.text(), /<div id="page">/);
      const digest = `sha256:${crypto.createHash("sha256").update("open").digest("hex")}`;
      const pushed = await fetch(`${running.url}/v2/open/blobs/uploads/?digest=${digest}`, {
        method: "POST",
        body: "open",
      });
      assert.equal(pushed.status, 201, await pushed.text());
      assert.equal((await fetch(`${running.url}/v2/open/blobs/${digest}`, { method: "DELETE" })).status, 202);
      assert.equal((await fetch(`${running.url}/metrics`)).status, 200);
      assert.equal(vars(), before);
      // A web page that uses a host name of its own, and forges the simulator's headers.
      const own = `127.0.0.1:${running.port}`;
      const forged = { "mf-original-url": `http://${own}/v2/`, "mf-route-override": "strata" };
      for (const [host, status] of [
        [own, 200],
        [`localhost:${running.port}`, 200],
        ["LOCALHOST", 200],
        [`evil.example:${running.port}`, 403],
        ["127.0.0.1.evil.example", 403],
        ["localhost.", 403],
      ]) {
        assert.equal((await named(running.url, "/v2/", host)).status, status, host);
        if (status === 403) assert.equal((await named(running.url, "/v2/", host, forged)).status, 403, host);
      }
      const refused = await named(
        running.url,
        "/v2/_strata/sweep",
        "evil.example",
        { ...forged, "sec-fetch-site": "same-origin" },
        "POST",
      );
      assert.equal(refused.status, 403);
      assert.match(refused.body, /"DENIED".*not to \\"evil\.example\\"/);
    } finally {
      assert.equal(await running.interrupt(), 0);
    }
  });

  it("serves, keeps pushed blobs between runs, and ends when interrupted", async () => {
    const bytes = `pushed at ${Date.now()}`;
    const digest = `sha256:${crypto.createHash("sha256").update(bytes).digest("hex")}`;

    const first = await start(state);
    try {
      assert.equal((await first.fetch("/v2/")).status, 200);
      // Nobody signs in for the relay: it is the first thing that a machine fetches.
      const relay = await fetch(`${first.url}/relay.mjs`);
      assert.equal(await relay.text(), fs.readFileSync(path.join(ROOT, "relay/relay.mjs"), "utf8"));
      assert.equal((await fetch(`${first.url}/v2/started/tags/list`)).status, 401);
      const pushed = await first.fetch(`/v2/started/blobs/uploads/?digest=${digest}`, { method: "POST", body: bytes });
      assert.equal(pushed.status, 201);
    } finally {
      assert.equal(await first.interrupt(), 0);
    }

    const second = await start(state);
    try {
      const pulled = await second.fetch(`/v2/started/blobs/${digest}`);
      assert.equal(await pulled.text(), bytes);
    } finally {
      assert.equal(await second.interrupt(), 0);
    }
  });

  it("says that a port is in use, and builds again when something changes", async () => {
    const running = await start(state);
    try {
      const { code, output } = await run("npm", ["start", "--", "--port", running.port]);
      assert.equal(code, 1);
      assert.match(output, new RegExp(`✗ port ${running.port} is in use: .* npm start -- --port \\d+\\n$`));

      const builds = () => running.printed().match(/✓ building worker/g).length;
      assert.equal(builds(), 1);
      // A new modification time counts as a change, and leaves the content as it is.
      fs.utimesSync(path.join(ROOT, "wrangler.toml"), new Date(), new Date());
      while (builds() < 2) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal((await running.fetch("/v2/")).status, 200);
    } finally {
      await running.interrupt();
    }
  });

  it("names the problem with an option", async () => {
    const wrong = {
      "--prot 9000": "unknown option '--prot': npm start -- --help lists the options",
      "--port http": "http is not a port: choose one from 0 to 65535",
      "--port 65536": "65536 is not a port: choose one from 0 to 65535",
      "--host 192.0.2.1":
        "192.0.2.1 is not an address of this machine (EADDRNOTAVAIL): leave --host out, or run npm start again with another",
    };
    for (const [options, line] of Object.entries(wrong)) {
      const { code, output } = await run("npm", ["start", "--", ...options.split(" ")]);
      assert.equal(code, 1);
      assert.equal(output.trimEnd().split("\n").at(-1), `✗ ${line}`);
    }
  });

  it("is open to this machine alone", async () => {
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "127.example.org", "localhost.example.org"]) {
      const { code, output } = await run("npm", ["start", "--", "--open", "--host", host]);
      assert.equal(code, 1);
      assert.equal(
        output.trimEnd().split("\n").at(-1),
        `✗ --open would let the network that reaches ${host} push and delete: leave out --open, or --host`,
      );
    }
    // These hosts are accepted, so the port is refused next.
    for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost"]) {
      const { output } = await run("npm", ["start", "--", "--open", "--host", host, "--port", "http"]);
      assert.match(output, /✗ http is not a port/);
    }
  });
});

describe("an open registry", () => {
  it("ignores the configured users and rules", () => {
    const configured = {
      kvNamespaces: { WARM: "WARM" },
      bindings: {
        STRATA_USERS: '{"users":{}}',
        STRATA_RULES: [{ repositories: ["**"], who: ["users"], may: ["pull"] }],
        STRATA_LOG: "errors",
      },
    };
    const { bindings, ...others } = opened(configured);
    const { STRATA_USERS, STRATA_RULES, ...untouched } = bindings;
    assert.deepEqual(others, { kvNamespaces: { WARM: "WARM" } });
    assert.deepEqual(untouched, { STRATA_LOG: "errors" });
    assert.equal(STRATA_USERS, "");
    assert.deepEqual(JSON.parse(STRATA_RULES), [
      {
        repositories: ["**"],
        who: ["everyone"],
        may: ["pull", "push", "overwrite", "delete", "administer", "metrics"],
      },
    ]);
  });

  it("answers to loopback names and to the name of --host", () => {
    const served = [
      "localhost",
      "localhost:8787",
      "LocalHost:80",
      "127.0.0.1",
      "127.255.1.2:1",
      "[::1]",
      "[::1]:8787",
      "registry.test",
      "Registry.Test:8787",
    ];
    const others = [
      undefined,
      null,
      "",
      ":8787",
      "localhost.",
      "localhost.evil.example",
      "evil.localhost",
      "127.0.0.1.evil.example",
      "1270.0.0.1",
      "127.0.0",
      "[::2]",
      "::1",
      "[::1",
      "[::1].evil.example",
      "evil.example",
      "evil.registry.test",
      "registry.test.",
      "localhost:1:2",
      "user@localhost",
      "localhost/x",
      "0.0.0.0",
    ];
    for (const host of served) assert.equal(isServed(host, "registry.test"), true, host);
    for (const host of others) assert.equal(isServed(host, "registry.test"), false, host);
  });

  it("is shown with the same commands, without signing in", () => {
    const commands = (user) => {
      const lines = page({ address: { hostname: "127.0.0.1", port: "8787" }, state: ROOT, user }).split("\n");
      return lines
        .map((line) => line.trim().replace(/^(\w+) +(?=\1 )/, ""))
        .filter((line) => /^(docker|crane|skopeo) /.test(line));
    };
    const signed = commands({ names: ["dev"], password: "secret" });
    assert.equal(signed.filter((command) => command.includes("login")).length, 3);
    assert.equal(signed.length, 10);
    assert.deepEqual(
      commands(undefined),
      signed.filter((command) => !command.includes("login")),
    );
  });
});

/** Sends a request with this `Host`. Resolves with the status and the body. */
async function named(url, target, host, headers = {}, method = "GET") {
  const request = http.request(new URL(target, url), { method, headers: { ...headers, host }, agent: false }).end();
  const [response] = await once(request, "response");
  let body = "";
  for await (const part of response.setEncoding("utf8")) body += part;
  return { status: response.statusCode, body };
}

/** Runs `npm start` on a free port, and waits until it is ready. */
async function start(state, ...options) {
  // In its own process group, because an interruption from the keyboard reaches npm as well.
  const child = spawn("npm", ["start", "--", "--port", "0", "--state", state, ...options], {
    cwd: ROOT,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "exit");
  let printed = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk) => (printed += chunk));
  // Wait for the end of the text, because it begins with the address.
  while (!printed.includes("Ctrl-C ends")) {
    assert.equal(child.exitCode, null, printed);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const [, url, port] = /ready on (http:\/\/127\.0\.0\.1:(\d+))\n/.exec(printed);
  const user = /^ {2}user +([^\s,]+)/m.exec(printed)?.[1];
  const password = /^ {2}password +(\S{24}) {2}/m.exec(printed)?.[1];
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  return {
    url,
    port,
    printed: () => printed,
    fetch: (target, options) => fetch(url + target, { ...options, headers: { authorization } }),
    interrupt: async () => {
      process.kill(-child.pid, "SIGINT");
      const [code] = await ended;
      return code;
    },
  };
}
