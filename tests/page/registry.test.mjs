// The page beside the API, and repositories and tags as people find them.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { archive } from "../edge/archive.mjs";
import { start } from "../edge/harness.mjs";
import { launch, visit } from "./browser.mjs";
import { image, index } from "./pushed.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

const tar = archive([{ path: "etc/hostname", content: Buffer.from("strata\n") }]);

describe("the page beside the API", () => {
  let strata;
  before(async () => (strata = await start({ page: true })));
  after(() => strata?.stop());

  test("is served at the root, with its policy", async () => {
    const { status, headers, body } = await strata.send("GET", "/", { headers: { authorization: undefined } });
    assert.equal(status, 200);
    assert.match(headers["content-type"], /^text\/html/);
    assert.match(body.toString(), /<div id="page">/);
    const policy = headers["content-security-policy"].split("; ");
    assert.ok(policy.includes("default-src 'none'"));
    assert.ok(policy.includes("script-src 'self' 'wasm-unsafe-eval'"));
    assert.ok(!policy.some((line) => /unsafe-inline|https?:|\*/.test(line)), policy.join("\n"));
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["referrer-policy"], "no-referrer");
    assert.match(headers["x-frame-options"], /DENY/);
  });

  test("names no other host", async () => {
    const { body } = await strata.send("GET", "/");
    const files = [...body.toString().matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file);
    assert.ok(files.length >= 3);
    for (const file of files) {
      assert.match(file, /^\.\//);
      const reply = await strata.send("GET", file.slice(1));
      assert.equal(reply.status, 200, file);
    }
  });

  test("has the documentation that the list of extensions names", async () => {
    const { extensions } = (await strata.send("GET", "/v2/_oci/ext/discover")).json();
    const { url } = extensions.find(({ name }) => name === "_strata");
    const { origin, pathname } = new URL(url);
    assert.equal(origin, strata.url.origin);
    const { status, headers, body } = await strata.send("GET", pathname, { headers: { authorization: undefined } });
    assert.equal(status, 200);
    assert.match(headers["content-type"], /^text\/markdown/);
    assert.match(body.toString(), /^# The `_strata` extension\n/);
    assert.doesNotMatch(body.toString(), /\]\((?!https:)/);
  });

  test("never answers for the API, not even with files of the same names", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "strata-assets-"));
    t.after(() => rm(folder, { recursive: true }));
    for (const file of [
      "index.html",
      "metrics",
      "healthz",
      "readyz",
      "v2/index.html",
      "v2/_catalog",
      "v2/a/tags/list",
      "v2/_strata/token",
    ]) {
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, file), "a file");
    }
    const strata = await start({ page: folder });
    t.after(() => strata.stop());
    assert.equal((await strata.send("GET", "/")).body.toString(), "a file");
    const bare = { headers: { authorization: undefined } };
    for (const path of [
      "/v2",
      "/v2/",
      "/v2/_catalog",
      "/v2/a/tags/list",
      "/v2/index.html",
      "/v2/../v2/",
      "/metrics",
      "/v2/_strata/token?service=strata",
    ]) {
      const { headers, status } = await strata.send("GET", path, bare);
      assert.ok(headers["x-request-id"], `${path} was answered by the Worker`);
      assert.ok([401, 403, 404].includes(status), `${path}: ${status}`);
    }
    for (const path of ["/healthz", "/readyz"]) {
      const { body, headers, status } = await strata.send("GET", path, bare);
      assert.deepEqual([status, body.toString(), headers["cache-control"]], [200, '{"status":"ok"}', "no-store"], path);
    }
    assert.equal((await strata.send("GET", "/v2/")).headers["docker-distribution-api-version"], "registry/2.0");
    for (const method of ["PUT", "POST", "PATCH", "DELETE"]) {
      assert.ok((await strata.send(method, "/v2/a/manifests/index.html", bare)).headers["x-request-id"], method);
    }
  });

  test("has no fallback for unknown paths", async () => {
    for (const path of ["/nothing", "/library/alpine", "/v3/", "/_headers"]) {
      const { status, headers, body } = await strata.send("GET", path);
      assert.equal(status, 404, path);
      assert.ok(headers["x-request-id"], path);
      assert.match(body.toString(), /"errors"/);
    }
  });
});

describe("a registry", () => {
  let strata;
  before(async () => (strata = await start({ page: true })));
  after(() => strata?.stop());

  test("that is empty shows commands for the first push", async () => {
    const visited = await visit(browser, strata, { signedIn: true });
    await visited.page.getByText("There are no repositories yet").waitFor();
    await visited.page.getByText(`docker push ${strata.host}/library/alpine`).waitFor();
    await visited.clean({ expected: /401/ });
    assert.deepEqual(await visited.faults(), []);
    await visited.close();
  });

  test("shows repositories and tags, by clicking, by address and by keyboard", async () => {
    for (let at = 0; at < 30; at += 1) await image(strata, `team/app-${String(at).padStart(2, "0")}`, "1.0", [{ tar }]);
    const amd = await image(strata, "library/alpine", "amd", [{ tar }]);
    const arm = await image(strata, "library/alpine", "arm", [{ tar }], { architecture: "arm64" });
    await index(strata, "library/alpine", "latest", [
      [amd, { os: "linux", architecture: "amd64" }],
      [arm, { os: "linux", architecture: "arm64" }],
    ]);
    const visited = await visit(browser, strata, { signedIn: true });
    const { page } = visited;
    const row = page.getByRole("row", { name: /library\/alpine/ });
    await row.getByRole("cell").getByText("linux/amd64").waitFor();
    assert.match(await row.innerText(), /pushed[\s\S]*3[\s\S]*latest[\s\S]*\+ 1/);

    // Go to the next page, and back.
    assert.equal(await page.getByRole("row").count(), 26);
    await page.getByRole("link", { name: "Next page" }).click();
    await page.getByRole("link", { name: "team/app-29" }).waitFor();
    assert.match(page.url(), /last=team%2Fapp-23/);
    await page.goBack();
    await row.waitFor();

    // Search by keyboard.
    await page.keyboard.press("/");
    await page.keyboard.type("alp");
    await page.getByRole("link", { name: "team/app-00" }).waitFor({ state: "detached" });
    assert.match(page.url(), /q=alp/);
    await page.getByRole("link", { name: "library/alpine" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "library/alpine" }).waitFor();
    await page
      .getByRole("row", { name: /latest/ })
      .getByRole("cell")
      .getByText("+ 1")
      .waitFor();
    assert.equal(await page.getByRole("row").count(), 4);
    assert.deepEqual(await visited.faults(), []);
    await visited.clean({ expected: /401/ });
    await visited.close();
  });

  test("shows which repositories are mirrored, and sends no request for them by itself", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    await page.route(/_catalog/, (route) =>
      route.fulfill({
        json: {
          repositories: ["docker.io/library/alpine", "library/alpine"],
          mirrored: { "docker.io/library/alpine": "docker.io" },
        },
      }),
    );
    await visited.signIn();
    await page
      .getByRole("row", { name: /docker\.io/ })
      .getByText("mirrors docker.io")
      .waitFor();
    await page
      .getByRole("row", { name: /^library\/alpine/ })
      .getByRole("cell")
      .getByText("linux/amd64")
      .waitFor();
    assert.deepEqual(
      visited.requests().filter(({ path }) => path.includes("docker.io")),
      [],
    );
    await visited.clean({ expected: /401/ });
    await visited.close();
  });

  test("accepts a token as well as a password", async () => {
    const { token } = (
      await strata.send("GET", "/v2/_strata/token?service=strata&scope=repository:library/alpine:pull")
    ).json();
    const visited = await visit(browser, strata);
    const { page } = visited;
    await visited.turn("#/library/alpine");
    await page.getByRole("dialog").waitFor();
    await visited.signIn("", "nothing of the sort");
    await page.getByText("the registry did not accept these credentials").waitFor();
    await visited.signIn("", token);
    await page
      .getByRole("row", { name: /latest/ })
      .getByRole("cell")
      .getByText("+ 1")
      .waitFor();
    assert.ok(visited.requests().every(({ headers }) => !headers.cookie));
    await visited.clean({ expected: /401/ });
    await visited.close();
  });

  test("asks unknown callers to sign in, in the page", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    await page.getByRole("dialog").waitFor();
    await page.getByLabel("User").fill("tester");
    await page.getByLabel("Password or token").fill("wrong");
    await page.getByRole("dialog").getByRole("button", { name: "Sign in" }).click();
    await page.getByText("does not know this user").waitFor();
    await visited.signIn();
    await page.getByRole("link", { name: "library/alpine" }).waitFor();
    const kept = await page.evaluate(() =>
      JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
    );
    assert.ok(!/tester|correct|basic/i.test(kept), kept);
    await page.reload();
    await page.getByRole("dialog").waitFor();
    await visited.clean({ expected: /401/ });
    await visited.close();
  });
});
