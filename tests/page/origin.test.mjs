// Files of images never run or style in the registry's origin, and pages of other sites can't use
// anybody's credentials. This is in a real browser.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { digestOf } from "../edge/bytes.mjs";
import { password, start, user } from "../edge/harness.mjs";
import { folder, PICTURE } from "./archives.mjs";
import { launch, visit } from "./browser.mjs";
import { blob, image, manifest } from "./pushed.mjs";

const NAME = "evil/files";
const PLACE = `/v2/${NAME}/_strata/images/latest/files/`;
const CONFIG = "application/vnd.oci.image.config.v1+json";

/** Returns a script that records the address by which it ran, and the origin. */
const noted = (address) =>
  `(globalThis.ran ??= []).push(new URL(${address}).searchParams.get("how") + " in " + self.origin);`;
const CLASSIC = `${noted("globalThis.document?.currentScript?.src || globalThis.document?.currentScript?.href?.baseVal || location.href")} globalThis.document || globalThis.postMessage?.("ran"); globalThis.onconnect = ({ ports: [port] }) => port.postMessage("ran");`;
const script = (of) => `<script>${of}</script>`;
const NAMED = noted("location.href");
const PDF =
  "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n";

const FILES = {
  "x.js": CLASSIC,
  "x.mjs": `${noted("import.meta.url")} export default 1;`,
  "x.css": "html { --styled: yes }",
  "x.html": `<!doctype html><link rel=stylesheet href=x.css>${script(NAMED)}<script src="x.js?how=from-html"></script>`,
  "x.svg": `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" fill="teal"/>${script(NAMED)}</svg>`,
  "x.xml": `<?xml version="1.0"?><?xml-stylesheet href="x.css" type="text/css"?><html xmlns="http://www.w3.org/1999/xhtml"><script>${NAMED}</script></html>`,
  "x.xhtml": `<html xmlns="http://www.w3.org/1999/xhtml"><head><link rel="stylesheet" href="x.css"/></head><body><script>${NAMED}</script></body></html>`,
  "x.pdf": PDF,
  "x.wasm": Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]),
  "x.json": '{"json": true}',
  "x.vtt": "WEBVTT\n\n00:00.000 --> 00:09.000\ntext\n",
  "x.txt": "text\n",
  "x.png": PICTURE,
};

/** The types of a careless server, which show the effect of each way to load the files. */
const CARELESS = {
  js: "text/javascript",
  mjs: "text/javascript",
  css: "text/css",
  html: "text/html",
  svg: "image/svg+xml",
  xml: "application/xml",
  xhtml: "application/xhtml+xml",
  pdf: "application/pdf",
  wasm: "application/wasm",
  json: "application/json",
  vtt: "text/vtt",
  txt: "text/plain",
  png: "image/png",
};

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

describe("files of an image", () => {
  let strata;
  let pushed;
  before(async () => {
    strata = await start({ page: true, vars: { STRATA_ANONYMOUS_PULL: "true" } });
    // An attacker knows the registry's address. A document from memory needs absolute addresses.
    FILES["x.svg"] = FILES["x.svg"].replace(
      "</svg>",
      `<script href="${strata.url.origin}${PLACE}x.js?how=from-svg"/></svg>`,
    );
    const of = await image(strata, NAME, "latest", [{ tar: await folder(FILES) }]);
    const code = await blob(strata, NAME, Buffer.from(CLASSIC), "text/javascript");
    const page = await blob(strata, NAME, Buffer.from(FILES["x.html"]), "text/html");
    const drawing = await blob(strata, NAME, Buffer.from(FILES["x.svg"]), "image/svg+xml");
    const { config, layers } = of;
    const odd = {};
    for (const type of ["application/javascript", "application/xhtml+xml", "application/xml", "application/pdf"]) {
      odd[type] = await manifest(strata, NAME, undefined, {
        mediaType: type,
        config: { ...config, mediaType: CONFIG },
        layers,
        annotations: {
          markup: "<html xmlns='http://www.w3.org/1999/xhtml'><script>globalThis.ran = ['manifest']</script></html>",
        },
      });
    }
    pushed = { code, page, drawing, odd };
  });
  after(() => strata?.stop());

  const below = (place) => Object.fromEntries(Object.keys(FILES).map((name) => [name, place + name]));

  /**
   * Loads files by all means, in a document of the registry's origin without a policy. Returns the
   * means that have an effect.
   */
  async function attempts(files) {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    await context.route(`${strata.url.origin}/bare.html`, (route) =>
      route.fulfill({ contentType: "text/html", body: "<!doctype html><body>" }),
    );
    await context.route(`${strata.url.origin}/careless/**`, (route) => {
      const name = new URL(route.request().url()).pathname.split("/").at(-1);
      return route.fulfill({ contentType: CARELESS[name.split(".").at(-1)], body: FILES[name] });
    });
    await page.goto(`${strata.url.origin}/bare.html`);
    const ended = new Set();
    for (const event of ["requestfinished", "requestfailed"])
      context.on(event, (request) => ended.add(new URL(request.url()).searchParams.get("how")));
    const tabs = [];
    context.on("page", (tab) => tabs.push(tab));
    const done = await page.evaluate(loadAll, files);
    for (const [name, address] of Object.entries(files))
      await page.evaluate((to) => void open(to), `${address}?how=tab-${name}`);
    // Documents load by themselves: each gets a reply, and then loads its own resources.
    const documents = Object.keys(files).flatMap((name) =>
      ["iframe", "object", "embed", "tab"].map((means) => `${means}-${name}`),
    );
    // An <embed> without a document fires no event, so these get a second more.
    for (
      let turns = 0;
      turns < 10;
      turns += documents.some((how) => !ended.has(how) && !how.startsWith("embed")) ? 0 : 1
    ) {
      for (const how of await page.evaluate(() => globalThis.settled)) ended.add(how);
      if (documents.every((how) => ended.has(how))) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await Promise.all(
      [page, ...tabs]
        .flatMap((of) => of.frames())
        .map((frame) => frame.waitForLoadState("load", { timeout: 2000 }).catch(() => {})),
    );
    for (const frame of [page, ...tabs].flatMap((of) => (of.isClosed() ? [] : of.frames()))) {
      const seen = await frame
        .evaluate(() => ({
          ran: globalThis.ran ?? [],
          origin: self.origin,
          styled: getComputedStyle(document.documentElement).getPropertyValue("--styled"),
          how: new URL(location.href).searchParams?.get("how"),
        }))
        .catch(() => undefined);
      if (!seen) continue;
      done.push(
        ...seen.ran.filter((one) => one.endsWith(` in ${strata.url.origin}`)).map((one) => one.split(" in ")[0]),
      );
      if (seen.styled === "yes" && seen.origin === strata.url.origin && seen.how) done.push(`style of ${seen.how}`);
    }
    await context.close();
    return [...new Set(done)].sort();
  }

  test("neither run nor style if a document of the origin loads them, by any means", async () => {
    const careless = await attempts(below("/careless/"));
    // Each means works here. Otherwise the assertion below would prove nothing.
    for (const means of [
      "script x.js",
      "module x.mjs",
      "import x.mjs",
      "importScripts x.js",
      "worker x.js",
      "shared-worker x.js",
      "service-worker x.js",
      "link x.css",
      "@import x.css",
      "css module x.css",
      "json module x.json",
      "wasm x.wasm",
      "iframe-x.html",
      "iframe-x.svg",
      "iframe-x.xml",
      "iframe-x.xhtml",
      "object-x.html",
      "object-x.svg",
      "embed-x.html",
      "embed-x.svg",
      "tab-x.html",
      "tab-x.svg",
      "tab-x.xml",
      "tab-x.xhtml",
      "from-html",
      "style of iframe-x.html",
    ]) {
      assert.ok(careless.includes(means), `${means} has no effect:\n${careless.join("\n")}`);
    }
    assert.deepEqual(await attempts(below(PLACE)), []);
  });

  test("do nothing as blobs, by their digests", async () => {
    const of = ({ digest }) => `/v2/${NAME}/blobs/${digest}`;
    const files = {
      "x.js": of(pushed.code),
      "x.mjs": of(pushed.code),
      "x.html": of(pushed.page),
      "x.xhtml": of(pushed.page),
      "x.svg": of(pushed.drawing),
    };
    assert.deepEqual(await attempts(files), []);
  });

  test("do nothing as manifests of any media type, lists and errors", async () => {
    const of = (type) => `/v2/${NAME}/manifests/${pushed.odd[type].digest}`;
    const files = {
      "x.js": of("application/javascript"),
      "x.mjs": of("application/javascript"),
      "x.xhtml": of("application/xhtml+xml"),
      "x.xml": of("application/xml"),
      "x.pdf": of("application/pdf"),
      "x.html": PLACE,
      "x.svg": "/v2/%3Cscript%3EglobalThis.ran=1%3C/script%3E",
    };
    assert.deepEqual(await attempts(files), []);
  });

  test("that are pictures are shown by the page, and run nothing when they are opened in a new tab", async () => {
    for (const [name, size] of [
      ["x.svg", "40 × 40"],
      ["x.png", "1 × 1"],
    ]) {
      const visited = await visit(browser, strata);
      const { page } = visited;
      await visited.turn(`#/${NAME}/_files/latest/${name}`);
      await page.getByRole("img", { name }).waitFor();
      await page.getByText(size).waitFor();
      const address = await page.getByRole("img", { name }).getAttribute("src");
      // Open the picture as a script of the page does, with the page's origin and policy if the
      // address has them. Then open it as the browser does. Chromium opens no tab for a data:
      // address of a script.
      const [popup] = await Promise.all([
        page.waitForEvent("popup", { timeout: 2000 }).catch(() => undefined),
        page.evaluate((to) => void window.open(to), address),
      ]);
      assert.ok(popup || address.startsWith("data:"));
      const typed = await page.context().newPage();
      await typed.goto(address).catch(() => {});
      for (const tab of [popup, typed].filter(Boolean)) {
        await tab.waitForLoadState("networkidle");
        const seen = await tab.evaluate(() => ({
          ran: globalThis.ran ?? [],
          origin: self.origin,
          href: location.href.slice(0, 30),
        }));
        assert.deepEqual(
          seen.ran.filter((one) => one.includes("from-svg") || one.endsWith(strata.url.origin)),
          [],
          `${name} at ${seen.href} in ${seen.origin}`,
        );
        const isDrawing = seen.href.startsWith("blob:") || seen.href.startsWith("data:");
        assert.ok(
          !(name.endsWith(".svg") && isDrawing && seen.origin === strata.url.origin),
          "an SVG is a document of the registry's origin",
        );
      }
      await visited.clean({ expected: /Not allowed to navigate top frame to data URL/ });
      await visited.close();
    }
  });

  test("that are text are shown by the page as text", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    for (const [name, shown] of [
      ["x.html", "<!doctype html>"],
      ["x.js", "globalThis.ran"],
      ["x.css", "--styled"],
      ["x.xml", "<?xml"],
      ["x.json", '"json"'],
      ["x.txt", "text"],
    ]) {
      await visited.turn(`#/${NAME}/_files/latest/${name}`);
      await page.getByRole("region", { name: "Text" }).getByText(shown).first().waitFor();
    }
    assert.equal(await page.evaluate(() => globalThis.ran), undefined);
    await visited.clean();
    await visited.close();
  });

  test("are not loaded by pages of other origins", async (t) => {
    const { url } = await foreign(t, "127.0.0.1");
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(url);
    const loads = (address) =>
      page.evaluate(
        (to) =>
          new Promise((resolve) =>
            Object.assign(new Image(), { onload: () => resolve(true), onerror: () => resolve(false), src: to }),
          ),
        address,
      );
    assert.equal(await loads(`data:image/png;base64,${PICTURE.toString("base64")}`), true);
    assert.equal(await loads(`${strata.url.origin}${PLACE}x.png`), false);
    assert.equal(await loads(`${strata.url.origin}/icon.svg`), false);
    const answered = (address) =>
      page.evaluate(
        (to) =>
          fetch(to, { mode: "no-cors" }).then(
            () => true,
            () => false,
          ),
        address,
      );
    for (const path of ["/v2/", "/metrics", "/v2/nothing", PLACE, `/v2/${NAME}/manifests/latest`, "/"])
      assert.equal(await answered(strata.url.origin + path), false, path);
    await context.close();
  });
});

describe("a browser that signed in by its own prompt", () => {
  let strata;
  const bytes = Buffer.from("somebody else's\n");
  before(async () => {
    strata = await start({ page: true });
    await blob(strata, "theirs", bytes, "application/octet-stream");
  });
  after(() => strata?.stop());

  for (const [site, host] of [
    ["another site", "localhost"],
    ["another port of the same host", "127.0.0.1"],
  ]) {
    test(`changes nothing for a page of ${site}`, async (t) => {
      const { url } = await foreign(t, host);
      const context = await browser.newContext({
        httpCredentials: { username: user, password, origin: strata.url.origin, send: "unauthorized" },
      });
      const page = await context.newPage();
      page.setDefaultTimeout(10_000);
      assert.equal((await page.goto(`${strata.url.origin}/metrics`)).status(), 200);
      const asked = [];
      context.on("request", (request) => request.url().startsWith(strata.url.origin) && asked.push(request));
      const mount = `${strata.url.origin}/v2/mine/blobs/uploads/?mount=${digestOf(bytes)}&from=theirs`;
      const sweep = `${strata.url.origin}/v2/_strata/sweep`;
      const targets = [mount, sweep];
      const answers = async () => {
        const all = Object.entries(await strata.metrics());
        return Object.fromEntries(
          all.filter(([name]) => /^strata_requests_total\{.*"(sweep|start_upload|layer_file)"/.test(name)),
        );
      };
      const before = await answers();
      await strata.reset();

      await page.goto(url);
      for (const target of targets) {
        await page.evaluate(
          (to) => fetch(to, { method: "POST", mode: "no-cors", credentials: "include" }).catch(() => {}),
          target,
        );
        await page.evaluate((to) => fetch(to, { method: "DELETE", credentials: "include" }).catch(() => {}), target);
        await page.goto(url);
        await page.evaluate((to) => {
          const form = Object.assign(document.createElement("form"), { method: "POST", action: to });
          document.body.append(form);
          form.submit();
        }, target);
        await page.waitForURL(target);
        assert.match(await page.locator("body").innerText(), /DENIED.*a page of another site/s);
        await page.goto(url);
      }
      await page.evaluate(
        (to) => new Promise((resolve) => Object.assign(new Image(), { onload: resolve, onerror: resolve, src: to })),
        `${strata.url.origin}/v2/theirs/_strata/layers/${digestOf(bytes)}/files/x.png`,
      );

      assert.deepEqual(await strata.calls(), []);
      const after = await answers();
      const grown = Object.entries(after).filter(([name, count]) => count !== (before[name] ?? 0));
      const statuses = grown.map(
        ([name, count]) =>
          `${/route="(\w+)"/.exec(name)[1]} ${/status="(\d+)"/.exec(name)[1]} ×${count - (before[name] ?? 0)}`,
      );
      for (const expected of ["sweep 403 ×2", "start_upload 403 ×2", "layer_file 403 ×1"])
        assert.ok(statuses.includes(expected), statuses.join(", "));
      const sent = await Promise.all(
        asked.filter((request) => request.method() === "POST").map((request) => request.allHeaders()),
      );
      assert.equal(sent.length, 4);
      assert.ok(
        sent.some(({ authorization }) => /^Basic /.test(authorization ?? "")),
        "the browser sent its stored credentials",
      );

      // The registry's own page and typed addresses work.
      await page.goto(`${strata.url.origin}/`);
      const status = (to) =>
        page.evaluate((target) => fetch(target, { method: "POST" }).then(({ status }) => status), to);
      assert.equal(await status(mount), 201);
      assert.equal(await status(`${sweep}?dry-run`), 200);
      assert.equal((await page.goto(`${strata.url.origin}/v2/_catalog`)).status(), 200);
      await context.close();
    });
  }
});

/**
 * Runs in a page: loads each file by each means, and returns those with an effect. Documents record
 * theirs themselves.
 */
async function loadAll(files) {
  const done = [];
  globalThis.settled = [];
  const how = (means, name) => `${files[name]}?how=${encodeURIComponent(`${means} ${name}`)}`;
  const settled = (element) =>
    new Promise((resolve) => Object.assign(element, { onload: () => resolve(true), onerror: () => resolve(false) }));
  const add = (tag, set, parent = document.body) => {
    const element = Object.assign(document.createElement(tag), set);
    const ended = settled(element);
    parent.append(element);
    return ended;
  };
  const styled = () => getComputedStyle(document.documentElement).getPropertyValue("--styled") === "yes";
  const works = async (means, name, work) => {
    if (
      await Promise.resolve()
        .then(work)
        .catch(() => false)
    )
      done.push(`${means} ${name}`);
  };
  for (const name of Object.keys(files)) {
    await add("script", { src: how("script", name) });
    await add("script", { type: "module", src: how("module", name) });
    await import(how("import", name)).catch(() => {});
    const heard = (of) =>
      new Promise((resolve) =>
        Object.assign(of, { onmessage: ({ data }) => resolve(data === "ran"), onerror: () => resolve(false) }),
      );
    await works("worker", name, () => heard(new Worker(how("worker", name))));
    await works("importScripts", name, () => {
      const own = `try { importScripts(${JSON.stringify(new URL(how("importScripts", name), location.href).href)}); } catch {} postMessage(globalThis.ran?.length ? "ran" : "nothing");`;
      return heard(new Worker(URL.createObjectURL(new Blob([own], { type: "text/javascript" }))));
    });
    // A shared worker that loads and then fails fires no event.
    if (name === "x.js")
      await works("shared-worker", name, () => {
        const worker = new SharedWorker(how("shared-worker", name));
        return new Promise((resolve) => {
          worker.onerror = () => resolve(false);
          worker.port.onmessage = ({ data }) => resolve(data === "ran");
        });
      });
    await works("service-worker", name, async () => {
      const registration = await navigator.serviceWorker.register(how("service-worker", name));
      await registration.unregister();
      return true;
    });
    await works("link", name, async () => {
      await add("link", { rel: "stylesheet", href: how("link", name) });
      const found = styled();
      for (const one of document.querySelectorAll("link")) one.remove();
      return found;
    });
    await works("@import", name, async () => {
      await add("style", { textContent: `@import url("${how("import-rule", name)}");` });
      const found = styled();
      for (const one of document.querySelectorAll("style")) one.remove();
      return found;
    });
    await works(
      "css module",
      name,
      async () => (await import(how("css-module", name), { with: { type: "css" } })).default instanceof CSSStyleSheet,
    );
    await works(
      "json module",
      name,
      async () => (await import(how("json-module", name), { with: { type: "json" } })).default.json === true,
    );
    await works(
      "wasm",
      name,
      async () => (await WebAssembly.compileStreaming(fetch(how("wasm", name)))) instanceof WebAssembly.Module,
    );
    for (const [tag, property] of [
      ["iframe", "src"],
      ["object", "data"],
      ["embed", "src"],
    ]) {
      void add(tag, { [property]: `${files[name]}?how=${tag}-${name}` }).then(() =>
        globalThis.settled.push(`${tag}-${name}`),
      );
    }
  }
  return done;
}

/** Serves a page of another origin than the registry's, at this host name. */
async function foreign(t, host) {
  const server = http.createServer((_, response) =>
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>another site</title><body>"),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://${host}:${server.address().port}/` };
}
