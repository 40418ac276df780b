// The page in a browser: how large it is, how soon it shows something, and how it scrolls through 100,000 files.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { ROOT } from "../scripts/command.mjs";
import { start } from "../tests/edge/harness.mjs";
import { many } from "../tests/page/archives.mjs";
import { launch, visit } from "../tests/page/browser.mjs";
import { image } from "../tests/page/pushed.mjs";
import { figure } from "./table.mjs";

const FILES = 100_000;

export async function page(print) {
  const dist = join(ROOT, "www/dist");
  const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && entry.name !== "_headers");
  const sizes = files.map((entry) => {
    const content = readFileSync(join(entry.parentPath ?? entry.path, entry.name));
    return { name: entry.name, raw: content.length, gzipped: gzipSync(content).length };
  });
  const of = (label, test) => {
    const some = sizes.filter(({ name }) => test(name));
    return [label, some.length, ...["raw", "gzipped"].map((key) => (some.reduce((sum, one) => sum + one[key], 0) / 1000).toFixed(1))];
  };
  const first = (name) => /^index|\.(html|svg|css)$/.test(name);
  const module = (name) => name.endsWith(".wasm");
  print("The page's files, each gzipped by itself, kB", ["", "files", "raw", "gzipped"], [
    of("to begin with", first),
    of("the module that reads layers", module),
    of("when it is looked at: its workers, colours and their grammars", (name) => !first(name) && !module(name)),
    of("all", () => true),
  ]);

  const browser = await launch();
  const strata = await start({ page: true, vars: { STRATA_ANONYMOUS_PULL: "true" } });
  try {
    await image(strata, "bench/many", "latest", [{ tar: many(FILES) }]);
    const visited = await visit(browser, strata);
    const { page: tab } = visited;
    // Indexed, so that what is measured is the page.
    await visited.go("#/bench/many/_files/latest/many/");
    await tab.getByRole("row", { name: /file-000000/ }).waitFor({ timeout: 60_000 });
    const began = performance.now();
    await visited.go("#/bench/many/_files/latest/many/");
    await tab.getByRole("row", { name: /file-000000/ }).waitFor();
    const shown = performance.now() - began;
    const asked = performance.now();
    await tab.getByRole("button", { name: /Compare/ }).click();
    await tab.waitForFunction((count) => Number(document.querySelector("[role=treegrid]")?.getAttribute("aria-rowcount")) > count, FILES, { timeout: 120_000 });
    const compared = performance.now() - asked;
    const frames = await tab.evaluate(scroll);
    const elements = await tab.evaluate(() => document.querySelectorAll("*").length);
    const memory = await tab.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
    const sorted = frames.toSorted((one, other) => one - other);
    const at = (part) => figure(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]);
    print(`A directory of ${FILES.toLocaleString("en-GB")} files`, ["", "figure"], [
      ["the first of them shown, from the address, ms", figure(shown)],
      ["all of them listed and compared, ms", figure(compared)],
      ["frames while scrolling from end to end", frames.length],
      ["… p50, ms", at(0.5)],
      ["… p95, ms", at(0.95)],
      ["… p99, ms", at(0.99)],
      ["… longest, ms", at(1)],
      ["elements in the document", elements],
      ["JavaScript's heap, MB", figure(memory / 1e6)],
    ]);
  } finally {
    await browser.close();
    await strata.stop();
  }
}

/** Scrolls in the page, a two-hundredth of the list a frame: how long each frame took. */
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
