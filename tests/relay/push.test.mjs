// Pushes without a daemon: of OCI layouts and of tars of `docker save`, behind an edge that limits
// request bodies.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import zlib from "node:zlib";
import { credentialsFor, Journal, push as pushImage } from "../../relay/relay.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { basic, password, start, user } from "../edge/harness.mjs";
import { writeLayout } from "../images/layout.mjs";
import { startEdge } from "./edge.mjs";

const MIB = 1 << 20;
const LIMIT = 8 * MIB;
const CHUNK = 6 * MIB;
const RELAY = fileURLToPath(new URL("../../relay/relay.mjs", import.meta.url));
const INDEX = "application/vnd.oci.image.index.v1+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

describe("a push without a daemon", { timeout: 240_000 }, () => {
  let strata;
  let edge;
  let folder;
  let image;
  before(async () => {
    strata = await start({ probe: false });
    folder = mkdtempSync(join(tmpdir(), "strata-push-test-"));
    const stages = ["base", "top"].map((name) => join(folder, name));
    for (const stage of stages) mkdirSync(stage);
    writeFileSync(join(stages[0], "random"), buffer(14 * MIB, "a layer of random bytes"));
    writeFileSync(join(stages[1], "small"), "a small file\n");
    const layout = join(folder, "layout");
    image = { layout, ...(await writeLayout(layout, stages)) };
  });
  after(async () => {
    await strata.stop();
    rmSync(folder, { recursive: true });
  });
  beforeEach(async () => {
    edge = await startEdge({ origin: strata.url, limit: LIMIT });
  });
  afterEach(() => edge.stop());

  /** Starts the program as a user does. Resolves with its exit code and its lines. */
  function relay(args, { input, env = { RELAY_USER: user, RELAY_PASSWORD: password } } = {}) {
    const options = ["--state", join(folder, "state"), "--chunk", String(CHUNK)];
    const child = spawn(process.execPath, [RELAY, ...options, ...args], {
      env: { PATH: process.env.PATH, HOME: folder, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    child.stdin.on("error", () => {});
    if (input) input.pipe(child.stdin);
    else child.stdin.end();
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    return { child, ended: once(child, "close").then(([code]) => ({ code, output })) };
  }

  const push = (source, name, options) =>
    relay(["push", source, "--to", `http://127.0.0.1:${edge.url.port}/${name}`, ...(options?.more ?? [])], options)
      .ended;
  const pulled = async (path) => {
    const response = await strata.send("GET", `/v2/${path}`, { headers: { accept: "*/*" } });
    assert.equal(response.status, 200, `${path}: ${response.body}`);
    return response.body;
  };
  const blobOf = (digest) => readFileSync(join(image.layout, "blobs", ...digest.split(":")));

  /** Checks that the repository has the image of the layout, byte by byte. */
  async function hasImage(name) {
    assert.equal(digestOf(await pulled(`${name}/manifests/v1`)), image.manifest.digest);
    for (const { digest } of image.blobs) assert.ok((await pulled(`${name}/blobs/${digest}`)).equals(blobOf(digest)));
  }

  test("of an OCI layout sends chunks that the edge accepts, and nothing twice", async () => {
    const { code, output } = await push(image.layout, "push/layout:v1");
    assert.equal(code, 0, output);
    assert.match(output, new RegExp(`/push/layout:v1@${image.manifest.digest}\n$`));
    await hasImage("push/layout");
    assert.equal(edge.refusals, 0);
    assert.ok(edge.requests.every(({ bytes }) => bytes <= CHUNK));
    const { received } = edge;
    const again = await push(image.layout, "push/layout:v2");
    assert.equal(again.code, 0, again.output);
    assert.ok(edge.received - received < 10_000, `${edge.received - received} bytes again`);
    assert.deepEqual(readdirSync(join(folder, "state/uploads")), []);
  });

  test("of a tar of a layout, from a file and from standard input", async () => {
    const archive = join(folder, "layout.tar");
    execFileSync("tar", ["--create", `--file=${archive}`, `--directory=${image.layout}`, "."]);
    const { code, output } = await push(archive, "push/tar:v1");
    assert.equal(code, 0, output);
    await hasImage("push/tar");
    const piped = await push("-", "push/input:v1", { input: createReadStream(archive) });
    assert.equal(piped.code, 0, piped.output);
    await hasImage("push/input");
  });

  test("from standard input leaves no copy, if it is interrupted", async () => {
    const temporary = join(folder, "temporary");
    mkdirSync(temporary);
    const env = { RELAY_USER: user, RELAY_PASSWORD: password, TMPDIR: temporary };
    const { child, ended } = relay(["push", "-", "--to", `http://127.0.0.1:${edge.url.port}/push/cut:v1`], {
      // The input does not end.
      input: { pipe() {} },
      env,
    });
    // A pipe does not hold as many bytes, so the relay has opened the copy when all are written.
    child.stdin.write(buffer(4 * MIB, "interrupted"));
    await once(child.stdin, "drain");
    if (process.platform === "linux") assert.equal(filesOf(child.pid, temporary).length, 1);
    child.kill();
    await ended;
    assert.deepEqual(readdirSync(temporary), []);
  });

  /** Returns the files of a folder that a process has open. */
  function filesOf(pid, within) {
    const links = readdirSync(`/proc/${pid}/fd`).map((number) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${number}`);
      } catch {
        return "";
      }
    });
    return links.filter((name) => name.startsWith(within));
  }

  test("of a docker save with plain layers compresses them", async () => {
    const saved = join(folder, "saved");
    mkdirSync(join(saved, "a"), { recursive: true });
    mkdirSync(join(saved, "b"));
    const [config, ...compressed] = image.blobs;
    const layers = compressed.map(({ digest }) => zlib.gunzipSync(blobOf(digest)));
    writeFileSync(join(saved, "config.json"), blobOf(config.digest));
    writeFileSync(join(saved, "a/layer.tar"), layers[0]);
    writeFileSync(join(saved, "b/layer.tar"), layers[1]);
    const list = { Config: "config.json", RepoTags: ["app:one", "app:two"], Layers: ["a/layer.tar", "b/layer.tar"] };
    writeFileSync(join(saved, "manifest.json"), JSON.stringify([list]));
    const archive = join(folder, "saved.tar");
    execFileSync("tar", ["--create", `--file=${archive}`, `--directory=${saved}`, "."]);
    const { code, output } = await push(archive, "push/saved:v1");
    assert.equal(code, 0, output);
    const manifest = JSON.parse(await pulled("push/saved/manifests/v1"));
    assert.equal(manifest.config.digest, config.digest);
    for (const [at, { digest }] of manifest.layers.entries())
      assert.ok(zlib.gunzipSync(await pulled(`push/saved/blobs/${digest}`)).equals(layers[at]));

    // Newer versions of docker write a layout beside it, of the same plain layers.
    const put = (bytes) => {
      const digest = digestOf(Buffer.from(bytes));
      mkdirSync(join(saved, "blobs/sha256"), { recursive: true });
      writeFileSync(join(saved, "blobs", ...digest.split(":")), bytes);
      return { digest, size: bytes.length };
    };
    const described = { mediaType: "application/vnd.oci.image.config.v1+json", ...put(blobOf(config.digest)) };
    const plain = layers.map((layer) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar", ...put(layer) }));
    const document = { schemaVersion: 2, mediaType: MANIFEST, config: described, layers: plain };
    const top = { mediaType: MANIFEST, ...put(JSON.stringify(document)) };
    const names = ["one", "two"].map((name) => ({ annotations: { "org.opencontainers.image.ref.name": name } }));
    const index = { schemaVersion: 2, manifests: names.map((name) => ({ ...top, ...name })) };
    writeFileSync(join(saved, "index.json"), JSON.stringify(index));
    const both = await push(saved, "push/both:v1");
    assert.equal(both.code, 0, both.output);
    assert.deepEqual(JSON.parse(await pulled("push/both/manifests/v1")), manifest);

    writeFileSync(join(saved, "manifest.json"), JSON.stringify([{ ...list, Layers: [...list.Layers].reverse() }]));
    const wrong = await push(saved, "push/both:v2");
    assert.equal(wrong.code, 1);
    assert.match(wrong.output, /^✗ b\/layer\.tar is not the layer sha256:[0-9a-f]{64} of the image: save it with/);
  });

  test("of an index with blobs and absent manifests sends what is there", async () => {
    const layout = join(folder, "cache");
    execFileSync("cp", ["-r", image.layout, layout]);
    const cache = JSON.stringify({ layers: [], records: [] });
    const put = (text) => {
      const digest = digestOf(Buffer.from(text));
      writeFileSync(join(layout, "blobs", ...digest.split(":")), text);
      return { digest, size: text.length };
    };
    const listed = [image.blobs[1], { mediaType: "application/vnd.buildkit.cacheconfig.v0", ...put(cache) }];
    const top = put(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: listed }));
    writeFileSync(join(layout, "index.json"), JSON.stringify({ manifests: [{ mediaType: INDEX, ...top }] }));
    const { code, output } = await push(layout, "push/cache:v1");
    assert.equal(code, 0, output);
    assert.equal(digestOf(await pulled("push/cache/manifests/v1")), top.digest);

    const absent = { mediaType: MANIFEST, digest: digestOf(Buffer.from("absent")), size: 6 };
    const sparse = put(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [image.manifest, absent] }));
    writeFileSync(join(layout, "index.json"), JSON.stringify({ manifests: [{ mediaType: INDEX, ...sparse }] }));
    const refused = await push(layout, "push/sparse:v1");
    assert.equal(refused.code, 1);
    assert.ok(refused.output.includes(`${absent.digest} in repository push/sparse; push it first`), refused.output);
  });

  test("of an image whose names lead elsewhere is refused", async () => {
    const layout = join(folder, "elsewhere");
    mkdirSync(layout);
    const top = { mediaType: MANIFEST, digest: "sha256:../../layout.tar", size: 1 };
    writeFileSync(join(layout, "index.json"), JSON.stringify({ manifests: [top] }));
    assert.match((await push(layout, "push/elsewhere:v1")).output, /^✗ "sha256:..\/..\/layout.tar" is no digest\n$/);
    rmSync(join(layout, "index.json"));
    const list = [{ Config: "../layout/index.json", RepoTags: ["a:b"], Layers: [] }];
    writeFileSync(join(layout, "manifest.json"), JSON.stringify(list));
    assert.match((await push(layout, "push/elsewhere:v1")).output, /^✗ "..\/layout\/index.json" leads out of the/);
    symlinkSync(join(folder, "layout/index.json"), join(layout, "link"));
    writeFileSync(join(layout, "manifest.json"), JSON.stringify([{ ...list[0], Config: "link" }]));
    assert.match((await push(layout, "push/elsewhere:v1")).output, /^✗ "link" leads out of the image's folder\n$/);
  });

  test("of several images asks for one by name, and an index brings its children", async () => {
    const layout = join(folder, "several");
    execFileSync("cp", ["-r", image.layout, layout]);
    const index = JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [image.manifest] });
    const digest = digestOf(Buffer.from(index));
    writeFileSync(join(layout, "blobs", ...digest.split(":")), index);
    const named = (name) => ({ annotations: { "org.opencontainers.image.ref.name": name } });
    const manifests = [
      { ...image.manifest, ...named("one") },
      { mediaType: INDEX, digest, size: index.length, ...named("all") },
    ];
    writeFileSync(join(layout, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
    const refused = await push(layout, "push/several:v1");
    assert.equal(refused.code, 1);
    assert.equal(refused.output, "✗ the layout has 2 images: select one by --ref, of one, all\n");
    const { code, output } = await push(layout, "push/several:v1", { more: ["--ref", "all"] });
    assert.equal(code, 0, output);
    assert.equal(digestOf(await pulled("push/several/manifests/v1")), digest);
    await pulled(`push/several/manifests/${image.manifest.digest}`);
  });

  test("goes on where it was killed", async () => {
    const largest = image.blobs[1];
    for (let kills = 1; kills <= 2; kills += 1) {
      const { child, ended } = relay([
        "push",
        image.layout,
        "--to",
        `http://127.0.0.1:${edge.url.port}/push/killed:v1`,
      ]);
      while (edge.received < kills * CHUNK + MIB) await new Promise((resolve) => setTimeout(resolve, 5));
      child.kill("SIGKILL");
      await ended;
    }
    const { code, output } = await push(image.layout, "push/killed:v1");
    assert.equal(code, 0, output);
    assert.match(output, /resuming a layer of push\/killed/);
    await hasImage("push/killed");
    // Each kill costs the chunk that was under way at most, and small blobs.
    const most = largest.size + 1.5 * CHUNK;
    assert.ok(edge.received <= most, `${edge.received} bytes for ${largest.size}`);
  });

  test("goes on where it was killed, if the edge refused chunks and with another --chunk", async () => {
    await edge.stop();
    edge = await startEdge({ origin: strata.url, limit: 3 * MIB });
    const largest = image.blobs[1];
    const passed = () =>
      edge.requests.filter(({ bytes }) => bytes <= 3 * MIB).reduce((sum, { bytes }) => sum + bytes, 0);
    // The edge refuses the first size, and the relay sends half of it. The next runs begin anew.
    for (const [index, chunk] of [4 * MIB, 4 * MIB, 5 * MIB, 2 * MIB].entries()) {
      const to = `http://127.0.0.1:${edge.url.port}/push/resized:v1`;
      const { child, ended } = relay(["push", image.layout, "--to", to, "--chunk", String(chunk)]);
      if (index < 3) {
        // The first run has ended two chunks by then, of 4 and 2 MiB.
        const enough = passed() + (index === 0 ? 7 : 1) * MIB;
        while (passed() < enough && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
        child.kill("SIGKILL");
      }
      const { code, output } = await ended;
      assert.equal(code, index < 3 ? null : 0, output);
      if (index > 0) assert.match(output, /resuming a layer of push\/resized/);
    }
    await hasImage("push/resized");
    // A refusal and a kill each cost the chunk that was under way, and small blobs.
    const most = largest.size + 3 * (4 + 2) * MIB;
    const sent = edge.requests.filter(({ method }) => method === "PATCH").map(({ bytes }) => bytes);
    assert.ok(edge.received <= most, `${edge.received} bytes for ${largest.size}: ${sent}`);
  });

  test("signs in as docker does", async () => {
    mkdirSync(join(folder, ".docker"), { recursive: true });
    const auth = Buffer.from(`${user}:${password}`).toString("base64");
    const auths = { [`127.0.0.1:${edge.url.port}`]: { auth } };
    writeFileSync(join(folder, ".docker/config.json"), JSON.stringify({ auths }));
    const { code, output } = await push(image.layout, "push/docker:v1", { env: {} });
    rmSync(join(folder, ".docker"), { recursive: true });
    assert.equal(code, 0, output);
    await hasImage("push/docker");
  });

  test("signs in as podman and skopeo do, if docker has no entry", async () => {
    const host = `127.0.0.1:${edge.url.port}`;
    const runtime = join(folder, "runtime");
    mkdirSync(join(runtime, "containers"), { recursive: true });
    const file = join(runtime, "containers/auth.json");
    const authsOf = (secret) => ({ [host]: { auth: Buffer.from(`${user}:${secret}`).toString("base64") } });
    writeFileSync(file, JSON.stringify({ auths: authsOf(password) }));
    const docker = join(folder, "docker");
    mkdirSync(docker);
    writeFileSync(join(docker, "config.json"), JSON.stringify({ auths: {} }));
    const base = { HOME: folder, DOCKER_CONFIG: docker };
    const found = { user, password };
    assert.deepEqual(await credentialsFor(host, { ...base, XDG_RUNTIME_DIR: runtime }), found);
    assert.deepEqual(await credentialsFor(host, { ...base, REGISTRY_AUTH_FILE: file }), found);
    assert.equal(await credentialsFor("other.example", { ...base, REGISTRY_AUTH_FILE: file }), undefined);
    writeFileSync(join(docker, "config.json"), JSON.stringify({ auths: authsOf("docker's") }));
    const first = await credentialsFor(host, { ...base, REGISTRY_AUTH_FILE: file });
    assert.equal(first.password, "docker's");
    assert.equal((await push(image.layout, "push/podman:v1", { env: { XDG_RUNTIME_DIR: runtime } })).code, 0);
  });

  test("says what to do if it can't", async () => {
    writeFileSync(join(folder, "text"), "not an image".repeat(100));
    writeFileSync(join(folder, "empty.tar"), Buffer.alloc(10_240));
    for (const [name, size] of [
      ["negative.tar", "-1000"],
      ["cut.tar", "77777777"],
    ]) {
      const header = Buffer.alloc(1024);
      for (const [at, text] of [
        [0, "name"],
        [124, size],
        [156, "0"],
        [257, "ustar"],
      ])
        header.write(text, at);
      writeFileSync(join(folder, name), header);
    }
    for (const [source, options, expected] of [
      [join(folder, "none"), {}, /^✗ there is no .*none: name an OCI layout, a tar of docker save, or - for/],
      [join(folder, "text"), {}, /^✗ .*text is not a tar archive: name an OCI layout/],
      [join(folder, "negative.tar"), {}, /^✗ .*negative\.tar is cut or damaged: make it again\n$/],
      [join(folder, "cut.tar"), {}, /^✗ .*cut\.tar is cut or damaged: make it again\n$/],
      [join(folder, "empty.tar"), {}, /^✗ no index\.json and no manifest\.json: it is neither/],
      [
        image.layout,
        { env: { RELAY_USER: user, RELAY_PASSWORD: "wrong" } },
        /^✗ .* refuses the credentials \(401 .*\): docker login 127\.0\.0\.1:\d+, or set RELAY_USER and RELAY_PASSWORD/,
      ],
      [image.layout, { env: {} }, /^✗ .* wants credentials, and there are none \(401 .*\): docker login/],
    ]) {
      const { code, output } = await push(source, "push/refused:v1", options);
      assert.equal(code, 1, output);
      assert.match(output, expected);
      assert.doesNotMatch(output, /\n {4}at /);
    }
  });

  test("says what is wrong with its files, its proxy and its folders", async () => {
    const to = `http://127.0.0.1:${edge.url.port}/push/wrong:v1`;
    const env = { RELAY_USER: user, RELAY_PASSWORD: password };
    const docker = join(folder, "damaged");
    mkdirSync(docker);
    writeFileSync(join(docker, "config.json"), "{");
    writeFileSync(join(folder, "file"), "");
    for (const [args, more, expected] of [
      [[], { DOCKER_CONFIG: docker }, `cannot read ${docker}/config.json: not JSON`],
      [["--state", join(folder, "file")], env, `cannot write ${folder}/file/uploads: ENOTDIR; use --state DIR`],
      [[], { ...env, TMPDIR: `${folder}/none` }, `cannot write ${folder}/none: ENOENT; set TMPDIR to another folder`],
      [
        [],
        { ...env, HTTP_PROXY: "127.0.0.1:1", NO_PROXY: "" },
        "the proxy 127.0.0.1:1 can't be reached: ECONNREFUSED (from HTTP_PROXY)",
      ],
      [
        ["--to", "https://registry.example/push/wrong"],
        { ...env, HTTPS_PROXY: "", https_proxy: "127.0.0.1:1" },
        "the proxy 127.0.0.1:1 can't be reached: ECONNREFUSED (from https_proxy)",
      ],
    ]) {
      const target = args[0] === "--to" ? [] : ["--to", to];
      const { code, output } = await relay(["push", image.layout, ...target, ...args], { env: more }).ended;
      assert.equal(
        output
          .split("\n")
          .filter((line) => line.startsWith("✗"))
          .join("\n"),
        `✗ ${expected}`,
      );
      assert.equal(code, 1);
      assert.doesNotMatch(output, /\n {4}at /);
    }
    // A limit of files stands for a full disk.
    const limited = spawn(
      "sh",
      ["-c", `ulimit -f 1000; exec "$0" "$@"`, process.execPath, RELAY, "push", "-", "--to", to],
      {
        env: { PATH: process.env.PATH, HOME: folder, TMPDIR: folder, ...env },
      },
    );
    limited.stdin.on("error", () => {}).end(buffer(2 * MIB, "a full disk"));
    let output = "";
    limited.stderr.setEncoding("utf8").on("data", (text) => (output += text));
    const [code] = await once(limited, "close");
    assert.equal(output, `✗ cannot write ${folder}: EFBIG; set TMPDIR to a larger disk\n`);
    assert.equal(code, 1);
  });

  test("refuses a wrong command line before it connects", async () => {
    const host = `127.0.0.1:${edge.url.port}`;
    const digest = digestOf(Buffer.from(""));
    const usage = "node relay.mjs push IMAGE --to HOST/NAME:TAG";
    for (const [args, expected, env] of [
      [["push"], `push needs an image: ${usage}`],
      [["push", "a"], `--to is missing: ${usage}`],
      [["push", "a", "b"], `push takes one image, not 2: ${usage}`],
      [[], "--to is missing: node relay.mjs --to https://HOST"],
      [["pull"], "unknown command pull; see --help"],
      [["--frob"], "unknown option --frob; see --help"],
      [["push", "a", "--to"], "--to needs a value; see --help"],
      [["--port", "99999", "--to", host], "--port 99999: use a number from 0 to 65535"],
      [["push", "a", "--to", `${host}/a@${digest}`], `--to ${host}/a@${digest} has a digest: use a tag, HOST/NAME:TAG`],
      [
        ["push", "a", "--to", `${host}/Team/app`],
        `--to ${host}/Team/app has upper-case letters in the repository: use team/app`,
      ],
      [["push", "a", "--to", host], `--to ${host}: use HOST/NAME:TAG`],
      [
        ["push", "a", "--to", `${host}/a:v1`, "--to", `${host}/b:v1`],
        `--to ${host}/a:v1 and --to ${host}/b:v1 are different repositories: push to one after the other`,
      ],
      [["--to", host, "--to", "b"], "several --to are for push only: node relay.mjs --to https://HOST"],
      [
        ["push", "a", "--to", `${host}/a`],
        "RELAY_PASSWORD is set and RELAY_USER is not: set both",
        { RELAY_PASSWORD: password },
      ],
    ]) {
      const { code, output } = await relay(args, { env }).ended;
      assert.equal(output, `✗ ${expected}\n`);
      assert.equal(code, 2);
    }
    assert.deepEqual(edge.requests, []);
    for (const word of ["help", "--help", "-h"]) {
      const { code, output } = await relay([word]).ended;
      assert.match(output, /^Pushes layers that are too large .*\n\nUsage:\n/);
      assert.equal(code, 0);
    }
  });

  test("says how far each blob is", async () => {
    const lines = [];
    const options = { chunk: CHUNK, blobs: 4, journal: new Journal(join(folder, "state/uploads")), progress: 1 };
    const env = { RELAY_USER: user, RELAY_PASSWORD: password };
    const to = `http://127.0.0.1:${edge.url.port}/push/progress:v1`;
    await pushImage({ source: image.layout, to, ...options, say: (line) => lines.push(line), env });
    const { digest, size } = image.blobs[1];
    const about = new RegExp(`^… ${digest.slice(0, 19)} (\\S+) (MB|bytes) of (\\S+) MB$`);
    const found = lines.map((line) => about.exec(line)).filter(Boolean);
    assert.ok(found.length > 1, lines.join("\n"));
    for (const [, sent, unit, whole] of found) {
      assert.equal(whole, (size / 1e6).toFixed(1));
      assert.ok(unit === "bytes" || Number(sent) <= Number(whole));
    }
    assert.ok(
      found.some(([, sent, unit]) => unit === "MB" && Number(sent) > 1),
      lines.join("\n"),
    );
    assert.match(
      lines.findLast((line) => line.includes(digest.slice(0, 19))),
      /^✓ /,
    );
  });

  test("signs in before it reads standard input", async () => {
    const to = `http://127.0.0.1:${edge.url.port}/push/early:v1`;
    // The input does not end.
    const input = { pipe: () => {} };
    const env = { RELAY_USER: user, RELAY_PASSWORD: "wrong" };
    const { child, ended } = relay(["push", "-", "--to", to], { input, env });
    const timer = setTimeout(() => child.kill(), 10_000);
    const { code, output } = await ended;
    clearTimeout(timer);
    assert.match(output, /^✗ .* refuses the credentials/);
    assert.equal(code, 1);
  });

  test("pushes several tags of one repository", async () => {
    const more = ["v2", "v1", "latest"].flatMap((tag) => [
      "--to",
      `http://127.0.0.1:${edge.url.port}/push/tags:${tag}`,
    ]);
    const { code, output } = await push(image.layout, "push/tags:v1", { more });
    assert.equal(code, 0, output);
    await hasImage("push/tags");
    for (const tag of ["v1", "v2", "latest"]) {
      assert.equal(digestOf(await pulled(`push/tags/manifests/${tag}`)), image.manifest.digest);
      assert.ok(output.includes(`/push/tags:${tag}@${image.manifest.digest}\n`), output);
    }
    assert.equal(
      edge.requests.filter(({ method, path }) => method === "PUT" && path.includes("/manifests/")).length,
      3,
    );
  });

  test("checks credentials of a registry without tokens, and its token response", async () => {
    let challenge = "Basic realm=x";
    const server = http.createServer(({ headers, url }, response) => {
      if (url.startsWith("/token")) return response.end("<html>");
      const isKnown = headers.authorization === basic("ann", "right");
      response.writeHead(isKnown ? 200 : 401, { "www-authenticate": challenge }).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const origin = `http://127.0.0.1:${server.address().port}`;
    const failing = (password, source) =>
      relay(["push", source, "--to", `${origin}/a:v1`], { env: { RELAY_USER: "ann", RELAY_PASSWORD: password } }).ended;
    try {
      assert.match((await failing("wrong", "none")).output, /^✗ .* refuses the credentials \(401 \)/);
      assert.match((await failing("right", "none")).output, /^✗ there is no none: /);
      challenge = `Bearer realm="${origin}/token",service="x"`;
      const { output } = await failing("right", "none");
      assert.equal(output, `✗ cannot read the token response of ${origin}: not JSON\n`);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test("sends no credentials to another host's token realm", async () => {
    const seen = [];
    const server = http.createServer((request, response) => {
      seen.push(request.headers.authorization);
      const challenge = 'Bearer realm="http://127.0.0.2:1/token",service="x"';
      response.writeHead(401, { "www-authenticate": challenge }).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const to = `http://127.0.0.1:${server.address().port}/push/realm:v1`;
      const { code, output } = await relay(["push", image.layout, "--to", to]).ended;
      assert.equal(code, 1);
      assert.match(output, /^✗ the token realm http:\/\/127\.0\.0\.2:1\/token is on another host/);
      assert.deepEqual(seen, [undefined]);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
