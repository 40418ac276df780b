// Pushes of images that are damaged or hostile, and to registries and proxies that answer oddly.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import zlib from "node:zlib";
import { credentialsFor, Files, Journal, push as pushImage, Registry } from "../../relay/relay.mjs";
import { digestOf } from "../edge/bytes.mjs";
import { startRegistry } from "./registry.mjs";

const MIB = 1 << 20;
const RELAY = fileURLToPath(new URL("../../relay/relay.mjs", import.meta.url));
const CONFIG = "application/vnd.oci.image.config.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

/** Returns an entry of a tar. */
function entry(name, content, type = "0") {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write(content.length.toString(8).padStart(11, "0"), 124);
  header.write(type, 156);
  header.write("ustar", 257);
  return Buffer.concat([header, Buffer.from(content), Buffer.alloc(-content.length & 511)]);
}

const archive = (files) =>
  Buffer.concat([...Object.entries(files).map(([name, content]) => entry(name, content)), Buffer.alloc(1024)]);

/**
 * Returns the files of a layout with one image. `manifest` and `descriptor` change its properties.
 */
function layout({ manifest: changes, descriptor, algorithm = "sha256", layer = "a layer" } = {}) {
  const files = { "oci-layout": '{"imageLayoutVersion":"1.0.0"}' };
  const put = (mediaType, content) => {
    const digest = digestOf(Buffer.from(content), algorithm);
    files[`blobs/${digest.replace(":", "/")}`] = content;
    return { mediaType, digest, size: content.length };
  };
  const config = put(CONFIG, '{"rootfs":{"diff_ids":[]}}');
  const layers = [put(LAYER, layer)];
  const document = JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config, layers, ...changes });
  const manifest = put(MANIFEST, document);
  files["index.json"] = JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, ...descriptor }] });
  return { files, manifest, path: `blobs/${manifest.digest.replace(":", "/")}` };
}

/** Answers a PUT of a manifest, and leaves the others to the registry. */
const onManifest = (answer) => (request, response) => {
  if (request.method !== "PUT" || !request.url.includes("/manifests/")) return false;
  request.resume();
  answer(request, response);
  return true;
};

/** Switches to a protocol that nobody asked for. */
const switchProtocols = ({ socket }) =>
  socket.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");

describe("a push", { timeout: 120_000 }, () => {
  let folder;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "strata-hostile-test-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Writes files to a new folder. */
  function written(files) {
    const source = mkdtempSync(join(folder, "image-"));
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(source, name, ".."), { recursive: true });
      writeFileSync(join(source, name), content);
    }
    return source;
  }

  /** Pushes an image. Resolves with its digest, the registry and the lines, or with the error. */
  async function push(source, { hook, ...options } = {}) {
    const registry = await startRegistry(hook);
    const lines = [];
    const journal = new Journal(join(folder, "state"));
    const [to, say] = [`${registry.host}/a:v1`, (line) => lines.push(line)];
    try {
      const digest = await pushImage({ source, to, journal, blobs: 1, say, env: { HOME: folder }, ...options });
      return { digest, registry, lines };
    } catch (error) {
      return { error, message: error.message.replace(registry.host, "HOST"), registry, lines };
    } finally {
      registry.stop();
    }
  }

  /** Runs the program as a user does. Resolves with its exit code, or null if it hangs. */
  async function run(source, { hook, input = "", env, node = [], to } = {}) {
    const registry = await startRegistry(hook);
    const args = [...node, RELAY, "push", source, "--to", to ?? `${registry.host}/a:v1`, "--state", folder];
    const child = spawn(process.execPath, args, {
      env: { PATH: process.env.PATH, HOME: folder, ...env },
      timeout: 20_000,
    });
    child.stdin.on("error", () => {}).end(input);
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
    const [code] = await once(child, "close");
    registry.stop();
    return { code, errors: errors.replaceAll(registry.host, "HOST"), registry };
  }

  test("from standard input fails if there is no image, or the registry refuses it", async () => {
    const empty = await run("-");
    assert.match(empty.errors, /^✗ no index\.json and no manifest\.json: .*\n$/);
    assert.equal(empty.code, 1);
    const refuse = onManifest((_, response) => response.writeHead(403).end("no"));
    const refused = await run("-", { hook: refuse, input: archive(layout().files) });
    assert.equal(refused.errors, "✗ http://HOST refuses manifest v1: 403 no\n");
    assert.equal(refused.code, 1);
  });

  test("fails if it ends before its work is done", async () => {
    // A request that never ends, and that the event loop does not wait for.
    const lost = 'import http from "node:http"; http.request = () => new Proxy(() => {}, { get: () => () => lost });';
    const program = `${lost} const lost = http.request();`;
    const { code, errors } = await run(written(layout().files), {
      node: ["--import", `data:text/javascript,${encodeURIComponent(program)}`],
    });
    assert.equal(errors, "✗ the relay ended before its work was done: run it again\n");
    assert.equal(code, 1);
  });

  test("fails if the registry switches protocols", async () => {
    const { code, errors } = await run(written(layout().files), { hook: onManifest(switchProtocols) });
    assert.equal(errors, "✗ the push to http://HOST failed: the registry answered 101; run it again: it resumes\n");
    assert.equal(code, 1);
    // An offer of other protocols is no switch.
    const { digest } = await push(written(layout().files), {
      hook: (_, response) => void response.setHeader("upgrade", "h2c").setHeader("connection", "upgrade"),
    });
    assert.equal(digest, layout().manifest.digest);
  });

  test("checks the digests of manifests, here and at the registry", async () => {
    const { files, path } = layout();
    const damaged = await push(written({ ...files, [path]: `${files[path]}\n` }));
    assert.equal(damaged.message, `the image is damaged: ${path} has another digest`);
    assert.equal(damaged.registry.manifests.size, 0);
    const other = digestOf(Buffer.from("other"));
    const tell = (_, response) => response.writeHead(201, { "docker-content-digest": other }).end();
    const { message } = await push(written(files), { hook: onManifest(tell) });
    const { digest } = layout().manifest;
    assert.equal(message, `http://HOST stored manifest v1 as ${other}, not as ${digest}: push it again`);
    // A registry names a tag's manifest by its own algorithm.
    const sha512 = layout({ algorithm: "sha512" });
    assert.equal((await push(written(sha512.files))).digest, sha512.manifest.digest);
  });

  test("takes little time for long headers and pages", async () => {
    const source = join(folder, "long.tar");
    const index = entry("index.json", "{}");
    const page = { status: 400, body: "<".repeat(200_000) };
    const refuse = onManifest((_, response) => response.writeHead(page.status).end(page.body));
    for (const [content, type, expected] of [
      ["1".repeat(200_000), "x", `${source} is cut or damaged: make it again`],
      [
        `${"\0".repeat(200_000)}x`,
        "L",
        "no index.json and no manifest.json: it is neither an OCI layout nor a docker save",
      ],
      [undefined, undefined, `http://HOST refuses manifest v1: 400 ${"<".repeat(500)}`],
    ]) {
      writeFileSync(source, type ? Buffer.concat([entry("long", content, type), index]) : archive(layout().files));
      const begun = performance.now();
      assert.equal((await push(source, { hook: refuse })).message, expected);
      const time = performance.now() - begun;
      assert.ok(time < 5000, `${time} ms for ${expected.slice(0, 40)}`);
    }
  });

  test("reads pax records by their lengths", async () => {
    const record = (text) => `${text.length + 4} ${text}\n`;
    const source = join(folder, "pax.tar");
    const header = record("comment=a\n12 path=evil") + record("path=a\nname=with=signs");
    writeFileSync(source, Buffer.concat([entry("pax", header, "x"), entry("short", "content"), Buffer.alloc(1024)]));
    const files = await Files.open(source);
    assert.equal((await files.read("a\nname=with=signs"))?.toString(), "content");
    await files.close();
    for (const damaged of ["0 path=a\n", "99 path=a\n", "5 abc", "x path=a\n", "7 path\n"]) {
      writeFileSync(source, entry("pax", damaged, "x"));
      await assert.rejects(Files.open(source), /pax\.tar is cut or damaged: make it again$/);
    }
  });

  test("ends if the proxy refuses a tunnel, and leaves the connection open", async () => {
    const proxy = http.createServer().on("connect", (_, socket) => socket.write("HTTP/1.1 407 No\r\n\r\n"));
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    const env = { HTTPS_PROXY: `127.0.0.1:${proxy.address().port}` };
    const { code, errors } = await run("none", { to: "registry.example/a:v1", env });
    proxy.close();
    assert.match(errors, /^✗ the proxy 127\.0\.0\.1:\d+ answered 407 for registry\.example:443\n$/);
    assert.equal(code, 1);
  });

  test("keeps its token until there is a new one, and repeats a failed renewal", { timeout: 30_000 }, async () => {
    const seen = new Set();
    let renewed;
    const renewal = new Promise((resolve) => (renewed = resolve));
    let tokens = 0;
    const hook = async (request, response) => {
      const { authorization = "none" } = request.headers;
      if (request.url.startsWith("/token")) {
        tokens += 1;
        // The first renewal fails.
        if (tokens === 2) response.writeHead(403).end();
        else response.end(JSON.stringify({ token: `token-${tokens}`, expires_in: 0.001 }));
        if (tokens === 4) renewed();
        return true;
      }
      if (authorization === "none") {
        const challenge = `Bearer realm="http://${request.headers.host}/token"`;
        response.writeHead(401, { "www-authenticate": challenge }).end();
        return true;
      }
      seen.add(authorization.split(" ")[0]);
      if (request.method === "HEAD") await renewal;
      return false;
    };
    const env = { RELAY_USER: "ann", RELAY_PASSWORD: "secret", HOME: folder };
    const { digest, message } = await push(written(layout().files), { hook, env, leastRenewal: 5 });
    assert.equal(digest, layout().manifest.digest, message);
    assert.deepEqual([...seen], ["Bearer"]);
  });

  test("says what is wrong with an image", async () => {
    const none = (changes) => written(layout(changes).files);
    const { files, path } = layout();
    const index = (text) => written({ ...files, "index.json": text });
    const saved = (list) => written({ "manifest.json": JSON.stringify(list), "c.json": '{"rootfs":{"diff_ids":[]}}' });
    const damaged = "the image is damaged";
    for (const [source, expected] of [
      [
        none({ manifest: { mediaType: undefined }, descriptor: { mediaType: undefined } }),
        / has no valid mediaType \(none\): the image is damaged$/,
      ],
      [
        none({ manifest: { mediaType: "a/b\r\nx: y" } }),
        / has no valid mediaType \("a\/b\\r\\nx: y"\): the image is damaged$/,
      ],
      [none({ manifest: { layers: [null] } }), / has \[null\] instead of a list of objects: the image is damaged$/],
      [
        none({ manifest: { layers: [{ digest: [digestOf(Buffer.from("a layer"))] }] } }),
        /^\["sha256:[0-9a-f]{64}"\] is no digest$/,
      ],
      [none({ descriptor: { digest: [layout().manifest.digest] } }), /^\["sha256:[0-9a-f]{64}"\] is no digest$/],
      [index("null"), `index.json is null, not an object: ${damaged}`],
      [index('{"manifests":[null]}'), `index.json has [null] instead of a list of objects: ${damaged}`],
      [index('{"manifests":{}}'), `index.json has {} instead of a list of objects: ${damaged}`],
      [
        written({ "manifest.json": files[path] }),
        "manifest.json is not of docker save: if it is of skopeo, convert it by skopeo copy dir:FROM oci:TO",
      ],
      [saved([null]), `manifest.json has [null] instead of a list of objects: ${damaged}`],
      [saved([{}]), `manifest.json has an image without Config or Layers: ${damaged}`],
      [saved([{ Config: "c.json", Layers: [5] }]), `manifest.json has an image without Config or Layers: ${damaged}`],
    ]) {
      const { message } = await push(source);
      if (typeof expected === "string") assert.equal(message, expected);
      else assert.match(message, expected);
    }
    // Go writes null for an empty list.
    const empty = layout({ manifest: { layers: null }, descriptor: { annotations: null } });
    assert.equal((await push(written(empty.files))).digest, empty.manifest.digest);
    assert.ok((await push(saved([{ Config: "c.json", RepoTags: null, Layers: null }]))).digest);
  });

  test("says what is wrong with stored credentials", async () => {
    const helper = join(folder, "docker-credential-null");
    writeFileSync(helper, "#!/bin/sh\necho null\n", { mode: 0o755 });
    const file = join(folder, "config.json");
    const configured = (config) => {
      writeFileSync(file, JSON.stringify(config));
      return credentialsFor("host", { DOCKER_CONFIG: folder });
    };
    assert.equal(await configured({ auths: { host: null } }), undefined);
    await assert.rejects(configured({ auths: { host: { auth: 5 } } }), {
      message: `cannot read ${file}: the auth of host is no string`,
    });
    const { PATH } = process.env;
    process.env.PATH = `${folder}:${PATH}`;
    await assert.rejects(configured({ credsStore: "null" }), {
      message: "docker-credential-null has no Username and Secret of host: docker login host",
    });
    process.env.PATH = PATH;
    rmSync(file);
  });

  test("signs in although the registry fails for a moment, and says if it goes on failing", async () => {
    for (const isOver of [true, false]) {
      const left = new Set(["/v2/", "/token"]);
      const hook = ({ url, headers }, response) => {
        const path = url.split("?")[0];
        const isFirst = left.delete(path);
        if (isFirst || (path === "/token" && !isOver)) response.writeHead(503).end("no");
        else if (path === "/token") response.end('{"token":"t"}');
        else if (headers.authorization !== "Bearer t") {
          response.writeHead(401, { "www-authenticate": `Bearer realm="http://${headers.host}/token"` }).end();
        } else return false;
        return true;
      };
      const { digest, message } = await push(written(layout().files), { hook });
      assert.equal(digest, isOver ? layout().manifest.digest : undefined);
      assert.equal(message, isOver ? undefined : "http://HOST can't sign in: 503 no; run it again later");
      assert.equal(left.size, 0);
    }
  });

  test("tries requests without a large body again, if they fail for a moment", async () => {
    const left = new Set(["HEAD blob", "POST blob", "PUT manifest"]);
    const hook = ({ method, url }, response) => {
      const isFirst = left.delete(`${method} ${url.includes("/manifests/") ? "manifest" : "blob"}`);
      if (isFirst) response.writeHead(502).end();
      return isFirst;
    };
    const { code, errors } = await run(written(layout().files), { hook });
    assert.deepEqual([code, errors, [...left]], [0, "", []]);
  });

  test("says in one line what failed, and with the stack if NODE_DEBUG asks", async () => {
    const source = written(layout().files);
    const failed = (found) => `✗ the push to http://HOST failed: ${found}; run it again: it resumes\n`;
    const cut = (request) => request.method === "POST" && request.socket.destroy();
    const broken = await run(source, { hook: cut });
    assert.equal(broken.errors, failed("socket hang up"));
    assert.equal(broken.code, 1);
    const { errors } = await run(source, { hook: cut, env: { NODE_DEBUG: "relay" } });
    assert.match(errors, /failed: socket hang up.*\n {4}at /);
    const long = await run(source, {
      hook: (request, response) => request.method === "POST" && response.end(Buffer.alloc(9 * MIB, "a")),
    });
    assert.equal(long.errors, "✗ the response to POST /v2/a/blobs/uploads/ is too long\n");
    assert.equal(long.code, 1);
  });

  test("prints no control characters of an image", async () => {
    const name = "\u001b]0;title\u0007\n::error::\u009b31m";
    const { files, manifest } = layout();
    const named = [manifest.digest, digestOf(Buffer.from("other"))].map((digest) => ({
      digest,
      annotations: { "org.opencontainers.image.ref.name": name },
    }));
    const names = await run(written({ ...files, "index.json": JSON.stringify({ manifests: named }) }));
    assert.match(
      names.errors,
      /^✗ the layout has 2 images: select one by --ref, of \]0;title ::error:: 31m, [^\n]*\n$/,
    );
    const list = JSON.stringify([{ Config: "c.json", Layers: ["layer"] }]);
    const config = JSON.stringify({ rootfs: { diff_ids: [name] } });
    const ids = await run(written({ "manifest.json": list, "c.json": config, layer: "layer" }));
    assert.equal(
      ids.errors,
      "✗ layer is not the layer ]0;title ::error:: 31m of the image: save it with another docker\n",
    );
  });

  test("sends a layer once that docker save has several times", async () => {
    const layer = Buffer.alloc(10_000, "a layer");
    const id = digestOf(layer);
    const list = [{ Config: "c.json", Layers: ["a", "b", "a"] }];
    const config = JSON.stringify({ rootfs: { diff_ids: [id, id, id] } });
    const source = written({ "manifest.json": JSON.stringify(list), "c.json": config, a: layer, b: layer });
    const { registry } = await push(source);
    const { layers } = JSON.parse(registry.manifests.get("v1"));
    assert.equal(layers.length, 3);
    for (const { digest } of layers) assert.ok(zlib.gunzipSync(registry.blobs.get(digest)).equals(layer));
    assert.equal(registry.requests.filter((request) => request.startsWith("HEAD")).length, 2);
  });

  test("reads a pipe as it reads standard input", async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    createWriteStream(pipe).end(archive(layout().files));
    const { digest, message } = await push(pipe);
    assert.equal(digest, layout().manifest.digest, message);
  });

  test("finds a blob if the closing response was lost, and the upload is unknown then", async () => {
    // Only a request without a body is repeated at once.
    const image = layout({ layer: Buffer.alloc(MIB + 1) });
    let closings = 0;
    const hook = (request, _, registry) => {
      if (request.method !== "PUT" || request.headers["content-length"] !== "0") return false;
      closings += 1;
      if (closings > 1) return false;
      const { pathname, searchParams } = new URL(request.url, "http://registry");
      registry.blobs.set(searchParams.get("digest"), "");
      registry.forget(pathname);
      request.socket.destroy();
      return true;
    };
    const { digest, message } = await push(written(image.files), { hook });
    assert.equal(digest, image.manifest.digest, message);
    assert.equal(closings, 2);
  });
});

test("a request fails if the registry switches protocols", async () => {
  const registry = await startRegistry((request) => switchProtocols(request));
  await assert.rejects(new Registry(registry.host, {}).ask("GET", "/v2/"), { message: "the registry answered 101" });
  registry.stop();
});
