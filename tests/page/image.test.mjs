// An image, its files and its referrers, as people find them: by clicks, by address, by keyboard.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { start } from "../edge/harness.mjs";
import { image as real, unavailable } from "../images/images.mjs";
import { blobPath } from "../images/layout.mjs";
import { folder, lines, many, named, PICTURE } from "./archives.mjs";
import { launch, visit } from "./browser.mjs";
import { artifact, image, index } from "./pushed.mjs";

const JSON_FILE = JSON.stringify({ name: "app", nested: { list: [1, 2, 3] } });
const SCRIPT = '#!/bin/sh\n# starts it\nfor i in 1 2 3; do\n  echo "hello $i"\ndone\n';
const HTML = "<img src=x onerror=globalThis.hacked=1>";
const HIDDEN = "invoice\u202Egnp.exe";
const LONG = "x".repeat(4096);

describe("an image", { skip: unavailable() }, () => {
  let browser;
  let strata;
  let tars;
  let pushed;

  /** Returns the content of a file in a layer, as tar extracts it. */
  const inTar = (layer, path) =>
    execFileSync("tar", ["--extract", "--to-stdout", path], { input: tars[layer], maxBuffer: 1 << 30 });
  const look = async (address, options) => {
    const visited = await visit(browser, strata, options);
    await visited.go(address);
    return visited;
  };
  const text = (page) =>
    page
      .getByRole("region", { name: "Text" })
      .locator("code")
      .allInnerTexts()
      .then((all) => all.map((line) => line.replace(/\n$/, "")).join("\n"));

  before(async () => {
    browser = await launch();
    const busybox = await real("busybox");
    const base = gunzipSync(await readFile(blobPath(busybox.layout, busybox.blobs[1].digest)));
    const app = await folder({
      "etc/app.json": JSON_FILE,
      "etc/run.sh": SCRIPT,
      "etc/old.conf": "old\n".repeat(1000),
      "srv/logo.png": PICTURE,
      "srv/bytes": Buffer.from([0, 1, 2, 255]),
      "srv/empty": "",
      "srv/to-script": { link: "../etc/run.sh" },
    });
    const top = await folder({
      "etc/.wh.old.conf": "",
      "etc/app.json": JSON_FILE.replace("app", "changed"),
      "srv/new": "new\n",
    });
    tars = [base, app, top];
    strata = await start({ page: true, vars: { STRATA_ANONYMOUS_PULL: "true" } });
    const layers = [
      { tar: base, history: "ADD rootfs.tar / # buildkit", empty: ['CMD ["sh"]'] },
      { tar: app, history: "COPY . / # buildkit" },
      { tar: top, history: "RUN /bin/sh -c rm /etc/old.conf # buildkit", empty: ["EXPOSE 8080"] },
    ];
    const config = {
      Env: ["LANG=C.UTF-8"],
      Entrypoint: ["/etc/run.sh"],
      Cmd: ["two words"],
      ExposedPorts: { "8080/tcp": {} },
      User: "app",
      Labels: { "org.example": HTML },
    };
    const amd = await image(strata, "team/app", "1.0", layers, { config });
    const arm = await image(strata, "team/app", "1.0-arm", layers.slice(0, 1), { config, architecture: "arm64" });
    const both = await index(strata, "team/app", "latest", [
      [amd, { os: "linux", architecture: "amd64" }],
      [arm, { os: "linux", architecture: "arm64", variant: "v8" }],
    ]);
    const signature = await artifact(strata, "team/app", amd, "application/vnd.example.signature", '{"signed":true}');
    const attestation = await artifact(strata, "team/app", signature, "application/vnd.example.countersignature", "{}");
    pushed = { amd, arm, both, signature, attestation };
  });
  after(async () => {
    await browser?.close();
    await strata?.stop();
  });

  test("is found by clicking, from the registry to a line of a file", async () => {
    const visited = await look("#/");
    const { page } = visited;
    await page.getByRole("link", { name: "team/app" }).click();
    await page.getByRole("link", { name: "1.0", exact: true }).click();
    await page.getByRole("heading", { name: "team/app:1.0" }).waitFor();
    await page.getByRole("link", { name: "Browse files" }).click();
    await page.getByRole("row", { name: /^etc/ }).click();
    await page.getByRole("link", { name: "run.sh", exact: true }).click();
    await page.getByRole("region", { name: "Text" }).getByText("starts it").waitFor();
    assert.equal(`${await text(page)}\n`, inTar(1, "./etc/run.sh").toString());
    await page.goBack();
    // The directory is still open.
    await page.getByRole("link", { name: "app.json", exact: true }).waitFor();
    await page.goBack();
    await visited.clean();
    await visited.close();
  });

  test("has an address for every view, which survives reload and the back button", async () => {
    const views = [
      ["#/team/app/_image/latest", (page) => page.getByRole("heading", { name: "team/app:latest" })],
      [`#/team/app/_image/${pushed.arm.digest}`, (page) => page.getByText("linux/arm64", { exact: true })],
      [`#/team/app/_image/${pushed.signature.digest}`, (page) => page.getByRole("link", { name: "content.json" })],
      [
        "#/team/app/_image/latest?platform=linux%2Farm64",
        (page) => page.getByRole("link", { name: "linux/arm64/v8", exact: true }).and(page.locator("[aria-current]")),
      ],
      ["#/team/app/_files/1.0/", (page) => page.getByRole("row", { name: /^bin/ })],
      ["#/team/app/_files/1.0/etc/", (page) => page.getByRole("link", { name: "run.sh" })],
      [`#/team/app/_files/1.0/?layer=${pushed.amd.layers[2].digest}`, (page) => page.getByRole("row", { name: /srv/ })],
      ["#/team/app/_files/1.0/?view=map", (page) => page.getByRole("link", { name: /^bin\/, / })],
      ["#/team/app/_files/1.0/?view=waste", (page) => page.getByText("Efficiency", { exact: true })],
      ["#/team/app/_files/1.0/?find=run.sh", (page) => page.getByRole("link", { name: "etc/run.sh" })],
      ["#/team/app/_files/1.0/etc/app.json", (page) => page.getByText('"changed"')],
      ["#/team/app/_files/1.0/srv/logo.png", (page) => page.getByRole("img", { name: "logo.png" })],
      ["#/team/app/_files/1.0/srv/bytes", (page) => page.getByText("00 01 02 ff")],
      ["#/team/app/_files/1.0/srv/empty", (page) => page.getByText("The file is empty")],
      [
        `#/team/app/_blob/${pushed.amd.config.digest}?type=application%2Fvnd.oci.image.config.v1%2Bjson`,
        (page) => page.getByText('"architecture"'),
      ],
      ["#/_disk/", (page) => page.getByRole("button", { name: "Choose a file" })],
    ];
    const visited = await look("#/");
    const { page } = visited;
    await page.getByRole("link", { name: "team/app" }).waitFor();
    for (const [address, shown] of views) {
      await visited.turn(address);
      await shown(page).first().waitFor();
      await page.reload();
      await shown(page).first().waitFor();
    }
    // Go back through all of them.
    for (const [, shown] of views.toReversed().slice(1)) {
      await page.goBack();
      await shown(page).first().waitFor();
    }
    // No range of an empty file can be satisfied.
    await visited.clean({ expected: /416/ });
    await visited.close();
  });

  test("has no serious accessibility fault, in light, dark and at phone width", async () => {
    const places = [
      "#/team/app",
      "#/team/app/_image/latest",
      "#/team/app/_files/1.0/etc/",
      "#/team/app/_files/1.0/?view=map",
      "#/team/app/_files/1.0/?view=waste",
      "#/team/app/_files/1.0/?find=etc",
      "#/team/app/_files/1.0/etc/app.json",
      "#/team/app/_files/1.0/srv/bytes",
      "#/team/app/_files/1.0/srv/logo.png",
      "#/_disk/",
    ];
    for (const options of [{}, { scheme: "dark" }, { width: 390, height: 844 }]) {
      const visited = await look("#/", options);
      for (const place of places) {
        await visited.turn(place);
        await visited.page.waitForLoadState("networkidle");
        assert.deepEqual(await visited.faults(), [], `${place} ${JSON.stringify(options)}`);
        const wide = await visited.page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        assert.ok(wide <= 0, `${place} is ${wide} pixels too wide ${JSON.stringify(options)}`);
      }
      await visited.page.getByRole("button", { name: /Activity|requests/ }).click();
      assert.deepEqual(await visited.faults(), []);
      await visited.clean();
      await visited.close();
    }
  });

  test("is walked by keyboard", async () => {
    const visited = await look("#/team/app/_files/1.0/");
    const { page } = visited;
    await page.getByRole("row", { name: /^etc/ }).waitFor();
    await page.getByRole("treegrid").focus();
    const active = () => page.locator(".file.active .name").first().innerText();
    assert.equal(await active(), "bin");
    await page.keyboard.press("ArrowDown");
    assert.equal(await active(), "etc");
    await page.keyboard.press("ArrowRight");
    await page.getByRole("row", { name: /app.json/ }).waitFor();
    await page.keyboard.press("ArrowRight");
    assert.equal(await active(), "app.json");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await active(), "etc");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByText('"changed"').waitFor();
    assert.match(page.url(), /_files\/1\.0\/etc\/app\.json$/);
    await visited.clean();
    await visited.close();
  });

  test("shows layers beside their steps, its configuration, and commands to pull it", async () => {
    const visited = await look("#/team/app/_image/1.0");
    const { page } = visited;
    const layers = page.getByRole("region", { name: "Layers" }).getByRole("listitem");
    await layers.first().waitFor();
    const steps = (await layers.allInnerTexts()).map((line) => line.replace(/\s+/g, " "));
    assert.equal(steps.length, 5);
    assert.match(steps[0], /^ADD rootfs\.tar \/ .*(kB|MB).*files$/);
    assert.match(steps[1], /^CMD \["sh"\] no files$/);
    assert.match(steps[3], /^RUN \/bin\/sh -c rm \/etc\/old\.conf/);
    const configuration = await page.getByRole("region", { name: "Configuration" }).innerText();
    for (const part of ["/etc/run.sh", '"two words"', "8080/tcp", "LANG=C.UTF-8", `org.example=${HTML}`])
      assert.ok(configuration.includes(part), part);
    const pull = await page.getByRole("region", { name: "Pull" }).innerText();
    for (const line of [
      `docker pull ${strata.host}/team/app:1.0`,
      `crane pull --insecure ${strata.host}/team/app:1.0`,
      `skopeo copy --src-tls-verify=false docker://${strata.host}/team/app:1.0`,
      `regctl image export --host reg=${strata.host},tls=disabled ${strata.host}/team/app:1.0`,
    ]) {
      assert.ok(pull.includes(line), line);
    }
    // Each digest in the manifest is a link.
    const manifest = page.getByRole("region", { name: "Manifest" });
    for (const { digest } of [pushed.amd.config, ...pushed.amd.layers])
      assert.ok(await manifest.getByRole("link", { name: digest }).getAttribute("href"));
    await manifest.getByRole("link", { name: pushed.amd.config.digest }).click();
    await page.getByText('"architecture"').waitFor();
    await visited.clean();
    await visited.close();
  });

  test("shows its referrers as a tree", async () => {
    const visited = await look("#/team/app/_image/1.0");
    const { page } = visited;
    const region = page.getByRole("region", { name: "Referrers" });
    await region.getByRole("button", { name: /vnd.example.signature/ }).click();
    await region.getByRole("link", { name: "application/vnd.example.countersignature" }).waitFor();
    await region.getByRole("link", { name: "application/vnd.example.signature" }).click();
    await page.getByRole("link", { name: "content.json" }).click();
    await page.getByText('"signed"').waitFor();
    await visited.clean();
    await visited.close();
  });

  test("shows the changes of each layer, and the waste", async () => {
    const visited = await look("#/team/app/_files/1.0/etc/");
    const { page } = visited;
    const removed = page.getByRole("row", { name: /old\.conf/ });
    await removed.getByText("− removed").waitFor();
    await page
      .getByRole("row", { name: /run\.sh/ })
      .getByText("+ added")
      .waitFor();
    assert.equal(await removed.getByRole("link").count(), 0);
    await page.getByLabel("Layer", { exact: true }).selectOption({ index: 3 });
    await page.getByRole("row", { name: /etc/ }).click();
    await page
      .getByRole("row", { name: /app\.json/ })
      .getByText("~ changed")
      .waitFor();
    await page
      .getByRole("row", { name: /old\.conf/ })
      .getByText("− removed")
      .waitFor();
    assert.equal(await page.getByRole("row", { name: /run\.sh/ }).count(), 0);
    await page.getByLabel("Layer", { exact: true }).selectOption({ index: 0 });
    await page.getByLabel("Sort by").selectOption("size");
    await page.waitForFunction(() => /busybox|bin/.test(document.querySelector(".rows .name")?.textContent ?? ""));
    await page.getByRole("link", { name: "Waste" }).click();
    const offender = page.getByRole("row", { name: /etc\/old\.conf/ });
    assert.match(await offender.innerText(), /4\.00 kB/);
    await page.getByRole("link", { name: "Sizes" }).click();
    await page
      .getByRole("link", { name: /^bin\/, / })
      .first()
      .click({ position: { x: 20, y: 8 } });
    await page.getByRole("navigation", { name: "Path" }).getByText("bin").waitFor();
    await page
      .getByRole("link", { name: /^busybox, / })
      .first()
      .click();
    await page.getByRole("region", { name: "Bytes" }).waitFor();
    await visited.clean();
    await visited.close();
  });

  test("fetches only the parts that are shown, and downloads a file unchanged", async () => {
    const visited = await look("#/team/app/_files/1.0/bin/");
    const { page } = visited;
    await page.getByRole("link", { name: "busybox", exact: true }).waitFor();
    await page.waitForLoadState("networkidle");
    assert.deepEqual(
      visited.requests().filter(({ path }) => /\/blobs\/|\/files\/.*[^/]$/.test(path.split("?")[0])),
      [],
    );
    await page.getByRole("link", { name: "busybox", exact: true }).click();
    await page.getByRole("region", { name: "Bytes" }).getByText("·ELF").waitFor();
    const read = () => visited.requests().filter(({ path }) => path.endsWith("/files/bin/busybox"));
    assert.deepEqual(
      read().map(({ headers }) => headers.range),
      ["bytes=0-131071"],
    );
    await page.getByRole("button", { name: "After" }).click();
    await page.getByText("00020000", { exact: true }).waitFor();
    assert.deepEqual(
      read().map(({ headers }) => headers.range),
      ["bytes=131072-262143"],
    );
    const shown = await page.locator(".hex .line code").first().innerText();
    const busybox = inTar(0, "bin/busybox");
    assert.equal(
      shown.slice(0, 47).replace(/\s+/g, ""),
      busybox.subarray(131072, 131088).toString("hex").slice(0, shown.slice(0, 47).replace(/\s+/g, "").length),
    );
    const saved = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    assert.deepEqual(await readFile(await (await saved).path()), busybox);
    await visited.clean();
    await visited.close();
  });

  test("shows the tier of each response in a panel", async () => {
    const visited = await look("#/team/app/_files/1.0/etc/run.sh");
    const { page } = visited;
    await page.getByRole("region", { name: "Text" }).getByText("starts it").waitFor();
    const footer = page.getByRole("contentinfo");
    await footer.getByRole("button").click();
    await footer.getByText(/decompressions? saved/).waitFor();
    await footer.getByText(/fetched of .* in layers/).waitFor();
    const row = footer.getByRole("row", { name: /run\.sh/ }).first();
    assert.match(await row.innerText(), /hot|warm|cold/);
    await visited.clean();
    await visited.close();
  });

  test("shows a progress bar while the registry indexes a layer", async () => {
    const visited = await look("#/");
    const { page } = visited;
    let asked = 0;
    await page.route(/_strata/, async (route) => {
      asked += 1;
      if (asked > 6) return route.continue();
      const body = JSON.stringify({
        digest: pushed.amd.layers[0].digest,
        state: "indexing",
        read: 25e6,
        size: 100e6,
        fraction: 0.25,
      });
      return route.fulfill({ status: 202, headers: { "content-type": "application/json", "retry-after": "0" }, body });
    });
    await visited.turn("#/team/app/_files/1.0/");
    await page.getByRole("progressbar", { name: "layer indexed" }).waitFor();
    await page.getByText("25.0 MB of 100 MB").waitFor();
    await page.getByRole("row", { name: /^etc/ }).waitFor();
    await visited.clean();
    await visited.close();
  });

  test("that is missing, a missing file and an unknown address each show a message", async () => {
    const visited = await look("#/team/app/_image/nothing");
    const { page } = visited;
    await page
      .getByRole("alert")
      .getByText(/may have been deleted or moved/)
      .waitFor();
    await visited.turn("#/team/app/_files/1.0/etc/nothing");
    await page
      .getByRole("alert")
      .getByText(/nothing/)
      .first()
      .waitFor();
    await visited.turn("#/%00/%ff/_what/?=&&");
    await page.getByText("There is no page at this address").waitFor();
    await visited.clean({ expected: /404|400/ });
    await visited.close();
  });

  describe("with unusual names and sizes", () => {
    const size = 200_000_000;
    before(async () => {
      const odd = Buffer.concat([
        named(LONG, Buffer.from("long\n")),
        named(Buffer.from("caf\xe9", "latin1"), Buffer.from("latin\n")),
        await folder(
          {
            [HTML]: "<script>globalThis.hacked=2</script>\n",
            [HIDDEN]: "hidden\n",
            out: { link: "../../../../etc/passwd" },
            "page.svg": "<svg xmlns='http://www.w3.org/2000/svg'><script>globalThis.hacked=3</script></svg>",
            sparse: { size: 3 * 2 ** 30 },
          },
          ["--sparse"],
        ),
      ]);
      await image(strata, "odd/names", "latest", [{ tar: odd, history: HTML }]);
      await image(strata, "odd/text", "latest", [{ tar: await folder({ "log.txt": lines(size) }) }]);
    });

    test("shows names and content as text, and runs nothing", async () => {
      const visited = await look("#/odd/names/_files/latest/");
      const { page } = visited;
      const rows = page.locator(".rows .file");
      await page.getByRole("link", { name: HTML }).waitFor();
      const names = await rows.allInnerTexts();
      assert.ok(names.some((line) => line.includes(HTML)));
      assert.ok(
        names.some((line) => line.includes("U+202E")),
        "the mark that turns text around is spelled out",
      );
      assert.ok(names.some((line) => line.includes("caf%E9") && line.includes("not UTF-8")));
      assert.ok(names.some((line) => line.includes("../../../../etc/passwd")));
      for (const [name, content] of [
        [HTML, "globalThis.hacked=2"],
        [/invoice/, "hidden"],
        [/caf%E9/, "latin"],
        [/^x{400}/, "long"],
      ]) {
        await page.getByRole("link", { name }).first().click();
        await page.getByRole("region", { name: "Text" }).getByText(content).first().waitFor();
        const wide = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        assert.ok(wide <= 0, `${String(name).slice(0, 40)} is ${wide} pixels too wide`);
        await page.goBack();
        await page.getByRole("link", { name: HTML }).waitFor();
      }
      // A link never leads out of the image.
      await page.getByRole("link", { name: "out", exact: true }).click();
      await page.getByRole("alert").waitFor();
      await visited.turn("#/odd/names/_files/latest/page.svg");
      await page.getByRole("img", { name: "page.svg" }).waitFor();
      await visited.turn("#/odd/names/_image/latest");
      await page.getByRole("region", { name: "Layers" }).getByText(HTML).waitFor();
      assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
      await visited.clean({ expected: /404/ });
      await visited.close();
    });

    test("reads only the shown parts of a hole of 3 GiB and of a text of 200 MB", async () => {
      const visited = await look("#/odd/names/_files/latest/sparse");
      const { page } = visited;
      await page.getByText("3.22 GB").waitFor();
      visited.requests();
      await page.getByLabel("Position in the file").press("End");
      await page.getByText("bffe0000", { exact: true }).waitFor();
      assert.deepEqual(
        visited.requests().map(({ headers }) => headers.range),
        [`bytes=${3 * 2 ** 30 - 131072}-${3 * 2 ** 30 - 1}`],
      );

      await visited.turn("#/odd/text/_files/latest/log.txt");
      await page.getByText("0000000001 is a line").waitFor({ timeout: 60_000 });
      assert.equal(await page.locator(".gutter").first().innerText(), "1");
      await page.getByRole("button", { name: "After" }).click();
      // A window ends within a line, and the next one has the rest.
      await page.locator(".gutter", { hasText: /^3277$/ }).waitFor();
      await page
        .locator(".line", { has: page.locator(".gutter", { hasText: /^3278$/ }) })
        .getByText("0000003278 is a line")
        .waitFor();
      await page.getByLabel("Position in the file").press("End");
      await page.locator(".gutter", { hasText: /^@/ }).first().waitFor();
      await page.locator(".text").press("End");
      await page.getByText(`${String(size / 40).padStart(10, "0")} is a line`).waitFor();
      const asked = visited.requests().filter(({ headers }) => headers.range);
      assert.equal(asked.length, 3);
      await visited.clean();
      await visited.close();
    });
  });

  test("of 100,000 files opens, scrolls, and keeps the document small", async (t) => {
    await image(strata, "odd/many", "latest", [{ tar: many(100_000) }]);
    const visited = await look("#/odd/many/_files/latest/many/");
    const { page } = visited;
    await page.getByRole("row", { name: /file-000000/ }).waitFor({ timeout: 30_000 });
    const before = visited.requests().length;
    assert.ok(before < 12, `${before} requests before anybody scrolled`);
    await page.getByRole("button", { name: /Compare 100,0/ }).click();
    await page.getByRole("treegrid").focus();
    await page.getByRole("button", { name: /Compare/ }).waitFor({ state: "detached" });
    await page.getByText("comparing layers").waitFor({ state: "detached", timeout: 60_000 });
    await page.waitForFunction(
      () => Number(document.querySelector("[role=treegrid]").getAttribute("aria-rowcount")) > 100_000,
      undefined,
      { timeout: 30_000 },
    );
    for (const part of [0.1, 0.5, 0.9]) {
      await page.locator(".files").evaluate((element, at) => (element.scrollTop = element.scrollHeight * at), part);
      await page.waitForTimeout(50);
      const rows = await page.locator(".rows .file").count();
      assert.ok(rows > 10 && rows < 120, `${rows} rows are in the document`);
    }
    await page.keyboard.press("End");
    await page.getByRole("link", { name: "file-099999" }).waitFor();
    await page.getByLabel("Search names").fill("file-04242");
    await page.getByText(/^10 paths/).waitFor();
    t.diagnostic(`${await page.evaluate(() => document.querySelectorAll("*").length)} elements`);
    await visited.clean();
    await visited.close();
  });
});
