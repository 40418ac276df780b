// Manifests, indexes and configurations: the fields that the page shows.

import { Problem, request, target } from "./api";
import { limiter } from "./load";

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  "os.version"?: string;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: Platform;
  artifactType?: string;
  annotations?: Record<string, string>;
}

interface Document {
  mediaType?: string;
  artifactType?: string;
  config?: Descriptor;
  layers?: Descriptor[];
  manifests?: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

export interface Manifest {
  digest: string;
  mediaType: string;
  size: number;
  document: Document;
}

export interface Config {
  created?: string;
  author?: string;
  os?: string;
  architecture?: string;
  variant?: string;
  config?: {
    User?: string;
    ExposedPorts?: Record<string, unknown>;
    Env?: string[];
    Entrypoint?: string[];
    Cmd?: string[];
    Volumes?: Record<string, unknown>;
    WorkingDir?: string;
    Labels?: Record<string, string>;
    StopSignal?: string;
    Healthcheck?: { Test?: string[] };
  };
  rootfs?: { diff_ids?: string[] };
  history?: Step[];
}

export interface Step {
  created?: string;
  created_by?: string;
  comment?: string;
  empty_layer?: boolean;
}

const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker.distribution";
const ACCEPT = [
  `${OCI}.index.v1+json`,
  `${OCI}.manifest.v1+json`,
  `${DOCKER}.manifest.list.v2+json`,
  `${DOCKER}.manifest.v2+json`,
  "*/*;q=0.1",
].join(", ");

/**
 * Manifests by name and digest. They never expire, because a digest names the same bytes forever.
 */
const known = new Map<string, Manifest>();

export async function manifest(name: string, reference: string, signal?: AbortSignal): Promise<Manifest> {
  const found = known.get(`${name}@${reference}`);
  if (found) return found;
  const reply = await request(`/v2/${name}/manifests/${encodeURIComponent(reference)}`, {
    headers: { Accept: ACCEPT },
    signal,
  });
  const document = parsed<Document>(reply.text(), "the manifest");
  const mediaType = reply.headers.get("Content-Type")?.split(";")[0] ?? document.mediaType ?? "";
  const digest = reply.headers.get("Docker-Content-Digest") ?? reference;
  const made = { digest, mediaType, size: reply.bytes.length, document };
  known.set(`${name}@${digest}`, made);
  return made;
}

const configs = new Map<string, Config>();

/** The largest configuration that is fetched, in bytes: the page holds it in memory. */
const MOST = 8_000_000;

export async function config(name: string, { digest, size }: Descriptor, signal?: AbortSignal): Promise<Config> {
  const found = configs.get(`${name}@${digest}`);
  if (found) return found;
  if (size > MOST) throw new Problem("the configuration is too large to show: download it by its digest");
  const made = parsed<Config>((await request(`/v2/${name}/blobs/${digest}`, { signal })).text(), "the configuration");
  configs.set(`${name}@${digest}`, made);
  return made;
}

function parsed<T>(text: string, what: string): T {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Problem(`${what} is not JSON: push it again`);
  }
  if (found === null || typeof found !== "object" || Array.isArray(found))
    throw new Problem(`${what} is not a JSON object: push it again`);
  return found as T;
}

/** Returns the objects in a list. A hostile document may have anything in place of a list. */
export function list<T>(of: T[] | undefined): T[] {
  return Array.isArray(of) ? of.filter((one) => one !== null && typeof one === "object") : [];
}

export function isIndex({ document }: Manifest): boolean {
  return Array.isArray(document.manifests);
}

export function isImage({ document }: Manifest): boolean {
  return isConfig(document.config?.mediaType) && Array.isArray(document.layers);
}

export function isConfig(mediaType: string | undefined): boolean {
  return mediaType === `${OCI}.config.v1+json` || mediaType === "application/vnd.docker.container.image.v1+json";
}

export function isManifest(mediaType: string | undefined): boolean {
  return /manifest|image\.index/.test(mediaType ?? "");
}

export function isLayer(mediaType: string | undefined): boolean {
  return /(layer\.v1\.tar|rootfs\.diff\.tar|layer\.nondistributable|rootfs\.foreign)/.test(mediaType ?? "");
}

export function platform(of: Platform | undefined): string {
  return of?.os ? [of.os, of.architecture, of.variant].filter(Boolean).join("/") : "";
}

/** Returns the images of an index. Entries without a known platform are not images. */
export function images({ document }: Manifest): Descriptor[] {
  return list(document.manifests).filter(({ platform: of }) => of && of.os !== "unknown");
}

/** Returns the image to show: that of the wanted platform, of linux/amd64, or the first one. */
export function chosen(of: Manifest, wanted?: string): Descriptor | undefined {
  const all = images(of);
  const named = (name: string) =>
    all.find((one) => platform(one.platform) === name || platform(one.platform).startsWith(`${name}/`));
  return (wanted && named(wanted)) || named("linux/amd64") || all[0];
}

export interface Summary {
  digest: string;
  kind: string;
  platforms: string[];
  /** Bytes of the layers and the configuration; of an index, those of the chosen image. */
  size: number;
  created: Date | undefined;
}

const few = limiter(6);

/** Fetches the facts about a tag that a list shows. */
export function summary(name: string, tag: string, signal: AbortSignal): Promise<Summary> {
  return few(async () => {
    const top = await manifest(name, tag, signal);
    const child = isIndex(top) ? chosen(top) : undefined;
    const one = child ? await manifest(name, child.digest, signal) : top;
    const of = one.document.config;
    const read = isImage(one) && of ? await config(name, of, signal).catch(() => undefined) : undefined;
    const stated =
      read?.created ??
      one.document.annotations?.["org.opencontainers.image.created"] ??
      top.document.annotations?.["org.opencontainers.image.created"];
    const created = stated ? new Date(stated) : undefined;
    return {
      digest: top.digest,
      kind: isIndex(top)
        ? images(top).length > 0
          ? "index"
          : "index of artifacts"
        : isImage(one)
          ? "image"
          : "artifact",
      platforms: isIndex(top)
        ? [...new Set(images(top).map(({ platform: of }) => platform(of)))]
        : read?.os
          ? [platform(read as Platform)]
          : [],
      size: sizeOf(one),
      created: created && !Number.isNaN(created.getTime()) ? created : undefined,
    };
  }, signal);
}

export function sizeOf({ document }: Manifest): number {
  return list(document.layers).reduce((sum, { size }) => sum + (Number(size) || 0), Number(document.config?.size) || 0);
}

export async function tags(name: string, after: string | undefined, signal: AbortSignal, count: number) {
  const reply = await request(target(`/v2/${name}/tags/list`, { n: String(count), last: after }), { signal });
  return { tags: reply.json<{ tags: string[] | null }>().tags ?? [], more: reply.next !== undefined };
}

export async function repositories(after: string | undefined, signal: AbortSignal, count: number) {
  const reply = await request(target("/v2/_catalog", { n: String(count), last: after }), { signal });
  const { repositories: names, mirrored = {} } = reply.json<{
    repositories: string[];
    mirrored?: Record<string, string>;
  }>();
  return { names, mirrored, more: reply.next !== undefined };
}

export async function referrers(
  name: string,
  digest: string,
  signal: AbortSignal,
): Promise<{ of: Descriptor[]; more: boolean }> {
  const reply = await request(`/v2/${name}/referrers/${digest}`, { signal });
  return { of: list(reply.json<{ manifests: Descriptor[] }>().manifests), more: reply.next !== undefined };
}
