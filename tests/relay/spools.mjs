// The files of the relay that runs in this process.
import { readdirSync, readlinkSync } from "node:fs";

/** Returns the number of files with chunks that this process has open. */
export function spools() {
  const links = readdirSync("/proc/self/fd").map((number) => {
    try {
      return readlinkSync(`/proc/self/fd/${number}`);
    } catch {
      return "";
    }
  });
  return links.filter((name) => name.includes(`/strata-relay-${process.pid}-`)).length;
}
