// All kinds of requests at once for thirteen minutes, with a grace period of seconds and a Worker
// that is killed repeatedly. Counts lost and leftover objects.
import { soak as play } from "../tests/edge/soak.mjs";

const SECONDS = 780;
const KILLS = 6;

export async function soak(print) {
  const say = process.stderr.isTTY
    ? (line) => process.stderr.write(`\r${line.padEnd(120)}`)
    : (line) => console.error(line);
  const { lost, orphans, left, ...counts } = await play({ seconds: SECONDS, kills: KILLS, say });
  const rows = Object.entries(counts).map(([what, count]) => [
    what.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
    count,
  ]);
  print(
    `${SECONDS} seconds`,
    ["event", "count"],
    [
      ...rows,
      ["lost", lost.length],
      ["unreferenced objects after the last sweep", orphans.length],
      ["objects left after everything was deleted", left.length],
    ],
  );
  for (const line of [...lost, ...orphans, ...left].slice(0, 20)) console.log(line);
  if (lost.length + orphans.length + left.length > 0) throw new Error("the soak found lost or leftover objects");
}
