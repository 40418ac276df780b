// The cost of authentication, tokens and rules for a hot pull. Also shows whether the time of a
// sign-in reveals that a user exists.
import assert from "node:assert/strict";
import { createHash, pbkdf2Sync } from "node:crypto";
import { basic, start } from "../tests/edge/harness.mjs";
import { fill, QUIET, read } from "./contestants.mjs";
import { load } from "./load.mjs";
import { figure, median } from "./table.mjs";

const CONNECTIONS = [1, 16];
// A fixed number for each turn, so that a turn takes a second or more: CPU time is measured in
// hundredths of a second.
const REQUESTS = { 1: 1500, 16: 4000 };
const SIZE = 1 << 10;
const RULES = 50;
const REPOSITORIES = 50;

// With a probability of 0.96 the median lies between the third lowest and the third highest of
// twelve values, whatever their distribution.
const ROUNDS = 12;
const RANK = 3;

// Sign-ins of one kind in a turn. Each is by another user, because verified credentials are cached.
const SIGN_INS = 8;
const ITERATIONS = 100_000;
const FEW_ITERATIONS = 10_000;
const TOKEN = "/v2/_strata/token";

export async function access(print) {
  await pulls(print);
  await signIns(print);
}

/** Measures pulls from one Worker, so that only the caller and the repository differ. */
async function pulls(print) {
  const [near, far] = ["bench/near", "bench/far"];
  const actions = ["pull", "push", "overwrite", "delete"];
  const rules = [
    { repositories: [near], who: ["users"], may: actions },
    { repositories: [near], who: ["everyone"], may: ["pull"] },
    ...numbered(RULES, (number) => ({
      repositories: [`team-${number}/**`],
      who: [`group:team-${number}`],
      may: actions,
    })),
    { repositories: ["**"], who: ["users"], may: actions },
  ];
  const vars = { ...QUIET, STRATA_RULES: JSON.stringify(rules), STRATA_ANONYMOUS_PULL: "true" };
  const running = await start({ probe: false, vars });
  try {
    const images = { [near]: await fill(running, { SIZE }, 1, near), [far]: await fill(running, { SIZE }, 1, far) };
    for (const { digest, blobs } of Object.values(images)) await read(running, digest, blobs[SIZE]);
    const others = numbered(REPOSITORIES - 1, (number) => `team-${number}/service`);
    const arms = [
      { name: "anonymous", repository: near },
      { name: "anonymous, once more", repository: near },
      { name: "Basic, cached", repository: near, sign: () => basic() },
      { name: "Bearer, for 1 repository", repository: near, sign: () => bearer(running, [near]) },
      {
        name: `Bearer, for ${REPOSITORIES} repositories`,
        repository: near,
        sign: () => bearer(running, [...others, near]),
      },
      { name: `anonymous, by ${RULES} more rules`, repository: far },
    ];
    const things = {
      "manifest by digest, hot": (image) => image.digest,
      "blob of 1 KiB, hot": (image) => image.blobs[SIZE],
    };
    for (const [thing, of] of Object.entries(things)) {
      for (const connections of CONNECTIONS) {
        const asked = arms.map((arm) => ({ ...arm, ...of(images[arm.repository]) }));
        const seen = await inTurns(asked, (arm) => pull(running, arm, connections));
        table(print, `${thing}, ${connections === 1 ? "1 connection" : `${connections} connections`}`, arms, seen);
      }
    }
  } finally {
    await running.stop();
  }
}

/** Repeats a pull. Resolves with the results of `load`, and with the CPU time of one pull in ms. */
async function pull(running, { path, length, headers, sign }, connections) {
  // A new token for each turn, so that none expires.
  const authorization = await sign?.();
  const before = running.processorSeconds();
  const options = { headers: { ...headers, authorization }, expected: { length, tier: "hot" }, connections };
  const result = await load(running.url, path, { ...options, seconds: 0, least: REQUESTS[connections] });
  return { ...result, processor: ((running.processorSeconds() - before) * 1000) / result.count };
}

function table(print, title, arms, seen) {
  const rows = arms.map(({ name }, index) => {
    const { [index]: own, 0: first } = seen;
    const columns = ["rate", "p50", "p99", "processor"].flatMap((key) => [
      figure(median(own, key)),
      ratio(own, first, key),
    ]);
    return [name, ...columns];
  });
  const of = "of anonymous";
  const columns = ["request", "requests/s", of, "p50, ms", of, "p99, ms", of, "CPU, ms each", of];
  print(`${title}: medians of ${ROUNDS} rounds in turns, ratios with their 96 % intervals`, columns, rows);
}

/** Gets a pull token for repositories as a client does. The bench pulls from the last of them. */
async function bearer(running, repositories) {
  const query = new URLSearchParams(repositories.map((name) => ["scope", `repository:${name}:pull`]));
  const reply = await running.send("GET", `${TOKEN}?service=strata&${query}`);
  assert.equal(reply.status, 200, reply.body.toString());
  const { token, scope } = reply.json();
  assert.equal(scope.split(" ").length, repositories.length, scope);
  return `Bearer ${token}`;
}

/**
 * Measures first sign-ins at the token end-point: right and wrong credentials, of users that exist
 * and of users that do not.
 */
async function signIns(print) {
  const count = (ROUNDS + 1) * SIGN_INS;
  const users = {
    ...Object.fromEntries(numbered(count, (number) => [`person-${number}`, hashed(number, ITERATIONS)])),
    ...Object.fromEntries(numbered(count, (number) => [`quick-${number}`, hashed(number, FEW_ITERATIONS)])),
    ...Object.fromEntries(numbered(count, (number) => [`robot-${number}`, hashedToken(number)])),
  };
  const known = { kind: "person", status: 401, secret: (number) => `wrong ${number}` };
  const arms = [
    { ...known, name: "a person, wrong password" },
    { ...known, name: "the same, once more" },
    { ...known, name: "an unknown user", kind: "nobody" },
    { ...known, name: `a person of ${thousands(FEW_ITERATIONS)} iterations, wrong password`, kind: "quick" },
    { ...known, name: "a robot, a wrong password", kind: "robot" },
    { name: "a person", kind: "person", status: 200, secret: passwordOf },
    { name: `a person of ${thousands(FEW_ITERATIONS)} iterations`, kind: "quick", status: 200, secret: passwordOf },
    { name: "a robot's token", kind: "robot", status: 200, secret: tokenOf },
    { name: "a robot, another's token", kind: "robot", status: 401, secret: (number) => tokenOf(number + 1) },
    { name: "an unknown robot, a token", kind: "nobody", status: 401, secret: tokenOf },
    { name: "a person, cached", status: 200 },
  ];
  const running = await start({ probe: false, vars: { ...QUIET, STRATA_USERS: JSON.stringify({ users }) } });
  try {
    const seen = await inTurns(arms, (arm, index, round) => turn(running, arm, index, round));
    print(
      `First sign-ins at the token end-point, passwords of ${thousands(ITERATIONS)} iterations: medians of ${ROUNDS} rounds of ${SIGN_INS} in turns`,
      ["caller", "ms", "of the first", "share of longer times", "CPU, ms"],
      arms.map(({ name }, index) => {
        const { [index]: own, 0: first } = seen;
        return [
          name,
          figure(median(own, "p50")),
          ratio(own, first, "p50"),
          `${(longer(own, first) * 100).toFixed(0)} %`,
          figure(mean(own, "processor")),
        ];
      }),
    );
  } finally {
    await running.stop();
  }
}

/**
 * Signs in as several users of a kind. Each has its own address, so that earlier failures do not
 * throttle it. Without a kind, the same user signs in each time.
 */
async function turn(running, { name, kind, secret, status }, index, round) {
  const times = [];
  const before = running.processorSeconds();
  for (const number of numbered(SIGN_INS, (number) => round * SIGN_INS + number)) {
    const authorization = kind ? basic(`${kind}-${number}`, secret(number)) : basic("person-0", passwordOf(0));
    const headers = { authorization, "cf-connecting-ip": `198.18.${index}.${number}` };
    const begun = performance.now();
    const reply = await running.send("GET", `${TOKEN}?service=strata`, { headers });
    times.push(performance.now() - begun);
    assert.equal(reply.status, status, `${name}: ${reply.body}`);
  }
  const processor = ((running.processorSeconds() - before) * 1000) / SIGN_INS;
  return { times, p50: times.toSorted((one, other) => one - other)[SIGN_INS / 2], processor };
}

/**
 * Takes a turn of each arm in each round, in alternating order, so that no arm always follows the
 * same one. Resolves with the results of each arm's turns. The first round warms up and is dropped.
 */
async function inTurns(arms, take) {
  const seen = arms.map(() => []);
  for (let round = 0; round <= ROUNDS; round += 1) {
    const order = [...arms.entries()];
    if (round % 2) order.reverse();
    for (const [index, arm] of order) {
      const result = await take(arm, index, round);
      if (round > 0) seen[index].push(result);
    }
  }
  return seen;
}

/** Returns the median over all rounds of a key's ratio, with its confidence interval of 96 %. */
function ratio(rounds, others, key) {
  if (rounds === others) return "1";
  const ratios = rounds.map((round, index) => round[key] / others[index][key]).sort((one, other) => one - other);
  const [low, high] = [ratios[RANK - 1], ratios[ROUNDS - RANK]];
  const middle = (ratios[ROUNDS / 2 - 1] + ratios[ROUNDS / 2]) / 2;
  return `${middle.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
}

/**
 * Returns the share of pairs in which a time of `rounds` is longer than a time of `others`: one
 * half if nothing distinguishes them.
 */
function longer(rounds, others) {
  const [own, first] = [rounds, others].map((all) => all.flatMap(({ times }) => times));
  const counts = own.map(
    (time) => first.filter((other) => time > other).length + first.filter((other) => time === other).length / 2,
  );
  return counts.reduce((sum, count) => sum + count, 0) / (own.length * first.length);
}

function mean(rounds, key) {
  return rounds.reduce((sum, round) => sum + round[key], 0) / rounds.length;
}

function numbered(count, make) {
  return Array.from({ length: count }, (_, number) => make(number));
}

const passwordOf = (number) => `correct horse ${number}`;
const tokenOf = (number) => `strata_${createHash("sha256").update(`token ${number}`).digest("hex").slice(0, 40)}`;

function hashed(number, iterations) {
  const salt = Buffer.alloc(16, `salt ${number}`);
  return `pbkdf2-sha256$${iterations}$${plain(salt)}$${plain(pbkdf2Sync(passwordOf(number), salt, iterations, 32, "sha256"))}`;
}

function hashedToken(number) {
  const salt = Buffer.alloc(16, `salt ${number}`);
  return `token-sha256$${plain(salt)}$${plain(createHash("sha256").update(salt).update(tokenOf(number)).digest())}`;
}

const plain = (bytes) => bytes.toString("base64").replaceAll("=", "");
const thousands = (number) => number.toLocaleString("en");
