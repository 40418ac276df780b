// Artifacts by the clients that make them: helm's charts, Flux's sources, SBOMs, signatures by
// cosign. Each is pushed, pulled again, compared and verified, and its requests are replayed on
// another registry.
//
//   node tests/judges/artifacts.mjs            all artifacts
//   … --only helm                              one; may be repeated
//   … --keep                                   writes the requests to tests/data/artifacts
//   … --list                                   the names of the artifacts
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { dockerConfig } from "../clients/client.mjs";
import { kept, referrersOf, startRecorder } from "../clients/replay.mjs";
import { compiled } from "../clients/tools.mjs";
import { buffer } from "../edge/bytes.mjs";
import { start } from "../edge/harness.mjs";
import { writeLayout } from "../images/layout.mjs";
import { check } from "./fixtures.mjs";
import { chosenOf, must, runSteps } from "./steps.mjs";

/** The timeout of a command, in milliseconds. */
const LIMIT = 120_000;

const SBOM = "application/spdx+json";
const FLUX = "application/vnd.cncf.flux";
const BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json";

const { values } = parseArgs({
  options: { only: { type: "string", multiple: true }, keep: { type: "boolean" }, list: { type: "boolean" } },
});

/**
 * Runs a client's programs in a folder of its own, against a registry. `run(name, args)` runs one
 * and resolves with its output; `commands` has them all, and `versions` those of the programs.
 */
class Client {
  commands = [];
  versions = [];
  #programs = {};

  constructor(folder, host, strata) {
    Object.assign(this, { folder, host, strata });
  }

  /** Compiles a program. Its file's name has its version. */
  async use(name) {
    const { program, missing } = await compiled(name);
    assert.ok(!missing, missing);
    this.#programs[name] = program;
    this.versions.push(basename(program).replace(/\d?-v/, " "));
  }

  async run(name, args, more = {}) {
    const words = [name.replace(/\d$/, ""), ...args].map((word) => word.replaceAll(this.host, "HOST"));
    this.commands.push(words.join(" "));
    const { folder } = this;
    const env = {
      HOME: folder,
      DOCKER_CONFIG: folder,
      HELM_REGISTRY_CONFIG: join(folder, "config.json"),
      COSIGN_PASSWORD: "",
      // Nothing leaves this machine.
      HTTPS_PROXY: "http://127.0.0.1:9",
      NO_PROXY: "127.0.0.1",
      ...more,
    };
    return must(this.#programs[name], args, { cwd: folder, env, limit: LIMIT });
  }

  /** Returns a reference to the registry. */
  at(name) {
    return `${this.host}/artifacts/${name}`;
  }

  /** Writes a file into the folder. Resolves with its bytes. */
  async write(name, content) {
    const bytes = Buffer.from(content);
    await mkdir(join(this.folder, name, ".."), { recursive: true });
    await writeFile(join(this.folder, name), bytes);
    return bytes;
  }

  /** Checks that a file that was pulled has these bytes. */
  async same(name, bytes) {
    assert.ok((await readFile(join(this.folder, name))).equals(bytes), `${name} came back different`);
  }

  /** Resolves with a manifest, as the registry has it. */
  async manifest(name, reference) {
    const path = `/v2/artifacts/${name}/manifests/${reference}`;
    const reply = await this.strata.send("GET", path, { headers: { accept: "*/*" } });
    assert.equal(reply.status, 200, reply.body.toString());
    return { ...reply.json(), digest: reply.headers["docker-content-digest"] };
  }

  /** Pushes a small image by oras. Resolves with its reference by digest. */
  async image(name) {
    await this.write(`${name}/files/data`, buffer(300, name));
    const layout = join(this.folder, name, "layout");
    const { manifest } = await writeLayout(layout, [join(this.folder, name, "files")], { architecture: "amd64" });
    await this.run("oras", [
      "cp",
      "--from-oci-layout",
      `${name}/layout:latest`,
      "--to-plain-http",
      this.at(`${name}:v1`),
    ]);
    return { digest: manifest.digest, reference: `${this.at(name)}@${manifest.digest}` };
  }
}

/** Signs and verifies with a cosign. Resolves with the reference of the image. */
async function signed(client, cosign, sign, verify) {
  await client.use("oras");
  await client.use(cosign);
  const { digest, reference } = await client.image(cosign);
  await client.run(cosign, ["generate-key-pair", "--output-key-prefix=key"]);
  const http = "--allow-http-registry";
  await client.run(cosign, ["sign", "--yes", "--key=key.key", http, ...sign, reference]);
  const checks = ["--key=key.pub", "--insecure-ignore-tlog", http, ...verify];
  const { stdout } = await client.run(cosign, ["verify", ...checks, reference]);
  assert.ok(stdout.includes(digest), stdout);
  // Another key has signed nothing.
  await client.run(cosign, ["generate-key-pair", "--output-key-prefix=other"]);
  const other = ["verify", ...checks.with(0, "--key=other.pub"), reference];
  await assert.rejects(client.run(cosign, other), /no matching signatures|invalid signature|failed to verify/);
  await client.write("predicate.json", JSON.stringify({ built: "here" }));
  const predicate = ["--predicate=predicate.json", "--type=custom"];
  await client.run(cosign, ["attest", "--yes", "--key=key.key", http, ...predicate, ...sign, reference]);
  await client.run(cosign, ["verify-attestation", ...checks, "--type=custom", reference]);
  return digest;
}

/** Each artifact is pushed, pulled and checked by its client, and resolves with a line about it. */
const ARTIFACTS = {
  async helm(client) {
    await client.use("helm");
    await client.write("app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0+build.1\ndescription: a chart\n");
    await client.write("app/values.yaml", "replicas: 2\n");
    const template =
      "kind: ConfigMap\napiVersion: v1\nmetadata: { name: app }\ndata: { n: '{{ .Values.replicas }}' }\n";
    await client.write("app/templates/config.yaml", template);
    await client.run("helm", ["package", "app"]);
    const packaged = await readFile(join(client.folder, "app-0.1.0+build.1.tgz"));
    await client.run("helm", ["push", "app-0.1.0+build.1.tgz", `oci://${client.at("charts")}`, "--plain-http"]);
    await mkdir(join(client.folder, "pulled"));
    const chart = [`oci://${client.at("charts/app")}`, "--plain-http", "--version=0.1.0+build.1"];
    await client.run("helm", ["pull", ...chart, "--destination=pulled"]);
    await client.same("pulled/app-0.1.0+build.1.tgz", packaged);
    assert.match((await client.run("helm", ["template", "app", ...chart])).stdout, /n: '2'/);
    const { config } = await client.manifest("charts/app", "0.1.0_build.1");
    assert.equal(config.mediaType, "application/vnd.cncf.helm.config.v1+json");
    return "a chart, pulled and rendered";
  },

  async flux(client) {
    await client.use("oras");
    const source = await client.write("source.tar.gz", buffer(2_000, "flux"));
    await client.write("flux.json", "{}");
    const annotations = Object.entries({
      created: "2026-01-02T03:04:05Z",
      source: "https://git.example/team/fleet",
      revision: "main@sha1:3b1a2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
    }).map(([name, value]) => `--annotation=org.opencontainers.image.${name}=${value}`);
    await client.run("oras", [
      "push",
      "--plain-http",
      `--config=flux.json:${FLUX}.config.v1+json`,
      ...annotations,
      client.at("flux:v1"),
      `source.tar.gz:${FLUX}.content.v1.tar+gzip`,
    ]);
    const { config, layers, digest } = await client.manifest("flux", "v1");
    assert.deepEqual(
      [config, ...layers].map(({ mediaType }) => mediaType),
      [`${FLUX}.config.v1+json`, `${FLUX}.content.v1.tar+gzip`],
    );
    await client.run("oras", ["pull", "--plain-http", "--output=pulled", `${client.at("flux")}@${digest}`]);
    await client.same("pulled/source.tar.gz", source);
    return "a source with its own config and layer types, pulled by digest";
  },

  async sbom(client) {
    await client.use("oras");
    const { digest, reference } = await client.image("sbom");
    const document = { spdxVersion: "SPDX-2.3", SPDXID: "SPDXRef-DOCUMENT", name: "sbom", packages: [] };
    const sbom = await client.write("sbom.spdx.json", JSON.stringify(document));
    const about = ["--annotation=org.opencontainers.image.created=2026-01-02T03:04:05Z", `--artifact-type=${SBOM}`];
    await client.run("oras", ["attach", "--plain-http", ...about, reference, `sbom.spdx.json:${SBOM}`]);
    const discover = ["discover", "--plain-http", "--format=json", `--artifact-type=${SBOM}`, reference];
    const { manifests } = JSON.parse((await client.run("oras", discover)).stdout);
    assert.equal(manifests.length, 1);
    assert.equal((await client.manifest("sbom", manifests[0].digest)).subject.digest, digest);
    const attached = `${client.at("sbom")}@${manifests[0].digest}`;
    await client.run("oras", ["pull", "--plain-http", "--output=pulled", attached]);
    await client.same("pulled/sbom.spdx.json", sbom);
    return "an SBOM, discovered from its image and pulled";
  },

  async cosign2(client) {
    const digest = await signed(client, "cosign2", ["--tlog-upload=false"], []);
    const tag = digest.replace(":", "-");
    for (const kind of ["sig", "att"])
      assert.ok((await client.manifest("cosign2", `${tag}.${kind}`)).layers.length > 0);
    // The same as a referrer of the image.
    const { digest: other, reference } = await client.image("cosign2-referrers");
    const experiment = { COSIGN_EXPERIMENTAL: "1" };
    const sign = ["--tlog-upload=false", "--registry-referrers-mode=oci-1-1"];
    const verify = ["--insecure-ignore-tlog", "--experimental-oci11"];
    const http = "--allow-http-registry";
    await client.run("cosign2", ["sign", "--yes", "--key=key.key", http, ...sign, reference], experiment);
    await client.run("cosign2", ["verify", "--key=key.pub", http, ...verify, reference], experiment);
    const { body } = await client.strata.send("GET", `/v2/artifacts/cosign2-referrers/referrers/${other}`);
    assert.equal(JSON.parse(body).manifests.length, 1);
    return "signatures under a tag and as a referrer, and an attestation, verified; another key is refused";
  },

  async cosign3(client) {
    const digest = await signed(client, "cosign3", ["--tlog-upload=false", "--use-signing-config=false"], []);
    const { body } = await client.strata.send("GET", `/v2/artifacts/cosign3/referrers/${digest}`);
    const types = JSON.parse(body).manifests.map(({ artifactType }) => artifactType);
    assert.deepEqual(types, [BUNDLE, BUNDLE]);
    return "bundles of a signature and an attestation as referrers, verified; another key is refused";
  },
};

/** Pushes an artifact. Resolves with its line, and with all that is kept of it. */
async function judge(name) {
  const folder = await mkdtemp(join(tmpdir(), "strata-artifacts-"));
  const strata = await start({ probe: false });
  const recorder = await startRecorder(strata.url);
  try {
    await dockerConfig(folder, recorder.host);
    const client = new Client(folder, recorder.host, strata);
    const line = await ARTIFACTS[name](client);
    const { versions, commands } = client;
    const fixture = { versions, commands, ...kept(recorder.records) };
    fixture.referrers = await referrersOf(strata, fixture);
    return { line, fixture: JSON.parse(JSON.stringify(fixture)) };
  } finally {
    recorder.stop();
    await strata.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const chosen = chosenOf(Object.keys(ARTIFACTS), values);
await runSteps(chosen, async (name) => {
  const { line, fixture } = await judge(name);
  const counts = await check(name, fixture, values.keep);
  return `${line}; ${counts}; ${fixture.versions.join(", ")}`;
});
