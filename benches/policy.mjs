// Hit rates of the hot tier's policy, compared with other policies, under simulated traffic.
import { run } from "../scripts/command.mjs";
import { Failure, tail } from "../scripts/terminal.mjs";

export async function policy(print) {
  const { code, stdout, output } = await run("cargo", ["run", "--locked", "--release", "-p", "strata-policy"]);
  if (code !== 0) throw new Failure(`the simulation of policies failed:\n${tail(output)}`);
  const cells = (line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const [columns, , ...rows] = stdout.trim().split("\n").map(cells);
  print("Hits of each policy in the same traffic", columns, rows);
}
