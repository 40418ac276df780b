// Prometheus' own check of GET /metrics: the text can be read, and the names follow the rules.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { run } from "../../scripts/command.mjs";
import { buffer, digestOf } from "../edge/bytes.mjs";
import { whole } from "../edge/push.mjs";
import { setUp } from "./client.mjs";
import { skipFor, unpacked } from "./tools.mjs";

const promtool = await unpacked("promtool", "prometheus");
const skip = skipFor(promtool.missing);

describe("promtool", { skip }, () => {
  const made = setUp("promtool", skip);

  test("finds nothing wrong with the metrics", async () => {
    const { strata, folder } = made;
    const content = buffer(1000, "promtool");
    const path = `/v2/metrics/image/blobs/${digestOf(content)}`;
    assert.equal((await whole(strata, "metrics/image", digestOf(content), content)).status, 201);
    for (let reads = 0; reads < 4; reads += 1) assert.equal((await strata.send("GET", path)).status, 200);
    assert.equal((await strata.send("GET", "/v2/none/manifests/none")).status, 404);

    const reply = await strata.send("GET", "/metrics");
    assert.equal(reply.status, 200);
    assert.match(reply.headers["content-type"], /^text\/plain; version=0\.0\.4/);
    const text = join(folder, "metrics.txt");
    await writeFile(text, reply.body);
    const { code, output } = await run("sh", ["-c", '"$0" check metrics < "$1"', promtool.program, text]);
    assert.deepEqual({ code, output }, { code: 0, output: "" });
    for (const family of [
      "strata_requests_total",
      "strata_tier_hits_total",
      "strata_tier_promotions_total",
      "strata_operations_total",
    ]) {
      assert.ok(reply.body.includes(`\n${family}{`), `${family} is not in the metrics`);
    }
  });
});
