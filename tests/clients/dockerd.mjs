// A docker daemon for the tests alone: its own folders and socket, no network, no firewall rules.
import { spawn } from "node:child_process";
import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/command.mjs";
import { untilReady } from "./daemon.mjs";
import { packaged, unpacked } from "./tools.mjs";

// docker.io is only unpacked: installing it would start its service, which changes firewall rules.
// containerd is installed, because it brings runc and the shims that start it.
const containerd = await packaged("containerd");
const daemon = await unpacked("dockerd", "docker.io");
const client = await unpacked("docker", "docker.io");
const notRoot = process.getuid() === 0 ? undefined : "dockerd needs root";

export const docker = client.program;
export const missing =
  [containerd.missing, daemon.missing, client.missing, notRoot].filter(Boolean).join("; ") || undefined;

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
  // From Docker 23 on, BuildKit needs the buildx plugin, which is not unpacked.
  const env = { DOCKER_HOST: host, DOCKER_CONFIG: join(folder, "config"), DOCKER_BUILDKIT: "0" };
  const stop = await untilReady(running, {
    answers: async () => (await run(docker, ["version"], { env })).code === 0,
    limit: 60_000,
    problem: () => `dockerd does not answer:\n${readFileSync(log, "utf8").slice(-4000)}`,
  });
  return { env, stop };
}
