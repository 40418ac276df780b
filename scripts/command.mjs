// Other programs: finding them, running them with their output kept, and ending them when we end.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import util from "node:util";

/** The repository's folder. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

const running = new Set();
process.on("exit", () => {
  for (const child of running) stop(child, "SIGTERM");
});

/**
 * Runs a program to its end, without input. Resolves with its exit code, its standard output, and all that it printed in the order
 * in which it came. `line` hears what it printed last.
 */
export function run(program, args, { cwd = ROOT, env = {}, line = () => {}, limit } = {}) {
  return new Promise((resolve, reject) => {
    // A group of its own, so that what the program started ends with it.
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const result = { code: null, stdout: "", output: "", timedOut: false };
    const expire = () => {
      result.timedOut = true;
      stop(child, "SIGKILL");
    };
    const timer = limit && setTimeout(expire, limit);
    running.add(child);
    const keep = (chunk) => {
      result.output += chunk;
      const last = result.output
        .slice(-400)
        .trimEnd()
        .split(/[\r\n]+/)
        .at(-1);
      if (last) line(util.stripVTControlCharacters(last).trim());
    };
    child.stdout.setEncoding("utf8").on("data", (chunk) => {
      result.stdout += chunk;
      keep(chunk);
    });
    child.stderr.setEncoding("utf8").on("data", keep);
    child.on("error", (error) => {
      running.delete(child);
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (code, signal) => {
      running.delete(child);
      clearTimeout(timer);
      resolve({ ...result, code: code ?? signal });
    });
  });
}

/** The path of a program, as the shell would find it. */
export function find(program) {
  for (const folder of (process.env.PATH ?? "").split(path.delimiter)) {
    const file = path.join(folder, program);
    try {
      fs.accessSync(file, fs.constants.X_OK);
      if (fs.statSync(file).isFile()) return file;
    } catch {
      // Not here.
    }
  }
  return undefined;
}

function stop(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}
