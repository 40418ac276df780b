// BuildKit's cache in the registry, in each form in which buildctl exports it. An import after
// `buildctl prune --all` finds every step, and so does one after rounds of the sweep.
//
//   node tests/judges/cache.mjs                all forms
//   … --only index                             one; may be repeated
//   … --keep                                   writes the requests to tests/data/artifacts
//   … --list                                   the names of the forms
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { buildctl, missing, startBuildkitd } from "../clients/buildkitd.mjs";
import { dockerConfig } from "../clients/client.mjs";
import { kept, startRecorder } from "../clients/replay.mjs";
import { unpacked } from "../clients/tools.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { start } from "../edge/harness.mjs";
import { rounds } from "../edge/rounds.mjs";
import { whole } from "../edge/push.mjs";
import { check } from "./fixtures.mjs";
import { chosenOf, must, runSteps } from "./steps.mjs";

/** The timeout of a command, in milliseconds. */
const LIMIT = 120_000;
const GRACE = 6;
/** One round marks a blob, the next one removes it, and the last one finds nothing to do. */
const ROUNDS = 3;

const CONFIG = "application/vnd.buildkit.cacheconfig.v0";
const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/**
 * The forms of the cache: the options of the export, the type of the manifest, and the types that
 * it lists. The first stage has two layers, and so has the second.
 */
const FORMS = {
  // The default before BuildKit 0.21.
  index: {
    options: "image-manifest=false",
    type: "application/vnd.oci.image.index.v1+json",
    types: [...Array(4).fill(LAYER), CONFIG],
  },
  image: {
    options: "image-manifest=true",
    type: "application/vnd.oci.image.manifest.v1+json",
    types: [CONFIG, ...Array(4).fill(LAYER)],
  },
  docker: {
    options: "image-manifest=false,oci-mediatypes=false",
    type: "application/vnd.docker.distribution.manifest.list.v2+json",
    types: [...Array(4).fill(DOCKER_LAYER), CONFIG],
  },
};

/**
 * A build with two stages, whose result is another one each time that it runs. Its program is
 * mounted, because a layer with it would be too large for a fixture.
 */
const DOCKERFILE = `FROM scratch AS build
COPY source /source
RUN --mount=source=busybox,target=/busybox ["/busybox", "sh", "-c", "/busybox cat /source /proc/sys/kernel/random/uuid > /built"]
FROM scratch
COPY --from=build /built /built
RUN --mount=source=busybox,target=/busybox ["/busybox", "cp", "/built", "/copied"]
`;
const STEPS = 4;

const { values } = parseArgs({
  options: { only: { type: "string", multiple: true }, keep: { type: "boolean" }, list: { type: "boolean" } },
});

/** Builds with one daemon, in a folder. */
class Builder {
  /** The commands that ran, without what names this run. */
  commands = [];

  constructor(folder, daemon, host) {
    Object.assign(this, { folder, daemon, host });
  }

  async #call(args) {
    const words = ["buildctl", ...args].map((word) => word.replaceAll(this.host, "HOST").replaceAll(this.folder, "."));
    this.commands.push(words.join(" "));
    const env = { DOCKER_CONFIG: this.folder };
    const { output } = await must(buildctl, [`--addr=${this.daemon.address}`, ...args], { env, limit: LIMIT });
    return output;
  }

  /** Forgets all that was built. */
  async prune() {
    await this.#call(["prune", "--all"]);
  }

  /**
   * Builds. Resolves with the file of the result, and with the number of steps that the cache had.
   */
  async build(...options) {
    const [context, out] = ["context", "out"].map((name) => join(this.folder, name));
    await rm(out, { recursive: true, force: true });
    const locals = ["context", "dockerfile"].map((name) => `--local=${name}=${context}`);
    const output = await this.#call([
      "build",
      "--progress=rawjson",
      "--frontend=dockerfile.v0",
      ...locals,
      ...options,
      `--output=type=local,dest=${out}`,
    ]);
    const steps = new Map();
    for (const line of output.trim().split("\n"))
      for (const { digest, name, cached } of JSON.parse(line).vertexes ?? [])
        if (/^\[\S+ \d+\/\d+\] /.test(name)) steps.set(digest, cached || steps.get(digest) === true);
    assert.equal(steps.size, STEPS, output);
    const result = await readFile(join(out, "copied"), "utf8");
    return { result, found: [...steps.values()].filter((isCached) => isCached).length };
  }
}

/** Exports a cache in a form, and imports it. Resolves with a line and the fixture. */
async function judge(name, folder, daemon) {
  const { options, type, types } = FORMS[name];
  const vars = { STRATA_GRACE_SECONDS: String(GRACE), STRATA_STALE_SECONDS: "1" };
  const strata = await start({ probe: false, vars });
  const recorder = await startRecorder(strata.url);
  try {
    const { host } = recorder;
    await dockerConfig(folder, host);
    const builder = new Builder(folder, daemon, host);
    const at = `type=registry,ref=${host}/artifacts/cache-${name}:cache`;
    await builder.prune();
    const first = await builder.build(`--export-cache=${at},mode=max,${options}`);
    assert.equal(first.found, 0);

    const imported = async () => {
      await builder.prune();
      const again = await builder.build(`--import-cache=${at}`);
      assert.deepEqual(again, { ...first, found: STEPS }, "the import did not find each step");
    };
    await imported();
    const { commands } = builder;
    const fixture = {
      versions: [basename(buildctl).replace("-v", " ")],
      commands: [...commands],
      type,
      types,
      ...kept(recorder.records),
      referrers: {},
    };

    // Without the cache, each step runs, and the result is another one.
    await builder.prune();
    const other = await builder.build();
    assert.ok(other.found === 0 && other.result !== first.result, "a build without the cache found steps");

    const manifest = await strata.send("GET", `/v2/artifacts/cache-${name}/manifests/cache`);
    const { config, layers = [], manifests = [] } = manifest.json();
    assert.equal(manifest.headers["content-type"], type);
    const listed = [config, ...layers, ...manifests].filter(Boolean);
    assert.deepEqual(
      listed.map(({ mediaType }) => mediaType),
      types,
    );

    const stray = buffer(1000, "stray");
    assert.equal((await whole(strata, "artifacts/stray", digestOf(stray), stray)).status, 201);
    const stored = async () => (await strata.objects("blobs/")).map(({ key }) => `sha256:${key.split("/").at(-1)}`);
    assert.ok((await stored()).includes(digestOf(stray)));
    await rounds(strata, { times: ROUNDS, grace: GRACE });
    const digests = listed.map(({ digest }) => digest).sort();
    assert.deepEqual((await stored()).sort(), digests, "the sweep keeps the blobs of the cache only");
    await imported();

    await strata.send("DELETE", `/v2/artifacts/cache-${name}/manifests/${manifest.headers["docker-content-digest"]}`);
    await rounds(strata, { times: ROUNDS, grace: GRACE });
    assert.deepEqual(await stored(), [], "the sweep removes the blobs of a cache that was deleted");
    assert.deepEqual(await strata.objects("extents/"), [], "buildctl sends each blob whole, so none has extents");
    const line = `${STEPS} of ${STEPS} steps CACHED after a prune, and after ${ROUNDS} rounds of the sweep; none without the cache`;
    return { line, fixture: JSON.parse(JSON.stringify(fixture)) };
  } finally {
    recorder.stop();
    await strata.stop();
  }
}

const chosen = chosenOf(Object.keys(FORMS), values);
if (missing) throw new Error(missing);
// A static program, because the images have no libraries.
const busybox = await unpacked("busybox", "busybox-static");
if (busybox.missing) throw new Error(busybox.missing);
const folder = await mkdtemp(join(tmpdir(), "strata-cache-"));
const daemon = await startBuildkitd(folder);
try {
  await mkdir(join(folder, "context"));
  await writeFile(join(folder, "context/Dockerfile"), DOCKERFILE);
  await writeFile(join(folder, "context/source"), "source\n");
  await copyFile(busybox.program, join(folder, "context/busybox"));
  await runSteps(chosen, async (name) => {
    const { line, fixture } = await judge(name, folder, daemon);
    const counts = await check(`cache-${name}`, fixture, values.keep);
    return `${fixture.type}; ${line}; ${counts}; ${fixture.versions.join(", ")}`;
  });
} finally {
  await daemon.stop();
  await rm(folder, { recursive: true, force: true });
}
