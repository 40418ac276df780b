// A layer from the user's disk: indexed and browsed in the page, and sent nowhere.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { start } from "../edge/harness.mjs";
import { folder, lines } from "./archives.mjs";
import { launch, visit } from "./browser.mjs";

describe("a layer from disk", () => {
  let browser;
  let strata;
  let at;
  let file;
  before(async () => {
    browser = await launch();
    strata = await start({ page: true, vars: { STRATA_ANONYMOUS_PULL: "true" } });
    at = await mkdtemp(join(tmpdir(), "strata-disk-"));
    file = join(at, "layer.tar.gz");
    const tar = await folder({
      "a/first.txt": "first\n",
      "a/large.log": lines(40_000_000),
      "z/last.txt": "the last one\n",
    });
    await writeFile(file, gzipSync(tar, { level: 1 }));
    await writeFile(join(at, "text.tar"), "this is no archive at all\n".repeat(100));
  });
  after(async () => {
    await browser?.close();
    await strata?.stop();
    if (at) await rm(at, { recursive: true });
  });

  const choose = async (page, path) => {
    const [chooser] = await Promise.all([
      page.waitForEvent("filechooser"),
      page.getByRole("button", { name: "Choose a file" }).click(),
    ]);
    await chooser.setFiles(path);
  };

  test("opens with its files, searches and sums, and no request leaves the page", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    await page.getByRole("link", { name: "Open a layer from disk" }).click();
    await page.getByRole("button", { name: "Choose a file" }).waitFor();
    visited.requests();
    await choose(page, file);
    await page.getByText("layer.tar.gz").first().waitFor();
    await page.getByRole("row", { name: /^z/ }).click();
    await page.getByRole("link", { name: "last.txt" }).click();
    await page.getByRole("region", { name: "Text" }).getByText("the last one").waitFor();
    await page.goBack();
    // It was read from a checkpoint, and not from the start.
    await page.locator(".cost[data-restarts='1']").waitFor();
    assert.ok(Number(await page.locator(".cost").getAttribute("data-inflated")) < 5_000_000);
    assert.deepEqual(await visited.faults(), []);
    await page.getByRole("link", { name: "Sizes" }).click();
    await page.getByRole("navigation", { name: "Path" }).getByRole("link", { name: "/", exact: true }).click();
    await page.getByRole("link", { name: /large\.log, 40\.0 MB/ }).click();
    await page.getByText("0000000001 is a line").waitFor();
    await page.getByRole("button", { name: "After" }).click();
    await page.locator(".gutter", { hasText: /^3278$/ }).waitFor();
    const own = [`${strata.url.origin}/assets/`, `${strata.url.origin}/icon.svg`];
    const beyond = visited.asked.filter(({ url }) => !own.some((start) => url.startsWith(start)));
    assert.deepEqual(
      beyond.map(({ url }) => url),
      [],
    );
    await visited.clean();
    await visited.close();
  });

  test("opens when it is dropped", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    const bytes = [...gzipSync(await folder({ "dropped.txt": "dropped\n" }))];
    const data = await page.evaluateHandle((content) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(content)], "dropped.tar.gz"));
      return transfer;
    }, bytes);
    await page.dispatchEvent("body", "dragover", { dataTransfer: data });
    await page.getByText("Drop a layer to open it").waitFor();
    await page.dispatchEvent("body", "drop", { dataTransfer: data });
    await page.getByRole("link", { name: "dropped.txt" }).click();
    await page.getByRole("region", { name: "Text" }).getByText("dropped").waitFor();
    // The layer is in this page's memory only.
    await page.reload();
    await page.getByRole("button", { name: "Choose a file" }).waitFor();
    await visited.clean();
    await visited.close();
  });

  test("shows its progress, can be cancelled, and is refused with the reason if it is no archive", async () => {
    const visited = await visit(browser, strata);
    const { page } = visited;
    await visited.turn("#/_disk/");
    const large = join(at, "large.tar");
    await writeFile(large, await folder({ "large.log": lines(400_000_000) }));
    await choose(page, large);
    await page.getByRole("progressbar", { name: "layer read" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: "Choose a file" }).waitFor();
    await choose(page, join(at, "text.tar"));
    const said = await page.getByRole("alert").innerText();
    assert.match(said, /text\.tar: .*(archive|tar)/);
    await visited.clean();
    await visited.close();
  });
});
