// An image: platforms, layers beside the steps that made them, configuration, referrers, and
// commands to pull it.

import { useState } from "preact/hooks";

import {
  type Config,
  type Descriptor,
  chosen,
  config,
  images,
  isConfig,
  isImage,
  isIndex,
  isLayer,
  isManifest,
  list,
  type Manifest,
  manifest,
  platform,
  type Platform,
  referrers,
  sizeOf,
  type Step,
} from "../documents";
import { age, bytes, day, percent, plural } from "../format";
import { useLoad } from "../load";
import { Document } from "../parts/json";
import { Copy, Digest, Failed, Name, Section, Stratum, Waiting } from "../parts/parts";
import { href, type Query } from "../route";

export function Image({ name, reference, query }: { name: string; reference: string; query: Query }) {
  const of = useLoad(
    async (signal) => {
      const top = await manifest(name, reference, signal);
      const child = isIndex(top) ? chosen(top, query.platform) : undefined;
      const image = child ? await manifest(name, child.digest, signal) : isImage(top) ? top : undefined;
      const read =
        image?.document.config && isImage(image) ? await config(name, image.document.config, signal) : undefined;
      return { top, child, image, config: read };
    },
    [name, reference, query.platform],
  );
  if (of.error) return <View title={reference}>{<Failed error={of.error} again={of.again} />}</View>;
  if (!of.value) return <View title={reference}>{<Waiting what="Loading the manifest" />}</View>;
  const { top, child, image, config: read } = of.value;
  const files =
    image && isImage(image)
      ? href(
          { view: "files", name, reference, path: "" },
          { platform: child && images(top).length > 1 ? platform(child.platform) : undefined },
        )
      : undefined;
  return (
    <View title={reference.includes(":") ? `${name}` : `${name}:${reference}`}>
      <dl class="facts head-facts">
        <Fact label="Digest">
          <code class="long">{top.digest}</code>
          <Copy text={top.digest} label="Copy the digest" />
        </Fact>
        <Fact label="Type">{kindOf(top)}</Fact>
        {image && <Fact label="Size">{bytes(sizeOf(image))}</Fact>}
        {read?.created && <Fact label="Built">{built(read.created)}</Fact>}
      </dl>
      {files && (
        <p class="actions">
          <a class="button primary" href={files}>
            Browse files
          </a>
        </p>
      )}
      {isIndex(top) && <Platforms name={name} reference={reference} top={top} child={child} />}
      {image && isImage(image) && (
        <Layers
          name={name}
          reference={reference}
          image={image}
          config={read}
          query={child ? { platform: platform(child.platform) } : {}}
        />
      )}
      {!image && !isIndex(top) && <Parts name={name} of={top} />}
      <div class="columns">
        {read && <Runs config={read} />}
        <Pull name={name} reference={reference} digest={top.digest} />
      </div>
      <Referrers name={name} digest={top.digest} also={child?.digest} />
      <Section title="Manifest" note={top.mediaType}>
        <Document of={top.document} link={(digest, within) => linkOf(name, top, digest, within)} label="the manifest" />
      </Section>
      {image && image !== top && (
        <Section title={`Manifest of ${platform(child?.platform)}`} note={image.mediaType}>
          <Document
            of={image.document}
            link={(digest, within) => linkOf(name, image, digest, within)}
            label="the manifest of the platform"
          />
        </Section>
      )}
    </View>
  );
}

function View({ title, children }: { title: string; children: preact.ComponentChildren }) {
  return (
    <main class="view" id="content" tabIndex={-1}>
      <div class="title">
        <h1>{title}</h1>
      </div>
      {children}
    </main>
  );
}

function kindOf(of: Manifest): string {
  if (isIndex(of)) return images(of).length > 0 ? `index of ${plural(images(of).length, "image")}` : "index";
  return isImage(of) ? "image" : `artifact ${of.document.artifactType ?? of.document.config?.mediaType ?? ""}`;
}

function built(created: string): string {
  const date = new Date(created);
  return Number.isNaN(date.getTime()) ? created.slice(0, 40) : `${age(date)} (${day(date)} UTC)`;
}

/** Returns the address for a digest in a manifest, by the media type in its descriptor. */
function linkOf(name: string, of: Manifest, digest: string, within: Record<string, unknown>): string {
  const mediaType = typeof within.mediaType === "string" ? within.mediaType : undefined;
  if (isManifest(mediaType)) return href({ view: "image", name, reference: digest });
  if (isLayer(mediaType) && isImage(of))
    return href({ view: "files", name, reference: of.digest, path: "" }, { layer: digest });
  return href({ view: "blob", name, digest }, { type: mediaType });
}

function Platforms({
  name,
  reference,
  top,
  child,
}: {
  name: string;
  reference: string;
  top: Manifest;
  child: Descriptor | undefined;
}) {
  const all = images(top);
  const others = list(top.document.manifests).filter((one) => !all.includes(one));
  return (
    <Section title="Platforms" note={all.length}>
      <ul class="platforms">
        {all.map((one) => {
          const named = platform(one.platform);
          return (
            <li key={one.digest}>
              <a
                class={one === child ? "button chosen" : "button"}
                aria-current={one === child ? "true" : undefined}
                href={href({ view: "image", name, reference }, { platform: named })}
              >
                {named}
                {one.platform?.["os.version"] && <span class="muted">{one.platform["os.version"]}</span>}
              </a>
              <Digest digest={one.digest} href={href({ view: "image", name, reference: one.digest })} />
            </li>
          );
        })}
      </ul>
      {others.length > 0 && (
        <ul class="plain">
          {others.map((one) => (
            <li key={one.digest}>
              <Digest digest={one.digest} href={href({ view: "image", name, reference: one.digest })} />{" "}
              <span class="muted">
                {one.artifactType ?? one.annotations?.["vnd.docker.reference.type"] ?? one.mediaType}
              </span>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

/** Returns the steps of the history, each with the layer that it made. */
export function steps(
  image: Manifest,
  of: Config | undefined,
): { step: Step | undefined; layer: Descriptor | undefined; index: number }[] {
  const layers = list(image.document.layers);
  let next = 0;
  const rows = list(of?.history).map((step) => {
    const index = step.empty_layer ? -1 : next++;
    return { step: step as Step | undefined, layer: index < 0 ? undefined : layers[index], index };
  });
  // The history may be short or missing.
  while (next < layers.length) {
    rows.push({ step: undefined, layer: layers[next], index: next });
    next += 1;
  }
  return rows;
}

function Layers({
  name,
  reference,
  image,
  config: of,
  query,
}: {
  name: string;
  reference: string;
  image: Manifest;
  config: Config | undefined;
  query: Query;
}) {
  const layers = list(image.document.layers);
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  const to = (layer: Descriptor) =>
    href({ view: "files", name, reference, path: "" }, { ...query, layer: layer.digest });
  return (
    <Section title="Layers" note={`${layers.length}, ${bytes(total)} compressed`}>
      <div class="core" role="img" aria-label={`Sizes of layers: ${layers.map(({ size }) => bytes(size)).join(", ")}`}>
        {layers.map((layer, index) => (
          <span
            key={index}
            class={`stratum-${index % 8}`}
            style={{ flexGrow: layer.size / (total || 1) }}
            title={`${index + 1}: ${bytes(layer.size)}`}
          />
        ))}
      </div>
      <ol class="steps">
        {steps(image, of).map(({ step, layer, index }, row) => (
          <li key={row} class={layer ? "" : "empty"}>
            <span class="which">{layer ? <Stratum index={index} /> : null}</span>
            <code class="by">
              <Name text={wordsOf(step)} />
            </code>
            {layer ? (
              <>
                <span class="figure">
                  {bytes(layer.size)}
                  <span class="muted share"> {percent(layer.size, total)}</span>
                </span>
                <span class="wide">
                  <Digest digest={layer.digest} />
                  <Copy text={layer.digest} label={`Copy the digest of layer ${index + 1}`} />
                </span>
                {isLayer(layer.mediaType) ? (
                  <a href={to(layer)} aria-label={`Files of layer ${index + 1}`}>
                    files
                  </a>
                ) : (
                  <a href={href({ view: "blob", name, digest: layer.digest }, { type: layer.mediaType })}>blob</a>
                )}
              </>
            ) : (
              <span class="figure muted">no files</span>
            )}
          </li>
        ))}
      </ol>
    </Section>
  );
}

/** Returns the command of a step, without the prefixes and suffixes of builders. */
function wordsOf(step: Step | undefined): string {
  const said = (step?.created_by ?? "")
    .replace(/^\/bin\/sh -c #\(nop\)\s*/, "")
    .replace(/^\/bin\/sh -c /, "RUN ")
    .replace(/ # buildkit$/, "");
  return said.trim().slice(0, 2000) || step?.comment?.slice(0, 2000) || "no history";
}

/** The blobs of a manifest that is not an image. */
function Parts({ name, of }: { name: string; of: Manifest }) {
  const all = [...(of.document.config ? [of.document.config] : []), ...list(of.document.layers)];
  if (all.length === 0) return null;
  return (
    <Section title="Content" note={plural(all.length, "blob")}>
      <table class="list">
        <thead>
          <tr>
            <th>Blob</th>
            <th class="wide">Media type</th>
            <th class="figure">Size</th>
          </tr>
        </thead>
        <tbody>
          {all.map((one, index) => (
            <tr key={index}>
              <th scope="row">
                <a href={href({ view: "blob", name, digest: one.digest }, { type: one.mediaType })}>
                  <Name
                    text={
                      one.annotations?.["org.opencontainers.image.title"] ??
                      (one === of.document.config ? "configuration" : one.digest.slice(0, 19))
                    }
                  />
                </a>
              </th>
              <td class="wide">{one.mediaType}</td>
              <td class="figure">{bytes(one.size)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Fact({ label, children }: { label: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Runs({ config: of }: { config: Config }) {
  const run = of.config ?? {};
  const words = (all: string[] | undefined) =>
    Array.isArray(all) && all.length > 0 ? (
      <code>{all.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(" ")}</code>
    ) : undefined;
  const lines = (all: string[] | undefined) =>
    Array.isArray(all) && all.length > 0 ? (
      <ul class="plain">
        {all.map((line, index) => (
          <li key={index}>
            <code>
              <Name text={String(line)} />
            </code>
          </li>
        ))}
      </ul>
    ) : undefined;
  const keys = (all: Record<string, unknown> | undefined) =>
    lines(all && typeof all === "object" ? Object.keys(all) : undefined);
  const labels =
    run.Labels && typeof run.Labels === "object"
      ? Object.entries(run.Labels).map(([key, value]) => `${key}=${value}`)
      : undefined;
  const facts: [string, preact.ComponentChildren][] = [
    ["Platform", platform(of as Platform)],
    ["Entry point", words(run.Entrypoint)],
    ["Command", words(run.Cmd)],
    ["User", run.User || "root"],
    ["Working directory", run.WorkingDir || "/"],
    ["Ports", keys(run.ExposedPorts)],
    ["Volumes", keys(run.Volumes)],
    ["Environment", lines(run.Env)],
    ["Labels", lines(labels)],
    ["Health check", words(run.Healthcheck?.Test)],
    ["Stop signal", run.StopSignal],
    ["Author", of.author],
  ];
  return (
    <Section title="Configuration">
      <dl class="facts">
        {facts.map(([label, value]) => (value ? <Fact key={label} label={label} children={value} /> : null))}
      </dl>
    </Section>
  );
}

/** Commands that pull the image. */
function Pull({ name, reference, digest }: { name: string; reference: string; digest: string }) {
  const { host, protocol } = location;
  const plain = protocol === "http:";
  const from = reference.includes(":") ? `${host}/${name}@${digest}` : `${host}/${name}:${reference}`;
  const commands: [string, string][] = [
    ["docker", `docker pull ${from}`],
    ["crane", `crane pull ${plain ? "--insecure " : ""}${from} image.tar`],
    ["skopeo", `skopeo copy ${plain ? "--src-tls-verify=false " : ""}docker://${from} oci:image`],
    [
      "regctl",
      plain
        ? `regctl image export --host reg=${host},tls=disabled ${from} image.tar`
        : `regctl image export ${from} image.tar`,
    ],
  ];
  return (
    <Section title="Pull">
      <div class="commands">
        {commands.map(([client, line]) => (
          <div class="command" key={client}>
            <pre tabIndex={0} role="group" aria-label={`Pull with ${client}`}>
              {line}
            </pre>
            <Copy text={line} label={`Copy the line for ${client}`} />
          </div>
        ))}
      </div>
    </Section>
  );
}

function Referrers({ name, digest, also }: { name: string; digest: string; also: string | undefined }) {
  return (
    <Section title="Referrers" note="signatures, SBOMs, attestations">
      <ul class="tree">
        <Branch name={name} digest={digest} none={also ? "The index has no referrers." : "No referrers."} />
        {also && (
          <Branch
            name={name}
            digest={also}
            none="The image of this platform has no referrers."
            label="Referrers of the image of this platform:"
          />
        )}
      </ul>
    </Section>
  );
}

/** The referrers of a manifest, each of which opens to its own. */
function Branch({ name, digest, none, label }: { name: string; digest: string; none: string; label?: string }) {
  const found = useLoad((signal) => referrers(name, digest, signal), [name, digest]);
  if (found.error) return <li class="muted">{found.error.message}</li>;
  if (!found.value) return <li class="muted late">…</li>;
  const { of, more } = found.value;
  if (of.length === 0) return <li class="muted">{none}</li>;
  return (
    <>
      {label && <li class="muted">{label}</li>}
      {of.map((one) => (
        <Leaf key={one.digest} name={name} of={one} />
      ))}
      {more && <li class="muted">More referrers are not shown.</li>}
    </>
  );
}

function Leaf({ name, of }: { name: string; of: Descriptor }) {
  const [open, setOpen] = useState(false);
  const type = of.artifactType ?? (isConfig(of.mediaType) ? "image" : of.mediaType);
  const notes = Object.entries(of.annotations ?? {}).slice(0, 4);
  return (
    <li>
      <button
        type="button"
        class="quiet turn"
        aria-expanded={open}
        aria-label={`Referrers of ${type}`}
        onClick={() => setOpen(!open)}
      >
        {open ? "▾" : "▸"}
      </button>
      <a href={href({ view: "image", name, reference: of.digest })}>
        <Name text={type} />
      </a>{" "}
      <Digest digest={of.digest} /> <span class="muted">{bytes(of.size)}</span>
      {notes.length > 0 && (
        <span class="muted small notes">
          <Name text={notes.map(([key, value]) => `${key.split(".").at(-1)} ${value}`).join(" · ")} />
        </span>
      )}
      {open && (
        <ul class="tree">
          <Branch name={name} digest={of.digest} none="No referrers." />
        </ul>
      )}
    </li>
  );
}
