// Clients sign in for a token, do what the rules allow, and report denials in their own words.
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

/**
 * Names and secrets: an administrator, two people, a robot, and an attacker who guesses Ann's
 * password.
 */
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
 * How each client runs its commands, by `as(who, …)`. `pull` leaves an image in a layout, if the
 * client can do that. `carry` pulls as one user and pushes as another one, from another repository.
 * `lacks` names the commands that the client does not have. `asks` is the method of its token
 * requests with a password. `says` has its words for a wrong password, for a caller who is not
 * signed in, and for a denial.
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
    // Its login stores the credentials without a request.
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
    notRoot: process.getuid() === 0 ? undefined : "buildah needs root",
    tell: ({ host, at, as, folder }) => {
      const policy = `--signature-policy=${join(folder, "policy.json")}`;
      const remote = (name) => `docker://${at(name)}`;
      /**
       * Runs buildah with storage of its own, so that each has to pull the images that another one
       * built.
       */
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
    // It does not try TLS first for a registry on the loopback interface.
    isPlain: true,
    /** It has no login: each command carries the credentials. */
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
    // It prints the status of a denial, but not the registry's message.
    isTerse: true,
  },
};

/** Returns a user's name and secret as a client's options. */
const named = (who, name, secret) => [`${name}=${people[who][0]}`, `${secret}=${people[who][1]}`];

for (const [name, { program, missing, notRoot, tell, lacks = [], asks, says, ...quirks }] of Object.entries(clients)) {
  const { isPlain, isCredulous, isTerse } = quirks;
  const skip = skipFor(missing, notRoot);

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
        // buildah needs this file, even without credentials.
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
    /** Asserts that a known user is denied, and told the missing permission. */
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

    test("to push and pull as a person, as a robot, and as a user with only the pull permission", async () => {
      allowed(await client.push("ci", images.amd64, "team/robot:1"));
      for (const who of ["ann", "bob", "ci"]) {
        const layout = join(made.folder, `${who}-pulled`);
        const result = await client.pull(who, "team/robot:1", layout);
        allowed(result);
        if (client.copy) await assertSameImage(images.amd64, layout);
      }
    });

    test("or does not, and pulls from public repositories only", async () => {
      allowed(await client.pull("nobody", "public/image:1", join(made.folder, "public")));
      for (const repository of ["team/image:1", "private/image:1", "private/absent:1"]) {
        refused(await client.pull("nobody", repository, join(made.folder, "refused")), says.nobody);
      }
    });

    test("and is denied a pull and a push without the permission", async () => {
      denied(
        await client.pull("ann", "private/image:1", join(made.folder, "denied")),
        "pull from repository private/image",
      );
      // An absent repository is denied in the same way.
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

    test("and is denied moving a tag, which a robot is not", async () => {
      allowed(await client.push("ann", images.amd64, "team/moved:1"));
      const first = await digest("team/moved", "1");
      denied(await client.push("ann", images.arm64, "team/moved:1"), "move a tag in repository team/moved");
      assert.equal(await digest("team/moved", "1"), first);
      // A push of the same manifest moves no tag.
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
      test("and copies only from repositories that it may pull from", async () => {
        allowed(await client.copy("ann", "public/image:1", "team/copied:1"));
        assert.equal(await digest("team/copied", "1"), images.amd64.manifest.digest);
        denied(await client.copy("ann", "private/image:1", "team/leaked:1"), "pull from repository private/image");
        assert.deepEqual(await made.strata.objects("repositories/team/leaked/"), []);
      });
    }

    if (!lacks.includes("carry")) {
      test("and pushes an image that another user pulled, uploading the blobs that it may not mount", async () => {
        // These bytes are in no other repository from which they could be mounted.
        allowed(await client.push("root", images.riscv64, "private/carried:1"));
        const mounts = () => answered('method="POST",route="start_upload",status="201"');
        const before = await mounts();
        allowed(await client.carry("root", "private/carried:1", "ann", "team/carried:1", images.riscv64));
        assert.equal(await mounts(), before);
        assert.notEqual(await digest("team/carried", "1"), 404);
        // A user who may pull from the source mounts.
        allowed(await client.carry("root", "private/carried:1", "root", "team/mounted:1", images.riscv64));
        assert.ok((await mounts()) > before);
      });
    }

    if (name === "regctl") {
      test("and moves a tag to another manifest if it may not delete it", async () => {
        allowed(await client.push("ann", images.amd64, "team/untagged:1"));
        denied(await client.untag("ann", "team/untagged:1"), "move a tag in repository team/untagged");
        assert.equal(await digest("team/untagged", "1"), images.amd64.manifest.digest);
        // After a denial it falls back to the way from before registries could delete tags: it
        // moves the tag to another manifest, and deletes that one.
        denied(await client.untag("ci", "team/untagged:1"), "delete from repository team/untagged");
        assert.notEqual(await digest("team/untagged", "1"), images.amd64.manifest.digest);
        assert.equal(await digest("team/untagged", images.amd64.manifest.digest), images.amd64.manifest.digest);
      });
    }
  });
}

// Requests of clients that can't run here, written down from docker's and containerd's traffic.
describe("a sequence of requests in place of the program", () => {
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
  /** Returns the parameters of the challenge in a 401. */
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
    // Clients assume a lifetime of at least a minute.
    assert.ok(expires_in >= 60);
    return `Bearer ${token}`;
  };
  /** Requests a token as docker does: it repeats `scope`. */
  const get = (who, ...scopes) => {
    const [name, secret] = people[who] ?? [];
    const query = new URLSearchParams({ ...(name && { account: name }), service: "strata" });
    for (const scope of scopes) query.append("scope", scope);
    return send("GET", `${realm}?${query}`, name && basic(name, secret));
  };
  /** Requests a token as containerd does: it sends all scopes in one field. */
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

  test("docker login: a challenge, a token by Basic, and the token is accepted", async () => {
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
    // docker prints the message of the first error.
    assert.deepEqual(Object.keys(refused.json().errors[0]).sort(), ["code", "message"]);
    // The registry accepts a password in place of a token as well.
    assert.equal((await send("GET", "/v2/", basic(...people.ann))).status, 200);
  });

  test("docker push: a token to push and pull, and another one with the scope of a second repository", async () => {
    const name = "team/docker";
    const asked = challenge(await send("HEAD", `/v2/${name}/blobs/${config.digest}`));
    assert.deepEqual(asked, { realm, service: "strata", scope: `repository:${name}:pull` });
    const pushes = bearer(await get("ann", `repository:${name}:push,pull`));
    assert.equal((await send("HEAD", `/v2/${name}/blobs/${config.digest}`, pushes)).status, 404);
    for (const content of blobs) await upload(name, content, pushes);
    assert.equal((await put(name, "1", pushes)).status, 201);

    // The token does not cover another repository, and the challenge names the scope that would.
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

  test("docker push: a mount from a repository that is denied looks like one from an absent repository", async () => {
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

  test("docker push: without the push permission, the token has fewer actions, and the push is denied", async () => {
    const reply = await get("bob", "repository:team/docker:push,pull");
    assert.equal(reply.json().scope, "repository:team/docker:pull");
    const denied = await send("POST", "/v2/team/docker/blobs/uploads/", bearer(reply));
    assert.deepEqual([denied.status, denied.json().errors[0].code], [403, "DENIED"]);
    assert.equal(denied.headers["www-authenticate"], undefined);
  });

  test("docker pull, not signed in: an anonymous token, which reads public repositories only", async () => {
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

  test("containerd: a token by a form, several scopes in one, and by GET only if the form is refused", async () => {
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
    // Passwords with any characters arrive unchanged.
    assert.equal((await send("GET", `/v2/${name}/manifests/1`, bearer(await post("bob", asked.scope)))).status, 200);
    assert.equal((await send("GET", `/v2/${name}/manifests/1`, bearer(await post("ci", asked.scope)))).status, 200);
    // Both ways refuse a wrong password, so containerd tries no third one. It tries GET after 401,
    // 404 and 405.
    for (const ask of [post, get]) assert.equal((await ask("mallory", asked.scope)).status, 401);
  });

  test("kubelet with imagePullSecrets: the runtime signs in with the secret's credentials for the registry", async () => {
    // As kubectl writes a secret of the type kubernetes.io/dockerconfigjson. A password may have
    // colons, but a name may not.
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

  test("is logged with its user, and without secrets", async () => {
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
      // Log lines take another way than replies, so wait for them.
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
