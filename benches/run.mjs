// Runs benches on the real runtime and prints their tables: `node benches/run.mjs` for all, with names for some.
import { access } from "./access.mjs";
import { concurrency } from "./concurrency.mjs";
import { cost } from "./cost.mjs";
import { files } from "./files.mjs";
import { inspect } from "./inspect.mjs";
import { layers } from "./layers.mjs";
import { mirror } from "./mirror.mjs";
import { page } from "./page.mjs";
import { pull } from "./pull.mjs";
import { soak } from "./soak.mjs";
import { print } from "./table.mjs";
import { upload } from "./upload.mjs";

const benches = { upload, pull, concurrency, cost, files, layers, access, mirror, soak, inspect, page };

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) {
  console.error(`no bench ${unknown.join(", ")}; there are: ${Object.keys(benches).join(", ")}`);
  process.exit(1);
}
for (const name of asked.length > 0 ? asked : Object.keys(benches)) await benches[name](print);
