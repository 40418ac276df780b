// Builds the page that shows the contents of images: Vite turns www/app into the files that the
// platform serves beside the Worker.

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

import { ROOT, run } from "./command.mjs";
import { buildInspector } from "./inspector.mjs";
import { dim, Failure, MARKS, say, tail, task } from "./terminal.mjs";

/** The size limit in bytes of all files of the page, each gzipped, with the module for layers. */
const LIMIT = 300_000;

/** The relay, which is served beside the page. */
const RELAY = "relay.mjs";

const WWW = path.join(ROOT, "www");
const DIST = path.join(WWW, "dist");

/** Builds www/dist, after `ensureAll`. `fingerprint` changes when the page does. */
export async function buildPage() {
  await buildInspector();
  await task("building page", async () => {
    // Build in a temporary folder and move it into place, so that concurrent builds leave no
    // partial page.
    const beside = fs.mkdtempSync(path.join(WWW, "dist-"));
    try {
      const vite = path.join(ROOT, "node_modules/.bin/vite");
      const { code, output } = await run(vite, [
        "build",
        "--config",
        path.join(WWW, "vite.config.mjs"),
        "--outDir",
        path.join(beside, "new"),
      ]);
      if (code !== 0) throw new Failure("vite failed: its last lines are above", tail(output, 40));
      fs.writeFileSync(path.join(beside, "new/extension.md"), documentation());
      fs.copyFileSync(path.join(ROOT, "relay", RELAY), path.join(beside, "new", RELAY));
      if (fs.existsSync(DIST)) fs.renameSync(DIST, path.join(beside, "old"));
      fs.renameSync(path.join(beside, "new"), DIST);
    } finally {
      fs.rmSync(beside, { recursive: true, force: true });
    }
  });
  return { folder: DIST, files: sizes(contentsOf(DIST)), fingerprint: fingerprintOfPage(DIST) };
}

/** Returns a hash of the built page in a folder. */
export function fingerprintOfPage(folder) {
  const hash = crypto.createHash("sha256");
  for (const { name, content } of contentsOf(folder)) hash.update(name).update(content);
  return hash.digest("hex");
}

function contentsOf(folder) {
  return filesOf(folder).map((file) => ({ name: path.relative(folder, file), content: fs.readFileSync(file) }));
}

/**
 * Returns the documentation of the extension, without links to other files. The registry's list of
 * extensions names this document.
 */
function documentation() {
  const text = fs.readFileSync(path.join(ROOT, "docs/extension.md"), "utf8");
  return text.replaceAll(/\[([^\]]+)\]\((?![a-z]+:)[^)]*\)/g, "$1");
}

/** Prints the size of the page. Fails above the limit. */
export function checkPage({ files }) {
  const [raw, gzipped] = ["raw", "gzipped"].map((key) => files.reduce((sum, file) => sum + file[key], 0));
  if (gzipped > LIMIT) {
    throw new Failure(
      `the page is ${kilobytes(gzipped)} gzipped, above ${kilobytes(LIMIT)}: make it smaller, or raise LIMIT in scripts/page.mjs with a reason`,
    );
  }
  say(
    `${MARKS.passed} page ${kilobytes(gzipped)} gzipped ${dim(`(${kilobytes(raw)} raw, limit ${kilobytes(LIMIT)} gzipped)`)}`,
  );
}

function sizes(files) {
  // The platform reads `_headers` and does not serve it, and no browser loads the relay.
  const sent = files.filter(({ name }) => name !== "_headers" && name !== RELAY);
  return sent.map(({ name, content }) => ({ name, raw: content.length, gzipped: zlib.gzipSync(content).length }));
}

function filesOf(folder) {
  const entries = fs.readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

function kilobytes(bytes) {
  return `${Math.round(bytes / 1000)} kB`;
}
