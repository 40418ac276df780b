// The repositories of the registry, and the tags of one.

import { useEffect, useReducer, useRef } from "preact/hooks";

import { Problem } from "../api";
import { repositories, type Summary, summary, tags } from "../documents";
import { age, bytes, day, plural } from "../format";
import { type Loading, useLoad } from "../load";
import { Copy, Digest, Failed, Search, Waiting } from "../parts/parts";
import { go, href, type Query, type Route } from "../route";

const PAGE = 25;
/** The most names that a search reads. */
const MOST = 20_000;

export function Registry({ query }: { query: Query }) {
  const found = query.q ?? "";
  const page = useLoad(
    (signal) => (found ? search(found, query.last, signal) : repositories(query.last, signal, PAGE)),
    [found, query.last],
  );
  const route: Route = { view: "registry" };
  const empty = page.value?.names.length === 0 && !found && !query.last;
  return (
    <main class="view" id="content" tabIndex={-1}>
      <div class="title">
        <h1>Repositories</h1>
        {!empty && <Search value={found} label="Search repositories" onSearch={(q) => go(route, { q }, true)} />}
      </div>
      {page.error && <Failed error={page.error} again={page.again} />}
      {!page.value && !page.error && <Waiting what="Loading repositories" />}
      {empty && <FirstPush />}
      {page.value && !empty && (
        <>
          <table class="list">
            <thead>
              <tr>
                <th>Repository</th>
                <th>Tags</th>
                <th class="wide">Tag</th>
                <th class="wide">Platforms</th>
                <th class="figure">Size</th>
                <th class="wide">Built</th>
              </tr>
            </thead>
            <tbody>
              {page.value.names.map((name) => (
                <Repository key={name} name={name} upstream={page.value?.mirrored[name]} />
              ))}
            </tbody>
          </table>
          {page.value.names.length === 0 && (
            <p class="notice">
              {found ? `No repository's name contains “${found}”.` : "There are no more repositories."}
            </p>
          )}
          <Pages route={route} query={query} last={page.value.more ? page.value.names.at(-1) : undefined} />
        </>
      )}
    </main>
  );
}

async function search(text: string, last: string | undefined, signal: AbortSignal) {
  const names: string[] = [];
  const mirrored: Record<string, string> = {};
  let [after, looked] = [last, 0];
  for (;;) {
    const page = await repositories(after, signal, 1000);
    looked += page.names.length;
    for (const name of page.names) {
      if (!name.includes(text.toLowerCase())) continue;
      if (names.length === PAGE) return { names, mirrored, more: true };
      names.push(name);
      if (page.mirrored[name]) mirrored[name] = page.mirrored[name];
    }
    if (!page.more || looked >= MOST) return { names, mirrored, more: page.more && names.length > 0 };
    after = page.names.at(-1);
  }
}

/**
 * The row of a repository. It loads when it is in sight. A mirrored repository does not load,
 * because that would send requests to its upstream.
 */
function Repository({ name, upstream }: { name: string; upstream: string | undefined }) {
  const [row, seen] = useSeen<HTMLTableRowElement>();
  const of = useLoad(
    async (signal) => {
      if (!seen || upstream) return undefined;
      const found = await tags(name, undefined, signal, 1000);
      const tag = found.tags.includes("latest") ? "latest" : found.tags.at(-1);
      return {
        count: found.tags.length,
        more: found.more,
        tag,
        summary: tag ? await summary(name, tag, signal) : undefined,
      };
    },
    [name, seen, upstream],
  );
  const { tag, summary: known, count, more } = of.value ?? {};
  return (
    <tr ref={row}>
      <th scope="row">
        <a href={href({ view: "repository", name })}>{name}</a>
        {upstream ? <span class="chip mirrored">mirrors {upstream}</span> : <span class="chip">pushed</span>}
        <Narrow summary={known} />
      </th>
      <td>{count === undefined ? <Unknown of={of} shown={!upstream} /> : more ? "1,000+" : count}</td>
      <td class="wide">{tag ? <a href={href({ view: "image", name, reference: tag })}>{tag}</a> : "–"}</td>
      <Facts summary={known} />
    </tr>
  );
}

function Unknown({ of, shown }: { of: Loading<unknown>; shown: boolean }) {
  if (of.error instanceof Problem) return <span title={of.error.message}>unknown</span>;
  return <span class="muted">{shown ? "…" : "–"}</span>;
}

function Facts({ summary: of }: { summary: Summary | undefined }) {
  return (
    <>
      <td class="wide">
        <Platforms of={of?.platforms ?? []} />
      </td>
      <td class="figure">{of ? bytes(of.size) : <span class="muted">–</span>}</td>
      <td class="wide" title={of?.created ? day(of.created) : undefined}>
        {of?.created ? age(of.created) : <span class="muted">–</span>}
      </td>
    </>
  );
}

/** Facts that have no column on a narrow screen. */
function Narrow({ summary: of }: { summary: Summary | undefined }) {
  if (!of) return null;
  return (
    <span class="narrow muted small">
      <Platforms of={of.platforms} />
      {of.created && `, ${age(of.created)}`}
    </span>
  );
}

function Platforms({ of }: { of: string[] }) {
  if (of.length === 0) return <span class="muted">–</span>;
  return (
    <span title={of.join(", ")}>
      {of[0]}
      {of.length > 1 && <span class="muted"> + {of.length - 1}</span>}
    </span>
  );
}

export function Tags({ name, query }: { name: string; query: Query }) {
  const found = query.q ?? "";
  const route: Route = { view: "repository", name };
  const page = useLoad(
    (signal) => (found ? searchTags(name, found, query.last, signal) : tags(name, query.last, signal, PAGE)),
    [name, found, query.last],
  );
  return (
    <main class="view" id="content" tabIndex={-1}>
      <div class="title">
        <h1>{name}</h1>
        <Search value={found} label="Search tags" onSearch={(q) => go(route, { q }, true)} />
      </div>
      {page.error && <Failed error={page.error} again={page.again} />}
      {!page.value && !page.error && <Waiting what="Loading tags" />}
      {page.value && (
        <>
          <table class="list">
            <thead>
              <tr>
                <th>Tag</th>
                <th class="wide">Digest</th>
                <th class="wide">Platforms</th>
                <th class="figure">Size</th>
                <th class="wide">Built</th>
              </tr>
            </thead>
            <tbody>
              {page.value.tags.map((tag) => (
                <TagRow key={tag} name={name} tag={tag} />
              ))}
            </tbody>
          </table>
          {page.value.tags.length === 0 && (
            <p class="notice">
              {found ? (
                `No tag contains “${found}”.`
              ) : (
                <>
                  This repository has no tags. Push one: <code>docker push {`${location.host}/${name}:TAG`}</code>
                </>
              )}
            </p>
          )}
          <Pages route={route} query={query} last={page.value.more ? page.value.tags.at(-1) : undefined} />
        </>
      )}
    </main>
  );
}

async function searchTags(name: string, text: string, last: string | undefined, signal: AbortSignal) {
  const kept: string[] = [];
  let [after, looked] = [last, 0];
  for (;;) {
    const page = await tags(name, after, signal, 1000);
    looked += page.tags.length;
    for (const tag of page.tags) {
      if (!tag.toLowerCase().includes(text.toLowerCase())) continue;
      if (kept.length === PAGE) return { tags: kept, more: true };
      kept.push(tag);
    }
    if (!page.more || looked >= MOST) return { tags: kept, more: page.more && kept.length > 0 };
    after = page.tags.at(-1);
  }
}

function TagRow({ name, tag }: { name: string; tag: string }) {
  const [row, seen] = useSeen<HTMLTableRowElement>();
  const of = useLoad(async (signal) => (seen ? summary(name, tag, signal) : undefined), [name, tag, seen]);
  return (
    <tr ref={row}>
      <th scope="row">
        <a href={href({ view: "image", name, reference: tag })}>{tag}</a>
        {of.value && of.value.kind !== "image" && <span class="chip">{of.value.kind}</span>}
        <Narrow summary={of.value} />
      </th>
      <td class="wide">
        {of.value ? (
          <>
            <Digest digest={of.value.digest} href={href({ view: "image", name, reference: of.value.digest })} />
            <Copy text={of.value.digest} label={`Copy the digest of ${tag}`} />
          </>
        ) : (
          <Unknown of={of} shown />
        )}
      </td>
      <Facts summary={of.value} />
    </tr>
  );
}

function Pages({ route, query, last }: { route: Route; query: Query; last: string | undefined }) {
  if (!query.last && !last) return null;
  return (
    <nav class="pages" aria-label="Pages">
      {query.last && (
        <a class="button" href={href(route, { ...query, last: undefined })}>
          First page
        </a>
      )}
      {last && (
        <a class="button" rel="next" href={href(route, { ...query, last })}>
          Next page
        </a>
      )}
    </nav>
  );
}

/** Returns a ref, and whether its element has been in sight. */
function useSeen<T extends Element>() {
  const at = useRef<T>(null);
  const [seen, see] = useReducer(() => true, false);
  useEffect(() => {
    if (seen || !at.current) return undefined;
    const observer = new IntersectionObserver(
      (entries) => entries.some(({ isIntersecting }) => isIntersecting) && see(undefined),
    );
    observer.observe(at.current);
    return () => observer.disconnect();
  }, [seen]);
  return [at, seen] as const;
}

/** Shown if the registry is empty: commands for the first push. */
function FirstPush() {
  const host = location.host;
  const commands = [
    [
      "docker",
      [`docker login ${host}`, `docker tag alpine ${host}/library/alpine`, `docker push ${host}/library/alpine`],
    ],
    ["crane", [`crane auth login ${host} -u USER -p PASSWORD`, `crane copy alpine ${host}/library/alpine`]],
    [
      "skopeo",
      [
        `skopeo copy ${location.protocol === "http:" ? "--dest-tls-verify=false " : ""}docker://alpine docker://${host}/library/alpine`,
      ],
    ],
  ] as const;
  return (
    <div class="first">
      <p>There are no repositories yet. Push an image with any client:</p>
      {commands.map(([client, lines]) => (
        <div class="command" key={client}>
          <h2>{client}</h2>
          <pre tabIndex={0} role="group" aria-label={`First push with ${client}`}>
            {lines.join("\n")}
          </pre>
          <Copy text={lines.join("\n")} label={`Copy ${plural(lines.length, "line")} for ${client}`} />
        </div>
      ))}
      <p class="muted">
        Or browse a layer from your disk: drop a .tar, .tar.gz or .tar.zst anywhere on this page. It stays on your
        machine.
      </p>
    </div>
  );
}
