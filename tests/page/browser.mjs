// Debian's Chromium before the built Worker: what the page asked for, what it said in the console, what its policy refused.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { find } from "../../scripts/command.mjs";
import { ensureDebianPackages } from "../../scripts/setup.mjs";
import { password, user } from "../edge/harness.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The browser, installed where that is ours to do. */
export async function launch() {
  await ensureDebianPackages({ chromium: "chromium" });
  return chromium.launch({ executablePath: find("chromium"), args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page of its own in the browser, before a running Worker. */
export async function visit(browser, strata, { width = 1280, height = 800, scheme = "light", signedIn = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    ignoreHTTPSErrors: true,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const said = [];
  const asked = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
  page.on("pageerror", (error) => said.push(`${error.stack}`));
  page.on("request", (request) =>
    asked.push({ method: request.method(), url: request.url(), headers: request.headers() }),
  );
  await context.addInitScript(() => {
    globalThis.refused = [];
    addEventListener("securitypolicyviolation", (event) =>
      globalThis.refused.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
    );
  });
  const visited = new Visited(page, strata, said, asked);
  await visited.go("#/");
  if (signedIn) await visited.signIn();
  return visited;
}

class Visited {
  constructor(page, strata, said, asked) {
    this.page = page;
    this.strata = strata;
    this.said = said;
    this.asked = asked;
  }

  /** Opens the page at an address. What is in its memory is gone, and what was asked for. */
  async go(fragment) {
    await this.page.goto("about:blank");
    this.asked.length = 0;
    await this.page.goto(new URL(`/${fragment}`, this.strata.url).href);
  }

  /** Goes to another address, as by a link. */
  async turn(fragment) {
    await this.page.evaluate((hash) => (location.hash = hash), fragment);
  }

  async signIn(name = user, secret = password) {
    const { page } = this;
    const dialog = page.getByRole("dialog");
    // Where the registry asks for it, the page does by itself.
    await dialog
      .waitFor({ timeout: 2000 })
      .catch(() => page.getByRole("banner").getByRole("button", { name: "Sign in" }).click());
    await dialog.getByLabel("User").fill(name);
    await dialog.getByLabel("Password or token").fill(secret);
    await dialog.getByRole("button", { name: "Sign in" }).click();
    // What is not a user's is tried where it is used, and the dialog may be back at once.
    if (name) await dialog.waitFor({ state: "hidden" });
  }

  /** What axe finds that is serious. */
  async faults() {
    // By the debugger, which the page's policy does not bind.
    await this.page.evaluate(axe);
    const found = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const serious = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return serious.map(
      ({ id, nodes }) =>
        `${id}: ${nodes.map(({ html, any }) => `${html.slice(0, 160)} ${any.map(({ message }) => message).join("; ")}`).join(" | ")}`,
    );
  }

  /** Nothing was said in the console, and nothing refused by the policy. A refusal of the registry's that a test wants is `expected`. */
  async clean({ expected = /^$/ } = {}) {
    assert.deepEqual(
      this.said.filter((line) => !expected.test(line)),
      [],
    );
    assert.deepEqual(await this.page.evaluate(() => globalThis.refused), []);
  }

  /** What was asked of the API since the last time. */
  requests() {
    const all = this.asked.splice(0);
    return all
      .filter(({ url }) => new URL(url).pathname.startsWith("/v2"))
      .map((one) => ({ ...one, path: new URL(one.url).pathname + new URL(one.url).search }));
  }

  async close() {
    await this.page.context().close();
  }
}
