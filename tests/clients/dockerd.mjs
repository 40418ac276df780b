// A docker daemon for the tests alone: its own folders and socket, no network, no firewall rules.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/command.mjs";
import { packaged, unpacked } from "./tools.mjs";

// docker.io would start its service if it were installed; containerd brings runc.
const containerd = await packaged("containerd");
const daemon = await unpacked("dockerd", "docker.io");
const client = await unpacked("docker", "docker.io");
const privilege = process.getuid() === 0 ? undefined : "dockerd needs root";

export const docker = client.program;
export const missing =
  [containerd.missing, daemon.missing, client.missing, privilege].filter(Boolean).join("; ") || undefined;

/** Starts dockerd with its state in a folder. Returns `{ env, stop }`; clients need `env`. */
export async function startDockerd(folder) {
  const log = join(folder, "dockerd.log");
  const host = `unix://${join(folder, "docker.sock")}`;
  const own = { "data-root": "data", "exec-root": "exec", pidfile: "docker.pid" };
  const options = [
    ...Object.entries(own).map(([name, file]) => `--${name}=${join(folder, file)}`),
    `--host=${host}`,
    "--storage-driver=vfs",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
  ];
  const output = openSync(log, "w");
  const running = spawn(daemon.program, options, { stdio: ["ignore", output, output] });
  // The builder of this daemon's own age: newer clients would ask for a plugin.
  const env = { DOCKER_HOST: host, DOCKER_CONFIG: join(folder, "config"), DOCKER_BUILDKIT: "0" };
  const stop = async () => {
    if (running.exitCode !== null) return;
    const ended = once(running, "exit");
    running.kill();
    await ended;
  };
  try {
    for (const deadline = Date.now() + 60_000; (await run(docker, ["version"], { env })).code !== 0; ) {
      const isLate = running.exitCode !== null || Date.now() > deadline;
      assert.ok(!isLate, `dockerd does not answer:\n${isLate && readFileSync(log, "utf8").slice(-4000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { env, stop };
}
