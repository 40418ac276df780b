// Reads what workerd, our own child, takes of the machine, from /proc.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

/** Process ids of the workerd processes that this process started; none where there is no /proc to tell. */
export function runtimes() {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const stat = read(`/proc/${pid}/stat`);
      // The name stands in brackets and may hold anything; the parent is the second field after it.
      const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(stat) ?? [];
      return name === "workerd" && Number(rest.split(" ")[1]) === process.pid;
    })
    .map(Number);
}

/** Bytes resident now, and at most since the start or the last `resetPeak`; not a number where nothing tells. */
export function memoryOf(pid) {
  const status = read(`/proc/${pid}/status`);
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1024;
  return { resident: field("VmRSS"), peak: field("VmHWM") };
}

/** Lets the peak start again from what is resident now. */
export function resetPeak(pid) {
  if (pid) writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

/** Seconds of processor time taken so far. */
export function processorSeconds(pid) {
  // Times of user and system are the 14th and 15th field, in ticks of which Linux tells programs 100 a second.
  const fields = read(`/proc/${pid}/stat`).split(") ").at(-1).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // A process may end between the listing and the look.
    if (error.code === "ENOENT" || error.code === "ESRCH") return "";
    throw error;
  }
}
