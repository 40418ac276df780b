// Builds www/app into www/dist, which the platform serves unchanged.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = path.dirname(fileURLToPath(import.meta.url));

export default defineConfig({
  root: path.join(here, "app"),
  // Relative addresses work wherever the page is served, because views are fragments.
  base: "./",
  publicDir: path.join(here, "app/public"),
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    outDir: path.join(here, "dist"),
    emptyOutDir: true,
    target: "es2023",
    // The page's policy allows data: addresses for images only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  clearScreen: false,
  logLevel: "warn",
});
