// A small page around www/app/local in a real browser, under the policy of the inspector.

import fs from "node:fs";
import http from "node:http";
import path from "node:path";

import { build } from "esbuild";
import { chromium } from "playwright-core";

import { find, ROOT } from "../../scripts/command.mjs";
import { buildInspector } from "../../scripts/inspector.mjs";
import { ensureAll, ensureDebianPackages } from "../../scripts/setup.mjs";

const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

const HTML = `<!doctype html><meta charset="utf-8"><title>layers</title><input type="file" id="file"><script type="module" src="/page.js"></script>`;

/**
 * Opens the page. `requests` are the addresses that it and its workers request, and `problems` the
 * browser's complaints.
 */
export async function open() {
  const { module } = await buildInspector();
  const files = new Map([
    ["/", ["text/html", HTML]],
    ["/inspect_bg.wasm", ["application/wasm", fs.readFileSync(module)]],
    ["/page.js", ["text/javascript", await bundle("tests/inspect/page.ts")]],
    // The name that the client requests if no bundler renames the file.
    ["/worker.ts", ["text/javascript", await bundle("www/app/local/worker.ts")]],
  ]);
  const server = http.createServer((request, response) => {
    const [type, body] = files.get(request.url) ?? [];
    if (!body) return response.writeHead(404).end();
    return response.writeHead(200, { "content-type": type, "content-security-policy": POLICY }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await chromium.launch({ executablePath: find("chromium"), args: ["--no-sandbox", "--disable-gpu"] });
  const context = await browser.newContext();
  const page = await context.newPage();
  const [requests, problems] = [[], []];
  context.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.addInitScript(() =>
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`policy: ${event.violatedDirective}`),
    ),
  );
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.openLayer);
  return {
    browser,
    page,
    requests,
    problems,
    close: async () => {
      await browser.close();
      server.close();
    },
  };
}

/** Returns a module and its imports as one script. */
async function bundle(entry) {
  // Addresses of files are those that Vite gives them.
  const plugin = {
    name: "address",
    setup(build) {
      build.onResolve({ filter: /\?url$/ }, ({ path: asked }) => ({ path: asked, namespace: "address" }));
      build.onLoad({ filter: /.*/, namespace: "address" }, ({ path: asked }) => ({
        contents: `export default "/${path.basename(asked, "?url")}"`,
      }));
    },
  };
  const { outputFiles } = await build({
    entryPoints: [path.join(ROOT, entry)],
    bundle: true,
    format: "esm",
    target: "es2022",
    plugins: [plugin],
    write: false,
    logLevel: "warning",
  });
  return outputFiles[0].text;
}

await ensureAll();
await ensureDebianPackages({ chromium: "chromium" });
