// The page in a browser: its size, the time until it shows a directory, and scrolling through
// 100,000 files.
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip, gzipSync } from "node:zlib";
import { ROOT } from "../scripts/command.mjs";
import { header } from "../tests/edge/archive.mjs";
import { start } from "../tests/edge/harness.mjs";
import { lines, many } from "../tests/page/archives.mjs";
import { launch, visit } from "../tests/page/browser.mjs";
import { image } from "../tests/page/pushed.mjs";
import { figure } from "./table.mjs";

const FILES = 100_000;
const MIB = 1 << 20;
const GIB = 1 << 30;

export async function page(print) {
  const dist = join(ROOT, "www/dist");
  const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== "_headers",
  );
  const sizes = files.map((entry) => {
    const content = readFileSync(join(entry.parentPath ?? entry.path, entry.name));
    return { name: entry.name, raw: content.length, gzipped: gzipSync(content).length };
  });
  const of = (label, test) => {
    const some = sizes.filter(({ name }) => test(name));
    return [
      label,
      some.length,
      ...["raw", "gzipped"].map((key) => (some.reduce((sum, one) => sum + one[key], 0) / 1000).toFixed(1)),
    ];
  };
  const first = (name) => /^index|\.(html|svg|css)$/.test(name);
  const module = (name) => name.endsWith(".wasm");
  print(
    "The page's files, each gzipped by itself, kB",
    ["", "files", "raw", "gzipped"],
    [
      of("loaded at the start", first),
      of("the module that reads layers", module),
      of("loaded on demand: workers, syntax highlighting and grammars", (name) => !first(name) && !module(name)),
      of("all", () => true),
    ],
  );

  const browser = await launch();
  const strata = await start({ page: true, vars: { STRATA_ANONYMOUS_PULL: "true" } });
  try {
    await image(strata, "bench/many", "latest", [{ tar: many(FILES) }]);
    const visited = await visit(browser, strata);
    const { page: tab } = visited;
    // The first visit indexes the layer, so that only the page is measured.
    await visited.go("#/bench/many/_files/latest/many/");
    await tab.getByRole("row", { name: /file-000000/ }).waitFor({ timeout: 60_000 });
    const began = performance.now();
    await visited.go("#/bench/many/_files/latest/many/");
    await tab.getByRole("row", { name: /file-000000/ }).waitFor();
    const shown = performance.now() - began;
    const asked = performance.now();
    await tab.getByRole("button", { name: /Compare/ }).click();
    await tab.waitForFunction(
      (count) => Number(document.querySelector("[role=treegrid]")?.getAttribute("aria-rowcount")) > count,
      FILES,
      { timeout: 120_000 },
    );
    const compared = performance.now() - asked;
    const frames = await tab.evaluate(scroll);
    const elements = await tab.evaluate(() => document.querySelectorAll("*").length);
    const memory = await tab.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
    const sorted = frames.toSorted((one, other) => one - other);
    const at = (part) => figure(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]);
    print(
      `A directory of ${FILES.toLocaleString("en-GB")} files`,
      ["figure", "value"],
      [
        ["first file shown, page load included, ms", figure(shown)],
        ["all files listed and compared, ms", figure(compared)],
        ["frames while scrolling from end to end", frames.length],
        ["… p50, ms", at(0.5)],
        ["… p95, ms", at(0.95)],
        ["… p99, ms", at(0.99)],
        ["… longest, ms", at(1)],
        ["elements in the document", elements],
        ["JavaScript heap, MB", figure(memory / 1e6)],
      ],
    );
    await visited.close();
    await drop(print, browser, strata);
  } finally {
    await browser.close();
    await strata.stop();
  }
}

/**
 * Opens a layer of 1 GiB from disk on the page. Measures the duration, the tab's memory, the bytes
 * decompressed for a file near the end, and how soon opening is cancelled.
 */
async function drop(print, browser, strata) {
  const at = mkdtempSync(join(tmpdir(), "strata-bench-"));
  const visited = await visit(browser, strata);
  const { page: tab } = visited;
  try {
    const path = join(at, "layer.tar.gz");
    await pipeline(Readable.from(large(GIB)), createGzip({ level: 1 }), createWriteStream(path));
    await visited.turn("#/_disk/");
    const choose = async () => {
      const [chooser] = await Promise.all([
        tab.waitForEvent("filechooser"),
        tab.getByRole("button", { name: "Choose a file" }).click(),
      ]);
      await chooser.setFiles(path);
      await tab.getByRole("progressbar", { name: "layer read" }).waitFor();
    };
    await choose();
    await tab.waitForFunction(() => document.querySelector("progress")?.position > 0.05, undefined, {
      timeout: 120_000,
    });
    const asked = performance.now();
    await tab.getByRole("button", { name: "Cancel" }).click();
    await tab.getByRole("button", { name: "Choose a file" }).waitFor();
    const cancelled = performance.now() - asked;

    visited.asked.length = 0;
    const before = await resident(browser);
    const began = performance.now();
    await choose();
    await tab.getByRole("row", { name: /^z/ }).waitFor({ timeout: 300_000 });
    const opened = performance.now() - began;
    const after = await resident(browser);
    await tab.getByRole("row", { name: /^z/ }).click();
    await tab.getByRole("link", { name: "last.txt" }).click();
    await tab.getByRole("region", { name: "Text" }).getByText("the last one").waitFor();
    await tab.goBack();
    const cost = tab.locator(".cost[data-restarts='1']");
    await cost.waitFor();
    const inflated = Number(await cost.getAttribute("data-inflated"));
    const foreign = visited.asked.filter(
      ({ url }) => !url.startsWith(`${strata.url.origin}/assets/`) && !url.startsWith(`${strata.url.origin}/icon.svg`),
    );
    await visited.clean();
    print(
      "A layer of 1 GiB opened on the page",
      ["figure", "value"],
      [
        ["size, MB", figure(statSync(path).size / 1e6)],
        ["indexed, s", figure(opened / 1000)],
        ["memory of the tab's process before, MiB", figure(before / MIB)],
        ["… after, MiB", figure(after / MIB)],
        ["restarts for a file at its end", 1],
        ["decompressed for it, KiB", figure(inflated / 1024)],
        ["cancelled after, ms", figure(cancelled)],
        ["requests except for the page's assets", foreign.length],
      ],
    );
  } finally {
    await visited.close();
    rmSync(at, { recursive: true });
  }
}

/** Yields a tar of a large text, with a small file at its end, in pieces. */
function* large(size) {
  const [file, ...last] = [
    header({ path: "a/large.log", size }),
    header({ path: "z/last.txt", size: 13 }),
    Buffer.from("the last one\n".padEnd(512, "\0")),
    Buffer.alloc(1024),
  ];
  yield file;
  const some = lines(MIB);
  for (let at = 0; at < size; at += MIB) yield some;
  yield* last;
}

/** Resolves with the resident memory of the tab's process, in bytes. */
async function resident(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const tabs = processInfo.filter(({ type }) => type === "renderer");
  return Math.max(
    ...tabs.map(({ id }) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${id}/status`, "utf8"))[1]) * 1024),
  );
}

/**
 * Runs in the page: scrolls by a 200th of the list a frame. Resolves with the durations of the
 * frames in milliseconds.
 */
async function scroll() {
  const list = document.querySelector(".files");
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const steps = 200;
  const took = [];
  let last = await frame();
  for (let step = 0; step <= steps; step += 1) {
    list.scrollTop = ((list.scrollHeight - list.clientHeight) * step) / steps;
    const now = await frame();
    took.push(now - last);
    last = now;
  }
  return took;
}
