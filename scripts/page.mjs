// The page that shows what is inside images: Vite makes of www/app what the platform serves beside the Worker.

import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

import { ROOT, run } from "./command.mjs";
import { buildInspector } from "./inspector.mjs";
import { dim, Failure, MARKS, say, tail, task } from "./terminal.mjs";

/** Bytes of all files of the page, the module for layers among them, gzipped one by one. */
const LIMIT = 300_000;

const WWW = path.join(ROOT, "www");
const DIST = path.join(WWW, "dist");

/** Builds www/dist, on a machine that has what it takes (`ensureAll`). `fingerprint` changes when the page does. */
export async function buildPage() {
  await buildInspector();
  await task("building page", async () => {
    // Made beside and moved into place, so that two builds at the same time leave no half of either.
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
      if (code !== 0) throw new Failure("vite did not build the page: its last lines are above", tail(output, 40));
      if (fs.existsSync(DIST)) fs.renameSync(DIST, path.join(beside, "old"));
      fs.renameSync(path.join(beside, "new"), DIST);
    } finally {
      fs.rmSync(beside, { recursive: true, force: true });
    }
  });
  const hash = crypto.createHash("sha256");
  const files = filesOf(DIST).map((file) => ({ name: path.relative(DIST, file), content: fs.readFileSync(file) }));
  for (const { name, content } of files) hash.update(name).update(content);
  return { folder: DIST, files: sizes(files), fingerprint: hash.digest("hex") };
}

/** Says how large the page is, and fails above the limit. */
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
  // What the platform reads by itself is not sent.
  const sent = files.filter(({ name }) => name !== "_headers");
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
