// Daemons that a test starts for itself.
import assert from "node:assert/strict";
import { once } from "node:events";

/**
 * Waits until a started daemon answers. Resolves with a function that ends it. Ends it and rejects
 * with `problem()` if it exits, or does not answer in time.
 *
 * @param {import("node:child_process").ChildProcess} daemon
 * @param {{ answers: () => Promise<boolean>, limit: number, problem: () => string }} options
 *   `limit` is in milliseconds
 */
export async function untilReady(daemon, { answers, limit, problem }) {
  const stop = async () => {
    if (daemon.exitCode !== null) return;
    const ended = once(daemon, "exit");
    daemon.kill();
    await ended;
  };
  try {
    for (const deadline = Date.now() + limit; !(await answers()); ) {
      if (daemon.exitCode !== null || Date.now() > deadline) assert.fail(problem());
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}
