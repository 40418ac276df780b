// The cost of opening a layer from disk in a browser: time, memory, and the bytes read and
// decompressed.
import assert from "node:assert/strict";
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../scripts/command.mjs";
import { open } from "../tests/inspect/harness.mjs";
import { archive, COMPRESSORS, compress, ODD, write } from "./layers/make.mjs";
import { figure } from "./table.mjs";

const MIB = 1 << 20;
/** `INSPECT_MIB` is the size of the archive. */
const SIZE = Number(process.env.INSPECT_MIB ?? 1024) * MIB;
const READS = 100;

export async function inspect(print) {
  const folder = mkdtempSync(join(tmpdir(), "strata-bench-"));
  try {
    const tar = await archive(join(folder, "layer.tar"), SIZE);
    const layers = [{ name: "tar", path: tar.path }];
    for (const name of Object.keys(COMPRESSORS).filter((name) => !name.startsWith("Go"))) {
      layers.push({ name, path: await compress(name, tar.path, join(folder, `layer-${layers.length}`)) });
    }
    const many = await write("1,000,000 headers", ODD.headers(1e6, false), join(folder, "many.tar.gz"), { gzip: true });
    const results = { layers: [], many: await analysed(many) };
    for (const layer of layers) results.layers.push({ name: layer.name, ...(await opened(layer.path, tar)) });
    report(print, results, tar);
    const out = join(ROOT, "target/bench/inspect.json");
    mkdirSync(join(ROOT, "target/bench"), { recursive: true });
    writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
    console.log(`\nThe same as JSON: ${out}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Opens a layer in a new page, reads files from it, then opens it again and aborts halfway. */
async function opened(path, tar) {
  const browser = await open();
  try {
    const before = await memory(browser);
    await browser.page.setInputFiles("#file", path);
    const found = await browser.page.evaluate(async () => {
      const [file] = document.querySelector("#file").files;
      const begun = performance.now();
      let [times, longest, last] = [0, 0, begun];
      const onProgress = () => {
        const now = performance.now();
        [times, longest, last] = [times + 1, Math.max(longest, now - last), now];
      };
      globalThis.layer = await openLayer(file, { signal: new AbortController().signal, onProgress });
      const { size, inflatedSize, entryCount } = layer;
      return {
        seconds: (performance.now() - begun) / 1000,
        times,
        longest,
        size,
        inflatedSize,
        entryCount,
        counters: layer.counters(),
      };
    });
    assert.equal(found.size, statSync(path).size);
    assert.equal(found.inflatedSize, tar.size);
    const after = await memory(browser);
    const names = readFileSync(`${tar.path}.list`, "utf8")
      .split("\0")
      .filter((name) => name && lstatSync(`/${name}`).isFile());
    const chosen = Array.from({ length: READS }, (_, at) => names[Math.floor(((at + 0.5) * names.length) / READS)]);
    const reads = await browser.page.evaluate(async (paths) => {
      const [before, begun] = [{ ...layer.counters() }, performance.now()];
      let bytes = 0;
      const encode = (path) => path.split("/").map(encodeURIComponent).join("/");
      for (const path of paths) bytes += (await layer.read(encode(path), 0, 64 * 1024)).bytes.length;
      const after = layer.counters();
      const cost = (name) => (after[name] - before[name]) / paths.length;
      return {
        time: (performance.now() - begun) / paths.length,
        bytes: bytes / paths.length,
        restarts: cost("restarts"),
        inflated: cost("bytesInflated"),
        fetched: cost("bytesRead"),
      };
    }, chosen);
    const cancelled = await browser.page.evaluate(async () => {
      layer.close();
      const [file] = document.querySelector("#file").files;
      const controller = new AbortController();
      let asked;
      const onProgress = (read, size) => {
        if (read < size / 2 || asked) return;
        asked = performance.now();
        controller.abort();
      };
      const error = await openLayer(file, { signal: controller.signal, onProgress }).catch((error) => error.name);
      return { error, time: performance.now() - asked };
    });
    assert.equal(cancelled.error, "AbortError");
    const foreign = browser.requests.filter((address) => !address.startsWith(new URL(browser.page.url()).origin));
    assert.deepEqual([foreign, browser.problems], [[], []]);
    return { ...found, before, after, reads, cancelled: cancelled.time };
  } finally {
    await browser.close();
  }
}

/** Opens a layer of many entries, analyses and searches it, and lists a directory. */
async function analysed(path) {
  const browser = await open();
  try {
    await browser.page.setInputFiles("#file", path);
    const found = await browser.page.evaluate(async () => {
      const [file] = document.querySelector("#file").files;
      let begun = performance.now();
      const lap = () => {
        const now = performance.now();
        const time = now - begun;
        begun = now;
        return time;
      };
      const layer = await openLayer(file, { signal: new AbortController().signal, onProgress: () => {} });
      const [opening, memory] = [lap(), layer.counters().memory];
      const analyser = await layer.analyse();
      const [analysing, more] = [lap(), layer.counters().memory - memory];
      const found = await analyser.search("file-7.js", 100);
      const searching = lap();
      const children = await analyser.children("usr/lib/node_modules/");
      const listing = lap();
      return {
        entries: analyser.analysis.entries,
        opening,
        memory,
        analysing,
        more,
        searching,
        found: found.length,
        listing,
        children: children.length,
      };
    });
    assert.equal(found.entries, 1e6);
    assert.equal(found.found, 100);
    return found;
  } finally {
    await browser.close();
  }
}

/** Resolves with the resident memory of the tab's process in bytes: the current and the peak. */
async function memory({ browser }) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const sizes = processInfo
    .filter(({ type }) => type === "renderer")
    .map(({ id }) => readFileSync(`/proc/${id}/status`, "utf8"))
    .map((status) =>
      ["VmRSS", "VmHWM"].map((name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)[1]) * 1024),
    );
  const [now, most] = sizes.reduce((one, other) => (one[1] > other[1] ? one : other));
  return { now, most };
}

function report(print, { layers, many }, tar) {
  const mib = (bytes) => figure(bytes / MIB);
  const rows = layers.map(({ name, size, seconds, times, longest, counters, before, after, cancelled }) => [
    name,
    Math.round(size / MIB),
    figure(seconds),
    figure(tar.size / 1e6 / seconds),
    mib(counters.memory),
    `${mib(before.now)} → ${mib(after.most)}`,
    times,
    Math.round(longest),
    figure(cancelled),
  ]);
  const columns = [
    "layer",
    "MiB",
    "seconds",
    "MB/s decompressed",
    "MiB of the module",
    "MiB of the tab's process, before → peak",
    "progress events",
    "longest gap, ms",
    "ms to cancel",
  ];
  print(
    `Opening a layer of ${Math.round(tar.size / MIB)} MiB decompressed, ${layers[0].entryCount} entries, in Chromium`,
    columns,
    rows,
  );
  const read = layers.map(({ name, reads }) => [
    name,
    figure(reads.time),
    ...[reads.bytes, reads.inflated, reads.fetched].map((bytes) => Math.round(bytes / 1024)),
    figure(reads.restarts),
  ]);
  print(
    `${READS} files of it, up to 64 KiB of each`,
    ["layer", "ms each", "KiB of the file", "KiB decompressed", "KiB read", "restarts"],
    read,
  );
  const { entries, opening, memory, analysing, more, searching, listing, children } = many;
  print(
    "A layer of 1,000,000 entries",
    [
      "opened, s",
      "MiB of the module",
      "analysed, s",
      "MiB more",
      "bytes an entry",
      "searched, ms",
      "a directory listed, ms",
      "names in it",
    ],
    [
      [
        figure(opening / 1000),
        mib(memory),
        figure(analysing / 1000),
        mib(more),
        Math.round(more / entries),
        Math.round(searching),
        Math.round(listing),
        children,
      ],
    ],
  );
}
