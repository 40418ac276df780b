// The check of figures finds each problem, and accepts a recorded bench.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";

import { ROOT } from "./command.mjs";
import { BENCHES, problems, recorded } from "./figures.mjs";

const TABLE = "**Title of 3 rounds**\n\n| row | a |\n|---|--:|\n| one | 12.34 |\n| two | 46,049 |";
const PAGE = `# Figures

## Claims

| claim | measured | command |
|---|---|---|
| 10 times | 12 times | \`npm run bench -- pull\` |

## Pulls

One is 12.3 of 46,049.

Measured by \`npm run bench -- pull\` at 0123456 on 2 cores.

${TABLE}

## Last

Measured by \`npm run bench -- cost\` at 0123456 on 2 cores.

${TABLE}
`;
const README = "- **Fast.**\n  One takes 12 of 3 ([pulls](docs/figures.md#pulls)).\n- Another, 5.\n";

const check = ({ page = PAGE, readme = README, benches = ["pull", "cost"], commits = ["0123456"] } = {}) =>
  problems({ page, readme, benches, isCommit: (id) => commits.includes(id) });

describe("figures", () => {
  it("of a page whose numbers are in its tables have no problem", () => assert.deepEqual(check(), []));

  it("have a bench that exists", () =>
    assert.deepEqual(check({ benches: ["pull"] }), ['"Last" names a bench that does not exist: cost']));

  it("have a section for each bench", () =>
    assert.deepEqual(check({ benches: ["pull", "cost", "soak"] }), ["the bench soak has no section"]));

  it("are the tables alone below the line that says where they are from", () => {
    const page = PAGE.replace(TABLE, `${TABLE}\n\nIt is 999 times as fast.`);
    assert.deepEqual(check({ page }), [
      '"Pulls" has text below its tables, which a recording deletes: It is 999 times as fast.',
    ]);
    assert.deepEqual(check({ page: PAGE.replace(`\n\n${TABLE}\n\n## Last`, "\n\n## Last") }).slice(0, 1), [
      '"Pulls" has no table',
    ]);
  });

  it("have a commit that exists", () =>
    assert.deepEqual(check({ commits: [] }), [
      '"Pulls" was measured at a commit that does not exist: 0123456',
      '"Last" was measured at a commit that does not exist: 0123456',
    ]));

  it("have a command, a commit and a machine", () => {
    for (const page of [PAGE.replace(" on 2 cores", ""), PAGE.replace(" at 0123456", "")]) {
      assert.match(check({ page })[0], /"Pulls" has no line "Measured by … at … on …"/);
    }
  });

  it("in the prose, in the claims and in README are in the tables", () => {
    assert.deepEqual(check({ page: PAGE.replace("is 12.3 of", "is 12.4 of") }), [
      '"Pulls" says 12.4, its tables do not',
    ]);
    assert.deepEqual(check({ page: PAGE.replace("| 12 times", "| 13 times") }), [
      'the claim "10 times" was measured as 13, the tables of pull do not say so',
    ]);
    assert.deepEqual(check({ readme: README.replace("takes 12", "takes 11") }), [
      "README says 11, the tables of #pulls do not",
    ]);
    assert.deepEqual(check({ readme: README.replace("#pulls", "#claims") }), [
      "README takes a figure from #claims, which has none",
    ]);
    const paragraph = "The paragraph says 7 ([pulls](./docs/figures.md#pulls)).\n";
    assert.deepEqual(check({ readme: paragraph }), ["README says 7, the tables of #pulls do not"]);
    const row = "| 10 times | 12 times | `npm run bench -- pull` |";
    assert.deepEqual(check({ page: PAGE.replace(row, `${row}\n| 5 times | 12 times | measured |`) }), [
      'the claim "5 times" names no bench that has a section',
    ]);
  });

  it("are recorded in the section of their bench, and nowhere else", () => {
    const record = { commit: "89abcde", machine: "4 cores", tables: ["**A**\n\n| 1 |", "**B**\n\n| 2 |"] };
    const [before, after] = ["at 0123456 on 2 cores.\n\n", "at 89abcde on 4 cores.\n\n"];
    const tables = record.tables.join("\n\n");
    const first = PAGE.replace(before + TABLE, () => after + tables);
    assert.equal(recorded(PAGE, { name: "pull", ...record }), first);
    const at = PAGE.lastIndexOf(before);
    assert.equal(recorded(PAGE, { name: "cost", ...record }), `${PAGE.slice(0, at)}${after}${tables}\n`);
    assert.throws(() => recorded(PAGE, { name: "soak", ...record }), /no section with "Measured by .* soak/);
  });

  it("have a file for each bench", () => {
    for (const name of BENCHES) {
      const text = fs.readFileSync(path.join(ROOT, `benches/${name}.mjs`), "utf8");
      assert.match(text, new RegExp(`^export async function ${name}\\(print\\)`, "m"), name);
    }
  });
});
