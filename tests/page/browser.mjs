// Debian's Chromium in front of the built Worker. It records requests, the console, and violations
// of the page's policy.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { find } from "../../scripts/command.mjs";
import { ensureDebianPackages } from "../../scripts/setup.mjs";
import { password, user } from "../edge/harness.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Launches the browser, which is installed first if setup may do that. */
export async function launch() {
  await ensureDebianPackages({ chromium: "chromium" });
  return chromium.launch({ executablePath: find("chromium"), args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** Opens a page of a running Worker in a browser context of its own. */
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

  /** Loads the page at an address. Its memory is empty then, and so is the list of requests. */
  async go(fragment) {
    await this.page.goto("about:blank");
    this.asked.length = 0;
    await this.page.goto(new URL(`/${fragment}`, this.strata.url).href);
  }

  /** Goes to another address, as a link does. */
  async turn(fragment) {
    await this.page.evaluate((hash) => (location.hash = hash), fragment);
  }

  async signIn(name = user, secret = password) {
    const { page } = this;
    const dialog = page.getByRole("dialog");
    // If the registry requires credentials, the page opens the dialog by itself.
    await dialog
      .waitFor({ timeout: 2000 })
      .catch(() => page.getByRole("banner").getByRole("button", { name: "Sign in" }).click());
    await dialog.getByLabel("User").fill(name);
    await dialog.getByLabel("Password or token").fill(secret);
    await dialog.getByRole("button", { name: "Sign in" }).click();
    // A token is tried by the first request that uses it, and the dialog may be back at once.
    if (name) await dialog.waitFor({ state: "hidden" });
  }

  /** Returns the serious faults that axe finds. */
  async faults() {
    // Run axe by the debugger, which the page's policy does not restrict.
    await this.page.evaluate(axe);
    const found = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const serious = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return serious.map(
      ({ id, nodes }) =>
        `${id}: ${nodes.map(({ html, any }) => `${html.slice(0, 160)} ${any.map(({ message }) => message).join("; ")}`).join(" | ")}`,
    );
  }

  /**
   * Asserts that the console is empty, and that the policy refused nothing. `expected` matches
   * messages about refusals that a test wants.
   */
  async clean({ expected = /^$/ } = {}) {
    assert.deepEqual(
      this.said.filter((line) => !expected.test(line)),
      [],
    );
    assert.deepEqual(await this.page.evaluate(() => globalThis.refused), []);
  }

  /** Returns the requests to the API since the last call. */
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
