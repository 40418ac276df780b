// Files of an image, of one layer, or of a layer from disk: a tree, a map of sizes, and the waste.

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";

import { type Analysing, useAnalysis } from "../analysis";
import { bytes, number, percent, plural } from "../format";
import { useLoad } from "../load";
import type { Analyser } from "../local/analysis";
import { Failed, Icon, Name, Search, Stratum, Waiting } from "../parts/parts";
import { type Child, iconOf, type Shelf, sizeOf, type Sort, Tree, useRowHeight } from "../parts/tree";
import { Treemap } from "../parts/treemap";
import { Rows } from "../parts/virtual";
import { encode, go, href, type Query } from "../route";
import { type Browsed, Crumbs } from "./crumbs";
import { File } from "./file";

const VIEWS = { tree: "Files", map: "Sizes", waste: "Waste" } as const;

export function Browse({
  of,
  path,
  query,
  children,
}: {
  of: Browsed;
  path: string;
  query: Query;
  children?: ComponentChildren;
}) {
  const isFile = path !== "" && !path.endsWith("/");
  const view = query.view === "map" || query.view === "waste" ? query.view : "tree";
  const find = query.find ?? "";
  const analysing = useAnalysis(
    isFile ? undefined : of.analysable,
    view !== "tree" || find !== "" || query.sort === "size",
  );
  const analyser = analysing.state === "done" ? analysing.analyser : undefined;
  const shelf = useMemo(() => shelfOf(of, analyser), [of.id, analyser]);
  const keep = { layer: query.layer, platform: query.platform };
  const at = (to: string, more: Query = {}) => href(of.route(to), { ...keep, ...more });
  if (isFile) return <File key={`${of.id} ${path}`} of={of} path={path} query={query} keep={keep} />;

  const sort: Sort = query.sort === "size" ? "size" : "name";
  const turn = (more: Query, to = path) =>
    go(of.route(to), { ...keep, view: query.view, sort: query.sort, find: query.find, ...more }, true);
  return (
    <main class="view full" id="content" tabIndex={-1}>
      <h1 class="visually-hidden">{of.title}</h1>
      <div class="bar">
        <nav class="tabs" aria-label="Views">
          {Object.entries(VIEWS).map(([name, label]) => (
            <a
              key={name}
              href={at(path, { view: name === "tree" ? undefined : name })}
              aria-current={view === name ? "page" : undefined}
            >
              {label}
            </a>
          ))}
        </nav>
        {children}
        <span class="spring" />
        <Found analysing={analysing} />
        {view === "tree" && (
          <>
            <Search value={find} label="Search names" onSearch={(text) => turn({ find: text })} />
            <select
              aria-label="Sort by"
              value={sort}
              onChange={(event) => turn({ sort: event.currentTarget.value === "size" ? "size" : undefined })}
            >
              <option value="name">by name</option>
              <option value="size">by size</option>
            </select>
          </>
        )}
      </div>
      {view === "tree" && find === "" && (
        <Tree
          key={of.id}
          shelf={shelf}
          reveal={path}
          sort={sort}
          label={`Files of ${of.title}`}
          address={(to) => at(to)}
          onOpen={(to) => turn({}, to)}
        />
      )}
      {view === "tree" && find !== "" && (
        <Needs analysing={analysing}>
          {(ready) => <Results analyser={ready} find={find} only={of.only} address={(to) => at(to)} />}
        </Needs>
      )}
      {view === "map" && (
        <>
          <Crumbs path={path} address={(to) => at(to, { view: "map" })} />
          <Needs analysing={analysing}>
            {() => (
              <Treemap
                shelf={shelf}
                path={path}
                address={(to) => (to.endsWith("/") ? at(to, { view: "map" }) : at(to))}
              />
            )}
          </Needs>
        </>
      )}
      {view === "waste" && (
        <Needs analysing={analysing}>
          {(ready) => <Waste analyser={ready} layers={of.layers} address={(to) => at(to)} />}
        </Needs>
      )}
    </main>
  );
}

/** Returns a shelf that reads from the source, or from the analysis once there is one. */
function shelfOf(of: Browsed, analyser: Analyser | undefined): Shelf {
  const index = new Map(of.layers.map(({ digest }, at) => [digest, at]));
  return {
    id: of.id,
    turn: analyser ? "analysed" : "listed",
    async children(directory, after, signal) {
      if (analyser)
        return {
          children: (await (of.only === undefined
            ? analyser.children(directory)
            : analyser.layerChildren(of.only, directory))) as Child[],
        };
      const { children, next } = await of.source.list(directory, after, signal);
      return {
        children: children.map(
          (child) =>
            ({
              ...child,
              layerIndex: child.layer === undefined ? undefined : (index.get(child.layer) ?? of.only),
            }) as Child,
        ),
        next,
      };
    },
  };
}

/** The state of the analysis, in one line. */
function Found({ analysing }: { analysing: Analysing }) {
  switch (analysing.state) {
    case "working":
      return analysing.progress ? (
        <span class="muted small" role="status">
          indexing, {percent(analysing.progress.read, analysing.progress.size)}
        </span>
      ) : (
        <span class="muted small late" role="status">
          comparing layers{analysing.of > 0 && `, ${percent(analysing.entries, analysing.of)}`}
        </span>
      );
    case "large":
      return (
        <button type="button" onClick={analysing.begin} title="Reads the tables of contents of all layers">
          Compare {number(analysing.of)} entries
        </button>
      );
    case "failed":
      return (
        <span class="muted small" title={analysing.error.message}>
          layers can't be compared
        </span>
      );
    default:
      return null;
  }
}

/** Renders its children once the layers are compared, and the progress until then. */
function Needs({ analysing, children }: { analysing: Analysing; children: (ready: Analyser) => ComponentChildren }) {
  switch (analysing.state) {
    case "done":
      return <>{children(analysing.analyser)}</>;
    case "failed":
      return (
        <div class="pad">
          <Failed error={analysing.error} again={analysing.begin} />
        </div>
      );
    case "working":
      return (
        <Waiting
          what={
            analysing.of > 0
              ? `Reading tables of contents: ${number(analysing.entries)} of ${plural(analysing.of, "entry", "entries")}`
              : "Reading tables of contents"
          }
          progress={analysing.progress}
        />
      );
    default:
      return <Waiting what="Reading tables of contents" />;
  }
}

const RESULTS = 1000;

function Results({
  analyser,
  find,
  only,
  address,
}: {
  analyser: Analyser;
  find: string;
  only: number | undefined;
  address: (path: string) => string;
}) {
  const of = useLoad(
    async () =>
      (await analyser.search(find, RESULTS)).filter(({ layerIndex }) => only === undefined || layerIndex === only),
    [find, only],
  );
  const height = useRowHeight();
  if (of.error) return <Failed error={of.error} />;
  const found = of.value;
  if (!found) return <Waiting what="Searching" />;
  if (found.length === 0) return <p class="notice">No path contains “{find}”.</p>;
  return (
    <>
      <p class="muted small pad-line" role="status">
        {found.length === RESULTS ? `the first ${number(RESULTS)} paths` : plural(found.length, "path")} with “{find}”
      </p>
      <Rows
        class="files results"
        role="list"
        aria-label="Search results"
        tabIndex={0}
        count={found.length}
        height={height}
        row={(index, style) => {
          const one = found[index];
          if (!one) return null;
          const path = one.pathEncoded ?? one.path.split("/").map(encode).join("/");
          return (
            <div role="listitem" key={`${index}`} class="file" style={style}>
              <span class="what pad-left">
                <Icon name={iconOf(one.entry)} />
                <a href={address(one.entry.type === "directory" ? `${path.replace(/\/$/, "")}/` : path)}>
                  <Name text={one.path} encoded={one.pathEncoded} />
                </a>
              </span>
              <span class="figure">{sizeOf(one.entry)}</span>
              <span class="from">
                <Stratum index={one.layerIndex} /> {one.layerIndex + 1}
              </span>
            </div>
          );
        }}
      />
    </>
  );
}

function Waste({
  analyser,
  layers,
  address,
}: {
  analyser: Analyser;
  layers: Browsed["layers"];
  address: (path: string) => string;
}) {
  const { analysis } = analyser;
  const most = Math.max(1, ...analysis.changes.map(({ bytes: size }) => size));
  return (
    <div class="waste">
      <dl class="scores">
        <div>
          <dt>Efficiency</dt>
          <dd>{(analysis.efficiency * 100).toFixed(1)} %</dd>
        </div>
        <div>
          <dt>Wasted</dt>
          <dd>{bytes(analysis.wastedBytes)}</dd>
        </div>
        <div>
          <dt>Entries</dt>
          <dd>{number(analysis.entries)}</dd>
        </div>
      </dl>
      <p class="muted small">
        Wasted: the bytes of all paths that more than one layer writes or removes. Efficiency: the fewest bytes that the
        image needs, divided by the bytes of its layers, as dive computes it.
      </p>
      <h2>Layers</h2>
      <table class="list">
        <thead>
          <tr>
            <th>Layer</th>
            <th class="figure">Added</th>
            <th class="figure">Changed</th>
            <th class="figure">Removed</th>
            <th class="figure">Bytes</th>
            <th class="wide share-of">
              <span class="visually-hidden">Share</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {analysis.changes.map((change, index) => (
            <tr key={index}>
              <th scope="row">
                <Stratum index={index} /> {index + 1}{" "}
                <span class="muted wide">{layers[index]?.digest.slice(7, 19)}</span>
              </th>
              <td class="figure">{number(change.added)}</td>
              <td class="figure">{number(change.changed)}</td>
              <td class="figure">{number(change.removed)}</td>
              <td class="figure">{bytes(change.bytes)}</td>
              <td class="wide share-of">
                <span class={`share-bar stratum-${index % 8}`} style={{ width: `${(100 * change.bytes) / most}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <h2>Wasted paths</h2>
      {analysis.offenders.length === 0 ? (
        <p class="muted">None: no layer overwrites or removes a file of another one.</p>
      ) : (
        <table class="list">
          <thead>
            <tr>
              <th>Path</th>
              <th class="figure">Times</th>
              <th class="figure">Bytes</th>
            </tr>
          </thead>
          <tbody>
            {analysis.offenders.slice(0, 200).map(({ path, pathEncoded, times, bytes: size }) => (
              <tr key={pathEncoded ?? path}>
                <th scope="row">
                  <a
                    href={address(
                      `${(pathEncoded ?? path.split("/").map(encode).join("/")).split("/").slice(0, -1).join("/")}/`.replace(
                        /^\/$/,
                        "",
                      ),
                    )}
                  >
                    <Name text={path} encoded={pathEncoded} />
                  </a>
                </th>
                <td class="figure">{number(times)}</td>
                <td class="figure">{bytes(size)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
