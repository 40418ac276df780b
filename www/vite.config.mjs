// How the page is built: www/app into www/dist, which the platform serves as it is.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = path.dirname(fileURLToPath(import.meta.url));

export default defineConfig({
  root: path.join(here, "app"),
  // Addresses are fragments, so files are found beside the page wherever it is served.
  base: "./",
  publicDir: path.join(here, "app/public"),
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    outDir: path.join(here, "dist"),
    emptyOutDir: true,
    target: "es2023",
    // The policy of the page allows no data: address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  clearScreen: false,
  logLevel: "warn",
});
