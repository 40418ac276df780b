// Clients sign in for a token, do what the rules let them, and say in words of their own what the rules do not.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { generateToken, hash, hashToken } from "../../scripts/password.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { basic, password, user } from "../edge/harness.mjs";
import { manifestOf, whole } from "../edge/push.mjs";
import { smallImage } from "../images/small.mjs";
import { homeIn, must, setUp } from "./client.mjs";
import { assertSameImage } from "./compare.mjs";
import * as containerd from "./containerd.mjs";
import { compiled, packaged, skipFor } from "./tools.mjs";

/** Names and secrets: one who may do everything, two people, a robot, and somebody who does not know Ann's password. */
const people = {
  root: [user, password],
  ann: ["ann", "ann's: own"],
  bob: ["bob", "100% b&b+1"],
  ci: ["ci", generateToken()],
  mallory: ["ann", "a guess"],
};
const USERS = {
  [user]: await hash(password),
  ann: { secret: await hash(people.ann[1]), groups: ["team"] },
  bob: await hash(people.bob[1]),
  ci: { secret: hashToken(people.ci[1]), groups: ["robots"] },
};
const RULES = [
  {
    repositories: ["**"],
    who: [`user:${user}`],
    may: ["pull", "push", "overwrite", "delete", "administer", "metrics"],
  },
  { repositories: ["team/**"], who: ["group:team"], may: ["pull", "push"] },
  { repositories: ["team/**"], who: ["group:robots"], may: ["pull", "push", "overwrite"] },
  { repositories: ["team/**"], who: ["user:bob"], may: ["pull"] },
  { repositories: ["public/**"], who: ["everyone"], may: ["pull"] },
];
const vars = { STRATA_USERS: JSON.stringify({ users: USERS }), STRATA_RULES: JSON.stringify(RULES) };

/**
 * What each client is made to do, by `as(who, …)`. `pull` leaves an image in a layout, where the client can. `carry` pushes as one
 * what it has read as another, from another repository. `lacks` names what the client has no command for. `asks` is how it asks
 * for a token where it has a password; `says` is what it prints for a wrong password, to who did not sign in, and to who may not.
 */
const clients = {
  crane: {
    ...(await compiled("crane")),
    tell: ({ host, at, as }) => ({
      login: (who) => as(who, "auth", "login", host, ...named(who, "--username", "--password")),
      push: (who, { layout }, name) => as(who, "push", "--insecure", layout, at(name)),
      pull: (who, name, layout) => as(who, "pull", "--insecure", "--format=oci", at(name), layout),
      remove: (who, name) => as(who, "delete", "--insecure", at(name)),
      copy: (who, from, to) => as(who, "copy", "--insecure", at(from), at(to)),
    }),
    // Its login writes down what it is given and asks nobody.
    isCredulous: true,
    lacks: ["carry"],
    asks: "GET",
    says: { wrong: /UNAUTHORIZED: .*wrong password/, nobody: /UNAUTHORIZED: .*sign in to pull/, denied: /DENIED: / },
  },

  oras: {
    ...(await compiled("oras")),
    tell: ({ host, at, as }) => {
      const copy = (who, ...args) => as(who, "cp", "--from-insecure", "--to-insecure", ...args);
      return {
        login: (who) => as(who, "login", "--insecure", host, ...named(who, "--username", "--password")),
        push: (who, { layout }, name) =>
          as(who, "cp", "--from-oci-layout", "--to-insecure", `${layout}:latest`, at(name)),
        pull: (who, name, layout) => as(who, "cp", "--from-insecure", "--to-oci-layout", at(name), `${layout}:latest`),
        remove: (who, name) => as(who, "manifest", "delete", "--insecure", "--force", at(name)),
        copy: (who, from, to) => copy(who, at(from), at(to)),
        carry: (reader, from, who, to) =>
          copy(who, ...named(reader, "--from-username", "--from-password"), at(from), at(to)),
      };
    },
    asks: "GET",
    says: { wrong: /unauthorized: .*wrong password/, nobody: /unauthorized: .*sign in to pull/, denied: /denied: / },
  },

  regctl: {
    ...(await compiled("regctl")),
    tell: ({ host, at, as }) => {
      const regctl = (who, ...args) => as(who, "--verbosity=error", "--host", `reg=${host},tls=insecure`, ...args);
      return {
        login: (who) => regctl(who, "registry", "login", host, ...named(who, "--user", "--pass")),
        push: (who, { layout }, name) => regctl(who, "image", "copy", `ocidir://${layout}:latest`, at(name)),
        pull: (who, name, layout) => regctl(who, "image", "copy", at(name), `ocidir://${layout}:latest`),
        remove: (who, name) => regctl(who, "manifest", "delete", "--force-tag-dereference", at(name)),
        untag: (who, name) => regctl(who, "tag", "delete", at(name)),
        copy: (who, from, to) => regctl(who, "image", "copy", at(from), at(to)),
      };
    },
    lacks: ["carry"],
    asks: "GET",
    says: { wrong: /unauthorized/, nobody: /unauthorized/, denied: /unauthorized \[http 403\]/ },
  },

  skopeo: {
    ...(await packaged("skopeo")),
    tell: ({ host, at, as }) => {
      const insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
      const copy = (who, ...args) => as(who, "--insecure-policy", "copy", "--preserve-digests", ...insecure, ...args);
      const remote = (name) => `docker://${at(name)}`;
      return {
        login: (who) => as(who, "login", "--tls-verify=false", ...named(who, "--username", "--password"), host),
        push: (who, { layout }, name) => copy(who, `oci:${layout}:latest`, remote(name)),
        pull: (who, name, layout) => copy(who, remote(name), `oci:${layout}:latest`),
        remove: (who, name) => as(who, "delete", "--tls-verify=false", remote(name)),
        copy: (who, from, to) => copy(who, remote(from), remote(to)),
        carry: (reader, from, who, to) =>
          copy(who, `--src-creds=${people[reader].join(":")}`, remote(from), remote(to)),
      };
    },
    asks: "GET",
    says: { wrong: /invalid username\/password/, nobody: /unauthorized: .*sign in to pull/, denied: /denied: / },
  },

  buildah: {
    ...(await packaged("buildah")),
    privilege: process.getuid() === 0 ? undefined : "buildah needs root",
    tell: ({ host, at, as, folder }) => {
      const policy = `--signature-policy=${join(folder, "policy.json")}`;
      const remote = (name) => `docker://${at(name)}`;
      /** With images of its own, so that what one has built another has to pull. */
      const within = (storage, who, ...args) => {
        const folders = ["root", "runroot"].map((kind) => `--${kind}=${join(folder, "storage", storage, kind)}`);
        return as(who, ...folders, "--storage-driver=vfs", ...args);
      };
      const transfer = ["--tls-verify=false", policy];
      return {
        async load({ name, layout }) {
          await writeFile(
            join(folder, "policy.json"),
            JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }),
          );
          const container = (await within("builder", "nobody", "from", policy, "scratch")).stdout.trim();
          await within("builder", "nobody", "add", container, layout, "/");
          return within("builder", "nobody", "commit", policy, container, name);
        },
        login: (who) => as(who, "login", "--tls-verify=false", ...named(who, "--username", "--password"), host),
        push: (who, image, name) => within("builder", who, "push", ...transfer, image.name, remote(name)),
        pull: (who, name) => within(who, who, "pull", ...transfer, remote(name)),
        async carry(reader, from, who, to) {
          const { stdout } = await within("carrier", reader, "pull", ...transfer, remote(from));
          return within("carrier", who, "push", ...transfer, stdout.trim(), remote(to));
        },
      };
    },
    lacks: ["remove", "copy"],
    asks: "GET",
    says: { wrong: /invalid username\/password/, nobody: /unauthorized: .*sign in to pull/, denied: /denied: / },
  },

  ctr: {
    program: containerd.ctr,
    missing: containerd.missing,
    // Of a registry on the loopback it never asks for TLS first.
    isPlain: true,
    /** It has no login: who it is goes with each command. */
    tell: ({ at, as, folder, socket }) => {
      const within = (namespace, who, ...args) => as(who, "--address", socket, "--namespace", namespace, ...args);
      const remote = (who) => ["--plain-http", ...(people[who] ? [`--user=${people[who].join(":")}`] : [])];
      const platform = ({ architecture }) => `--platform=linux/${architecture}`;
      return {
        async load({ name, layout }) {
          const tar = join(folder, `${name}.tar`);
          await must("tar", ["--create", `--file=${tar}`, `--directory=${layout}`, "."]);
          const names = [`--index-name=${name}`, "--digests", "--base-name=loaded"];
          return within("builder", "nobody", "images", "import", "--no-unpack", ...names, tar);
        },
        async push(who, image, name) {
          await within("builder", who, "images", "tag", "--force", `loaded@${image.manifest.digest}`, at(name));
          return within("builder", who, "images", "push", ...remote(who), platform(image), at(name));
        },
        pull: (who, name) => within(who, who, "content", "fetch", ...remote(who), at(name)),
        async carry(reader, from, who, to, image) {
          await within("carrier", reader, "content", "fetch", ...remote(reader), at(from));
          await within("carrier", reader, "images", "tag", at(from), at(to));
          return within("carrier", who, "images", "push", ...remote(who), platform(image), at(to));
        },
      };
    },
    lacks: ["remove", "copy"],
    asks: "POST",
    says: { wrong: /401 Unauthorized/, nobody: /authorization failed/, denied: /403 Forbidden/ },
    // Of a denial it prints the status and not the registry's words.
    isTerse: true,
  },
};

/** A name and a secret as a client's options. */
const named = (who, name, secret) => [`${name}=${people[who][0]}`, `${secret}=${people[who][1]}`];

for (const [name, { program, missing, privilege, tell, lacks = [], asks, says, ...quirks }] of Object.entries(
  clients,
)) {
  const { isPlain, isCredulous, isTerse } = quirks;
  const skip = skipFor(missing, privilege);

  describe(`${name} signs in`, { skip }, () => {
    const made = setUp(`access-${name}`, skip, { https: !isPlain, vars });
    const images = {};
    let client;
    let daemon;

    before(async () => {
      if (skip) return;
      for (const architecture of ["amd64", "arm64", "riscv64"]) {
        const image = await smallImage(join(made.folder, architecture), architecture);
        images[architecture] = { name: architecture, architecture, ...image };
      }
      if (name === "ctr") daemon = await containerd.startContainerd(made.folder);
      const homes = join(made.folder, "homes");
      for (const who of [...Object.keys(people), "nobody"]) {
        await mkdir(join(homes, who), { recursive: true });
        // buildah wants it there, for nobody as well.
        await writeFile(join(homes, who, "config.json"), JSON.stringify({ auths: {} }));
      }
      client = tell({
        host: made.strata.host,
        at: (repository) => `${made.strata.host}/${repository}`,
        as: (who, ...args) => run(program, args, { env: homeIn(join(homes, who)) }),
        folder: made.folder,
        socket: daemon?.socket,
      });

      for (const image of Object.values(images)) if (client.load) allowed(await client.load(image));
      for (const who of ["root", "ann", "bob", "ci"]) if (client.login) allowed(await client.login(who));
      for (const repository of ["public", "private"])
        allowed(await client.push("root", images.amd64, `${repository}/image:1`));
      allowed(await client.push("ann", images.amd64, "team/image:1"));
    });
    after(() => daemon?.stop());

    const allowed = ({ code, output }) => assert.equal(code, 0, output);
    const refused = ({ code, output }, words) => {
      assert.notEqual(code, 0, output);
      assert.match(output, words);
    };
    /** Refused to somebody who is known, and told what they may not. */
    const denied = (result, what) => {
      refused(result, says.denied);
      if (!isTerse) refused(result, new RegExp(`user \\w+ may not ${what}`));
    };
    const digest = async (repository, tag) => {
      const { status, body } = await made.strata.send("GET", `/v2/${repository}/manifests/${tag}`);
      return status === 200 ? digestOf(body) : status;
    };
    const answered = async (labels) => (await made.strata.metrics())[`strata_requests_total{${labels}}`] ?? 0;
    const tokens = (method) => answered(`method="${method}",route="token",status="200"`);

    test("with a password or a robot's token, and not with a wrong one", async () => {
      if (client.login) {
        const result = await client.login("mallory");
        if (isCredulous) allowed(result);
        else refused(result, says.wrong);
      }
      if (client.login && !isCredulous) return;
      refused(await client.pull("mallory", "team/image:1", join(made.folder, "wrong")), says.wrong);
    });

    test("for a token, which it asks for in one way", async () => {
      const other = asks === "GET" ? "POST" : "GET";
      const before = { [asks]: await tokens(asks), [other]: await tokens(other) };
      allowed(await client.push("ann", images.arm64, "team/token:1"));
      allowed(await client.pull("bob", "team/token:1", join(made.folder, "token")));
      assert.ok((await tokens(asks)) >= before[asks] + 2);
      assert.equal(await tokens(other), before[other]);
    });

    test("to push and pull as a person, as a robot, and as one who may only pull", async () => {
      allowed(await client.push("ci", images.amd64, "team/robot:1"));
      for (const who of ["ann", "bob", "ci"]) {
        const layout = join(made.folder, `${who}-pulled`);
        const result = await client.pull(who, "team/robot:1", layout);
        allowed(result);
        if (client.copy) await assertSameImage(images.amd64, layout);
      }
    });

    test("or does not, and pulls what everyone may and nothing else", async () => {
      allowed(await client.pull("nobody", "public/image:1", join(made.folder, "public")));
      for (const repository of ["team/image:1", "private/image:1", "private/absent:1"]) {
        refused(await client.pull("nobody", repository, join(made.folder, "refused")), says.nobody);
      }
    });

    test("and is denied a pull from, and a push to, where it may not", async () => {
      denied(
        await client.pull("ann", "private/image:1", join(made.folder, "denied")),
        "pull from repository private/image",
      );
      // What is not there is denied alike.
      denied(
        await client.pull("ann", "private/absent:1", join(made.folder, "denied")),
        "pull from repository private/absent",
      );
      denied(await client.push("bob", images.arm64, "team/bob:1"), "push to repository team/bob");
      denied(await client.push("ann", images.arm64, "public/ann:1"), "push to repository public/ann");
      for (const repository of ["team/bob", "public/ann"]) {
        assert.deepEqual(await made.strata.objects(`repositories/${repository}/`), []);
      }
    });

    test("and is denied moving a tag, which a robot may", async () => {
      allowed(await client.push("ann", images.amd64, "team/moved:1"));
      const first = await digest("team/moved", "1");
      denied(await client.push("ann", images.arm64, "team/moved:1"), "move a tag in repository team/moved");
      assert.equal(await digest("team/moved", "1"), first);
      // The same again moves nothing.
      allowed(await client.push("ann", images.amd64, "team/moved:1"));
      allowed(await client.push("ci", images.arm64, "team/moved:1"));
      assert.notEqual(await digest("team/moved", "1"), first);
    });

    if (!lacks.includes("remove")) {
      test("and is denied a deletion", async () => {
        allowed(await client.push("ann", images.amd64, "team/removed:1"));
        for (const who of ["ann", "ci"])
          denied(await client.remove(who, "team/removed:1"), "delete from repository team/removed");
        assert.equal(await digest("team/removed", "1"), images.amd64.manifest.digest);
        allowed(await client.remove("root", "team/removed:1"));
        assert.equal(await digest("team/removed", "1"), 404);
      });
    }

    if (!lacks.includes("copy")) {
      test("and copies from where it may pull only", async () => {
        allowed(await client.copy("ann", "public/image:1", "team/copied:1"));
        assert.equal(await digest("team/copied", "1"), images.amd64.manifest.digest);
        denied(await client.copy("ann", "private/image:1", "team/leaked:1"), "pull from repository private/image");
        assert.deepEqual(await made.strata.objects("repositories/team/leaked/"), []);
      });
    }

    if (!lacks.includes("carry")) {
      test("and carries what another has read, uploading what it may not mount", async () => {
        // Nobody has pushed these bytes anywhere else that they could be mounted from.
        allowed(await client.push("root", images.riscv64, "private/carried:1"));
        const mounts = () => answered('method="POST",route="start_upload",status="201"');
        const before = await mounts();
        allowed(await client.carry("root", "private/carried:1", "ann", "team/carried:1", images.riscv64));
        assert.equal(await mounts(), before);
        assert.notEqual(await digest("team/carried", "1"), 404);
        // Who may pull from there mounts.
        allowed(await client.carry("root", "private/carried:1", "root", "team/mounted:1", images.riscv64));
        assert.ok((await mounts()) > before);
      });
    }

    if (name === "regctl") {
      test("and deletes a tag by moving it, if it may do that and no more", async () => {
        allowed(await client.push("ann", images.amd64, "team/untagged:1"));
        denied(await client.untag("ann", "team/untagged:1"), "move a tag in repository team/untagged");
        assert.equal(await digest("team/untagged", "1"), images.amd64.manifest.digest);
        // It goes on from a denial to what registries needed before they could delete tags.
        denied(await client.untag("ci", "team/untagged:1"), "delete from repository team/untagged");
        assert.notEqual(await digest("team/untagged", "1"), images.amd64.manifest.digest);
        assert.equal(await digest("team/untagged", images.amd64.manifest.digest), images.amd64.manifest.digest);
      });
    }
  });
}

// What clients send that are not here to be run: written down from docker's and containerd's requests.
describe("a sequence of requests, and not the program,", () => {
  const made = setUp("access-sequence", false, { vars });
  const blobs = [Buffer.from("{}"), buffer(2000, "sequence")];
  const [config, layer] = blobs.map((content) => ({ digest: digestOf(content), size: content.length }));
  const manifest = manifestOf(config, [layer]);
  let realm;

  before(async () => {
    for (const repository of ["public/image", "private/image", "team/image"]) {
      for (const content of blobs)
        assert.equal((await whole(made.strata, repository, digestOf(content), content)).status, 201);
      assert.equal((await put(repository, "1", basic())).status, 201);
    }
    realm = `${made.strata.url.origin}/v2/_strata/token`;
  });

  const send = (method, path, authorization, { headers, ...rest } = {}) =>
    made.strata.send(method, path, { headers: { authorization, ...headers }, ...rest });
  /** What the answer of 401 says to ask a token for. */
  const challenge = ({ status, headers, body }) => {
    assert.equal(status, 401, body.toString());
    const text = headers["www-authenticate"];
    assert.match(text, /^Bearer /);
    return Object.fromEntries([...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
  };
  const bearer = (reply) => {
    assert.equal(reply.status, 200, reply.body.toString());
    assert.equal(reply.headers["cache-control"], "no-store");
    const { token, access_token, token_type, expires_in, refresh_token } = reply.json();
    assert.deepEqual([token, token_type, refresh_token], [access_token, "Bearer", undefined]);
    // Clients take no less than a minute for granted.
    assert.ok(expires_in >= 60);
    return `Bearer ${token}`;
  };
  /** A token as docker asks for it, which repeats `scope`. */
  const get = (who, ...scopes) => {
    const [name, secret] = people[who] ?? [];
    const query = new URLSearchParams({ ...(name && { account: name }), service: "strata" });
    for (const scope of scopes) query.append("scope", scope);
    return send("GET", `${realm}?${query}`, name && basic(name, secret));
  };
  /** A token as containerd asks for it, which sends all scopes as one. */
  const form = ([username, password], ...scopes) => {
    const client = { client_id: "containerd-client", grant_type: "password", service: "strata" };
    const fields = new URLSearchParams({ ...client, username, password, scope: scopes.join(" ") });
    const headers = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };
    return send("POST", realm, undefined, { body: String(fields), headers });
  };
  const post = (who, ...scopes) => form(people[who], ...scopes);
  const upload = async (repository, content, token) => {
    const begun = await send("POST", `/v2/${repository}/blobs/uploads/`, token);
    assert.equal(begun.status, 202, begun.body.toString());
    const sent = await send("PATCH", begun.headers.location, token, { body: content });
    assert.equal(sent.status, 202, sent.body.toString());
    const end = new URL(sent.headers.location, made.strata.url);
    end.searchParams.set("digest", digestOf(content));
    assert.equal((await send("PUT", end, token)).status, 201);
  };
  const put = (repository, tag, token) => {
    const headers = { "content-type": manifest.mediaType };
    return send("PUT", `/v2/${repository}/manifests/${tag}`, token, { body: manifest.body, headers });
  };

  test("docker login: a challenge, a token by Basic, and the token is taken", async () => {
    assert.deepEqual(challenge(await send("GET", "/v2/")), { realm, service: "strata" });
    for (const who of ["ann", "ci"]) {
      const query = new URLSearchParams({
        account: who,
        client_id: "docker",
        offline_token: "true",
        service: "strata",
      });
      const token = bearer(await send("GET", `${realm}?${query}`, basic(...people[who])));
      const { status, headers } = await send("GET", "/v2/", token);
      assert.deepEqual([status, headers["docker-distribution-api-version"]], [200, "registry/2.0"]);
    }
    const refused = await get("mallory");
    assert.equal(refused.status, 401);
    // It prints what the first error says.
    assert.deepEqual(Object.keys(refused.json().errors[0]).sort(), ["code", "message"]);
    // A password that it was given instead of asking for a token is taken too.
    assert.equal((await send("GET", "/v2/", basic(...people.ann))).status, 200);
  });

  test("docker push: a token to push and pull, and one that a push in another repository adds its scope to", async () => {
    const name = "team/docker";
    const asked = challenge(await send("HEAD", `/v2/${name}/blobs/${config.digest}`));
    assert.deepEqual(asked, { realm, service: "strata", scope: `repository:${name}:pull` });
    const pushes = bearer(await get("ann", `repository:${name}:push,pull`));
    assert.equal((await send("HEAD", `/v2/${name}/blobs/${config.digest}`, pushes)).status, 404);
    for (const content of blobs) await upload(name, content, pushes);
    assert.equal((await put(name, "1", pushes)).status, 201);

    // Of another repository the token says nothing, and the answer says what would.
    const more = challenge(await put("team/second", "1", pushes));
    assert.deepEqual([more.scope, more.error], ["repository:team/second:pull,push", "insufficient_scope"]);
    const both = bearer(await get("ann", "repository:team/second:push,pull", `repository:${name}:pull`));
    for (const { digest } of [config, layer]) {
      const mount = `/v2/team/second/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(name)}`;
      const mounted = await send("POST", mount, both);
      assert.equal(mounted.status, 201, mounted.body.toString());
    }
    assert.equal((await put("team/second", "1", both)).status, 201);
  });

  test("docker push: a mount from where one may not pull is the upload that it is where nothing is", async () => {
    const sources = ["private/image", "private/absent", "team/absent"];
    const scopes = ["repository:team/third:push,pull", ...sources.map((from) => `repository:${from}:pull`)];
    const token = bearer(await get("ann", ...scopes));
    const replies = [];
    for (const from of sources) {
      const mount = `/v2/team/third/blobs/uploads/?mount=${layer.digest}&from=${from}`;
      const { status, headers, body } = await send("POST", mount, token);
      replies.push({ status, headers: Object.keys(headers).sort(), body: body.toString() });
    }
    assert.equal(replies[0].status, 202);
    for (const reply of replies) assert.deepEqual(reply, replies[0]);
  });

  test("docker push: who may not push is given a token for less, and denied", async () => {
    const reply = await get("bob", "repository:team/docker:push,pull");
    assert.equal(reply.json().scope, "repository:team/docker:pull");
    const denied = await send("POST", "/v2/team/docker/blobs/uploads/", bearer(reply));
    assert.deepEqual([denied.status, denied.json().errors[0].code], [403, "DENIED"]);
    assert.equal(denied.headers["www-authenticate"], undefined);
  });

  test("docker pull, not signed in: a token for nobody, with which public is read and private is not", async () => {
    const token = bearer(await get("nobody", "repository:public/image:pull"));
    const pulled = await send("GET", "/v2/public/image/manifests/1", token);
    assert.ok(pulled.body.equals(manifest.body));
    assert.equal((await send("GET", `/v2/public/image/blobs/${layer.digest}`, token)).status, 200);

    const other = bearer(await get("nobody", "repository:private/image:pull"));
    for (const repository of ["private/image", "private/absent"]) {
      const refused = challenge(await send("GET", `/v2/${repository}/manifests/1`, other));
      assert.deepEqual([refused.scope, refused.error], [`repository:${repository}:pull`, "insufficient_scope"]);
    }
  });

  test("containerd: a token by a form, several scopes in one, and by GET only where the form is refused", async () => {
    const name = "team/containerd";
    const asked = challenge(await send("HEAD", `/v2/${name}/manifests/1`));
    const token = bearer(
      await post("ann", asked.scope, `repository:${name}:pull,push`, "repository:public/image:pull"),
    );
    for (const { digest } of [config, layer]) {
      const mounted = await send("POST", `/v2/${name}/blobs/uploads/?mount=${digest}&from=public/image`, token);
      assert.equal(mounted.status, 201, mounted.body.toString());
    }
    assert.equal((await put(name, "1", token)).status, 201);
    // Passwords of any letters arrive as they are.
    assert.equal((await send("GET", `/v2/${name}/manifests/1`, bearer(await post("bob", asked.scope)))).status, 200);
    assert.equal((await send("GET", `/v2/${name}/manifests/1`, bearer(await post("ci", asked.scope)))).status, 200);
    // A wrong password is refused in both, so that it tries no third way; it does try GET after 401, 404 and 405.
    for (const ask of [post, get]) assert.equal((await ask("mallory", asked.scope)).status, 401);
  });

  test("kubelet with imagePullSecrets: the runtime signs in with what the secret says of the registry", async () => {
    // As kubectl writes a secret of the type kubernetes.io/dockerconfigjson; a password may have colons and a name may not.
    const auth = Buffer.from(people.ann.join(":")).toString("base64");
    const secret = JSON.stringify({ auths: { [made.strata.host]: { auth } } });
    const decoded = Buffer.from(JSON.parse(secret).auths[made.strata.host].auth, "base64").toString();
    const [, ...credentials] = /^([^:]*):(.*)$/.exec(decoded);
    const asked = challenge(await send("HEAD", "/v2/team/image/manifests/1"));
    const token = bearer(await form(credentials, asked.scope));
    const { status, body } = await send("GET", "/v2/team/image/manifests/1", token);
    assert.equal(status, 200, body.toString());
    for (const { digest } of [config, layer]) {
      assert.equal((await send("GET", `/v2/team/image/blobs/${digest}`, token)).status, 200);
    }
  });

  test("is logged with who signed in, and with no secret", async () => {
    for (const reply of [await get("ann"), await post("ci"), await get("nobody", "repository:public/image:pull")])
      bearer(reply);
    const asked = () =>
      made.strata
        .log()
        .split("\n")
        .filter((line) => line.includes('"route":"token"'))
        .map((line) => JSON.parse(line));
    for (const [method, who] of [
      ["GET", "ann"],
      ["POST", "ci"],
      ["GET", ""],
    ]) {
      // What the Worker prints comes by another way than its replies.
      for (
        const deadline = Date.now() + 5_000;
        !asked().some((line) => line.method === method && line.user === who);
      ) {
        assert.ok(Date.now() < deadline, `no line of ${method} by ${who || "nobody"}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    for (const [, secret] of Object.values(people)) assert.ok(!made.strata.log().includes(secret));
  });
});
