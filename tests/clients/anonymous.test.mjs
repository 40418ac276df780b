// Clients without credentials pull if everyone may, and are otherwise told to sign in.
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { manifestOf, whole } from "../edge/push.mjs";
import { homeIn, must, setUp } from "./client.mjs";
import { compiled, packaged, skipFor } from "./tools.mjs";

const crane = await compiled("crane");
const oras = await compiled("oras");
const regctl = await compiled("regctl");
const skopeo = await packaged("skopeo");
const skip = skipFor(crane.missing, oras.missing, regctl.missing, skopeo.missing);
const name = "anonymous/image";

/** The command by which each client prints a manifest, byte for byte. */
const readers = (host) => ({
  crane: [crane.program, ["manifest", `${host}/${name}:v1`]],
  oras: [oras.program, ["manifest", "fetch", "--plain-http", `${host}/${name}:v1`]],
  regctl: [
    regctl.program,
    ["--host", `reg=${host},tls=disabled`, "manifest", "get", "--format", "raw-body", `${host}/${name}:v1`],
  ],
  skopeo: [skopeo.program, ["inspect", "--raw", "--tls-verify=false", `docker://${host}/${name}:v1`]],
});

for (const everyone of [true, false]) {
  describe(everyone ? "with anonymous pulls" : "without anonymous pulls", { skip }, () => {
    const made = setUp("anonymous", skip, { vars: { STRATA_ANONYMOUS_PULL: String(everyone) } });
    const blobs = [Buffer.from("{}"), buffer(2000, "anonymous")];
    const [config, layer] = blobs.map((content) => ({ digest: digestOf(content), size: content.length }));
    const manifest = manifestOf(config, [layer]);

    before(async () => {
      if (skip) return;
      for (const content of blobs) await whole(made.strata, name, digestOf(content), content);
      const headers = { "content-type": manifest.mediaType };
      const pushed = await made.strata.send("PUT", `/v2/${name}/manifests/v1`, { body: manifest.body, headers });
      assert.equal(pushed.status, 201);
    });

    for (const client of ["crane", "oras", "regctl", "skopeo"]) {
      test(client, async () => {
        const [program, args] = readers(made.strata.host)[client];
        // A home of its own, without credentials.
        const env = homeIn(join(made.folder, client));
        if (everyone) {
          const printed = await must(program, args, { env });
          assert.equal(printed.trim(), manifest.body.toString().trim());
        } else {
          const { code, output } = await run(program, args, { env });
          assert.notEqual(code, 0, output);
          assert.match(output, /unauthorized|authentication required|credential not found/i);
        }
      });
    }
  });
}
