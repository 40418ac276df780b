// A BuildKit daemon for one run: its own folders and socket, and the host's network, because no
// program of its builds uses a network.
import { spawn } from "node:child_process";
import { openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/command.mjs";
import { untilReady } from "./daemon.mjs";
import { compiled, packaged } from "./tools.mjs";

const runtime = await packaged("runc");
const daemon = await compiled("buildkitd");
const client = await compiled("buildctl");
const notRoot = process.getuid() === 0 ? undefined : "buildkitd needs root";

export const buildctl = client.program;
export const buildkitd = daemon.program;
export const missing =
  [runtime.missing, daemon.missing, client.missing, notRoot].filter(Boolean).join("; ") || undefined;

/** Starts buildkitd with its state in a folder. Returns `{ address, stop }`. */
export async function startBuildkitd(folder) {
  const [log, config] = ["buildkitd.log", "buildkitd.toml"].map((name) => join(folder, name));
  const address = `unix://${join(folder, "buildkitd.sock")}`;
  // An empty configuration, so that this machine's is not read.
  writeFileSync(config, "");
  const options = [
    `--config=${config}`,
    `--root=${join(folder, "buildkit")}`,
    `--addr=${address}`,
    "--containerd-worker=false",
    "--oci-worker=true",
    "--oci-worker-snapshotter=native",
    "--oci-worker-net=host",
  ];
  const output = openSync(log, "w");
  const running = spawn(daemon.program, options, { stdio: ["ignore", output, output] });
  const stop = await untilReady(running, {
    answers: async () => (await run(buildctl, [`--addr=${address}`, "debug", "workers"])).code === 0,
    limit: 60_000,
    problem: () => `buildkitd does not answer:\n${readFileSync(log, "utf8").slice(-4000)}`,
  });
  return { address, stop };
}
