// `npm test`: runs all checks, with one line for each and one exit code.

import fs from "node:fs";
import path from "node:path";

import { judge, LANES } from "./checks.mjs";
import { ROOT, run } from "./command.mjs";
import { ensureAll, ensureDebianPackages, ensureUnpacked } from "./setup.mjs";
import { dim, Failure, main, MARKS, parse, say, tail, task } from "./terminal.mjs";

const HELP = `npm test [-- NAME…]

  Runs all checks, or those whose name contains one of the names. The output of each check is kept in
  target/test-logs/.

  --list   lists the checks`;

/** The timeout of each command of a check, in milliseconds. */
const LIMIT = 20 * 60_000;

const LOGS = path.join(ROOT, "target/test-logs");

main(import.meta.url, async () => {
  const { values, positionals } = parse(HELP, { list: { type: "boolean" } }, true);
  const names = LANES.flat().map(({ name }) => name);
  const unknown = positionals.find((part) => !names.some((name) => name.includes(part)));
  if (unknown) throw new Failure(`no check's name contains ${unknown}: npm test -- --list lists the checks`);
  const chosen = (name) => positionals.length === 0 || positionals.some((part) => name.includes(part));
  if (values.list) {
    for (const name of names.filter(chosen)) say(name);
    return;
  }

  const total = { passed: 0, failed: 0, skipped: 0 };
  const walk = async (lane) => {
    for (const check of lane) {
      if (!chosen(check.name)) continue;
      const counts = await carryOut(check);
      for (const key of Object.keys(total)) total[key] += counts[key];
    }
  };
  try {
    await ensureAll();
    fs.mkdirSync(LOGS, { recursive: true });
    await Promise.all(LANES.map(walk));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    error.print();
    total.failed += 1;
  }
  say(`\n${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`);
  // Exit at once: after a failed setup, other parts of it may still be running.
  process.exit(total.failed > 0 ? 1 : 0);
});

async function carryOut(check) {
  const log = path.join(LOGS, `${check.name.replaceAll(" ", "-")}.log`);
  const result = { code: 0, output: "", timedOut: false };
  const counts = await task(
    check.name,
    async (detail) => {
      try {
        await ensureUnpacked(check.programs ?? {});
        await ensureDebianPackages(check.packages ?? {});
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        Object.assign(result, { code: 1, output: [error.output, error.message].filter(Boolean).join("\n") });
        return judge(check, result);
      }
      for (const [program, ...args] of check.commands) {
        const { code, output, timedOut } = await run(program, args, { env: check.env, line: detail, limit: LIMIT });
        result.output += output;
        Object.assign(result, { code, timedOut });
        if (code !== 0) break;
      }
      return judge(check, result);
    },
    { outcome: (counts) => describe(check, counts), announced: false },
  );
  fs.writeFileSync(log, result.output);
  if (counts.problem) {
    const indented = tail(result.output, 60).replace(/^/gm, "    ");
    say(`\n${indented}\n\n    ${check.name} ${counts.problem}; the full output is in ${path.relative(ROOT, log)}\n`);
  }
  for (const reason of counts.reasons) say(`  ${dim(`skipped: ${reason}`)}`);
  return counts;
}

/** Returns the end of a check's line: its mark and its counts. */
function describe(check, { passed, failed, skipped, problem }) {
  const counted = Object.entries({ passed, failed, skipped }).filter(([, count]) => count > 0);
  const mark = problem ? MARKS.failed : passed === 0 ? MARKS.skipped : MARKS.passed;
  return { mark, note: check.count ? dim(counted.map(([name, count]) => `${count} ${name}`).join(", ")) : "" };
}
