// The checks of wrangler.toml before a deployment. Wrangler's own parser reads it, with its rules
// of inheritance for environments.

import path from "node:path";

import { Failure, again } from "./terminal.mjs";

/**
 * Resolves with the configuration of an environment, or of the top level if the name is empty.
 * Fails unless every environment of the file turns version URLs off: any of them may be deployed
 * next.
 */
export async function configurationOf(file, environment) {
  const { experimental_readRawConfig: readRaw, unstable_readConfig: read } = await import("wrangler");
  const name = path.basename(file);
  const attempt = (work) => {
    try {
      return work();
    } catch ({ message }) {
      throw new Failure(`${name} can't be read: ${message.trim().replace(/\s*\n\s*/g, " ")}; fix it, then ${again()}`);
    }
  };
  const { rawConfig } = attempt(() => readRaw({ config: file }));
  const environments = ["", ...Object.keys(rawConfig.env ?? {})];
  if (!environments.includes(environment)) {
    throw new Failure(
      `${name} has no environment ${environment}: it has ${environments.slice(1).join(", ") || "none"}`,
    );
  }
  const all = new Map(
    environments.map((one) => [one, attempt(() => read({ config: file, env: one }, { hideWarnings: true }))]),
  );
  for (const [one, { preview_urls, workers_dev }] of all) {
    const where = one === "" ? name : `environment ${one} of ${name}`;
    if (preview_urls !== false) {
      const found = preview_urls === undefined ? "leaves preview_urls out" : "sets preview_urls = true";
      throw new Failure(
        `${where} ${found}: each old version would go on answering at an address of its own, with its old users and rules, on the same bucket, and without logs. Set preview_urls = false there, then ${again()}`,
      );
    }
    if (workers_dev === undefined) {
      throw new Failure(
        `${where} leaves workers_dev out: whether the registry answers at workers.dev would then depend on its routes. Set workers_dev = true there, or false if the registry has a domain of its own, then ${again()}`,
      );
    }
  }
  return all.get(environment);
}

/** Returns the advice after a deployment: the addresses at which the registry answers. */
export function advice({ workers_dev, route, routes }) {
  const domains = [route, ...(routes ?? [])].filter(Boolean).map((one) => one.pattern ?? one);
  if (!workers_dev) {
    return domains.length > 0
      ? []
      : [
          "workers_dev is false and there are no routes: unless a domain was added in the dashboard, the registry has no address.",
        ];
  }
  if (domains.length > 0) {
    return [
      `The registry answers at ${domains.join(", ")}, and at its workers.dev address as well, where the rules of your zone (firewall, rate limits) don't apply: set workers_dev = false in wrangler.toml, and deploy again.`,
    ];
  }
  return [
    "The registry answers at its workers.dev address. Once it has a domain of its own, set workers_dev = false in wrangler.toml, and deploy again: the rules of your zone don't apply at workers.dev.",
  ];
}
