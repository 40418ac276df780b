// Reads the memory and the processor time of workerd, a child process, from /proc.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

/** Returns the ids of the workerd processes that this process started: none without /proc. */
export function runtimes() {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const stat = read(`/proc/${pid}/stat`);
      // The name is in parentheses and may have any character. The parent is the second field after
      // it.
      const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(stat) ?? [];
      return name === "workerd" && Number(rest.split(" ")[1]) === process.pid;
    })
    .map(Number);
}

/**
 * Returns the resident bytes: now, and the peak since the start or the last `resetPeak`. Both are
 * NaN if /proc has nothing.
 */
export function memoryOf(pid) {
  const status = read(`/proc/${pid}/status`);
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1024;
  return { resident: field("VmRSS"), peak: field("VmHWM") };
}

/** Resets the peak to the bytes that are resident now. */
export function resetPeak(pid) {
  if (pid) writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

/** Returns the seconds of processor time so far. */
export function processorSeconds(pid) {
  // User and system time are the 14th and the 15th field. Linux reports 100 ticks a second to
  // programs.
  const fields = read(`/proc/${pid}/stat`).split(") ").at(-1).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // A process may end between the listing and the read.
    if (error.code === "ENOENT" || error.code === "ESRCH") return "";
    throw error;
  }
}
