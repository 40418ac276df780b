// Finds and runs other programs, keeps their output, and stops them when this process ends.

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
 * Runs a program to its end, without input. Resolves with its exit code, its standard output, and
 * all output in the order of arrival. Whenever there is output, `text` gets it, and `line` its last
 * line. `limit` is a timeout in milliseconds, after which the program is killed. Rejects if the
 * program does not start.
 */
export function run(program, args, { cwd = ROOT, env = {}, line = () => {}, text = () => {}, limit } = {}) {
  return new Promise((resolve, reject) => {
    // Its own process group, so that its child processes stop with it.
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
      text(chunk);
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

/** Returns the path of a program, as the shell would find it, or undefined. */
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
