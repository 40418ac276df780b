// A containerd for the tests alone, which ctr talks to.
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../scripts/command.mjs";
import { untilReady } from "./daemon.mjs";
import { packaged } from "./tools.mjs";

const daemon = await packaged("containerd");
const client = await packaged("ctr");
const notRoot = process.getuid() === 0 ? undefined : "containerd needs root";

export const ctr = client.program;
export const missing = [daemon.missing, client.missing, notRoot].filter(Boolean).join("; ") || undefined;

/** Starts containerd with its state in a folder. Returns `{ socket, stop }`. */
export async function startContainerd(folder) {
  const socket = join(folder, "socket");
  const config = join(folder, "config.toml");
  // Each namespace must fetch its own content. The CRI plugin is off, because no container runs.
  await writeFile(
    config,
    `version = 2
root = "${join(folder, "root")}"
state = "${join(folder, "state")}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${socket}"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
`,
  );
  const running = spawn(daemon.program, [`--config=${config}`, "--log-level=error"], { stdio: "ignore" });
  const stop = await untilReady(running, {
    answers: async () => (await run(ctr, ["--address", socket, "version"])).code === 0,
    limit: 20_000,
    problem: () => "containerd does not answer",
  });
  return { socket, stop };
}
