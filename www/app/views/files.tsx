// Files of an image on the registry: all layers merged, or one of them.

import { useEffect, useMemo, useState } from "preact/hooks";

import { layersOf } from "../analysis";
import { look } from "../activity";
import { Problem, type Progress } from "../api";
import { chosen, isIndex, isImage, list, manifest } from "../documents";
import { bytes, short } from "../format";
import { useLoad } from "../load";
import { Failed, Waiting } from "../parts/parts";
import { go, type Query, type Route } from "../route";
import { Remote } from "../source";
import { Browse } from "./browse";
import type { Browsed } from "./crumbs";

export function Files({
  name,
  reference,
  path,
  query,
}: {
  name: string;
  reference: string;
  path: string;
  query: Query;
}) {
  const of = useLoad(
    async (signal) => {
      const top = await manifest(name, reference, signal);
      const child = isIndex(top) ? chosen(top, query.platform) : undefined;
      if (isIndex(top) && !child) throw new Problem("this index has no image: open its manifests");
      const image = child ? await manifest(name, child.digest, signal) : top;
      if (!isImage(image)) throw new Problem("this is not an image and has no files: open its manifest");
      return image;
    },
    [name, reference, query.platform],
  );
  const [progress, setProgress] = useState<Progress>();
  const image = of.value;
  const layers = useMemo(() => list(image?.document.layers).map(({ digest, size }) => ({ digest, size })), [image]);
  const only = query.layer ? layers.findIndex(({ digest }) => digest === query.layer) : undefined;
  useEffect(() => look(only !== undefined && only >= 0 ? layers.slice(only, only + 1) : layers), [layers, only]);
  const browsed = useMemo((): Browsed | undefined => {
    if (!image) return undefined;
    // By digest, so that the browser can cache the replies.
    const place =
      only === undefined
        ? `/v2/${name}/_strata/images/${image.digest}/files/`
        : `/v2/${name}/_strata/layers/${query.layer}/files/`;
    const source = new Remote(place, {}, setProgress);
    return {
      id: `${name} ${image.digest} ${query.layer ?? ""}`,
      title: `${name} ${reference}`,
      source,
      layers,
      only,
      analysable: layersOf(name, layers),
      address: (at) => source.address(at),
      route: (at): Route => ({ view: "files", name, reference, path: at }),
    };
  }, [image, query.layer, name, reference]);
  if (of.error || only === -1) {
    return (
      <main class="view" id="content" tabIndex={-1}>
        <Failed error={of.error ?? new Problem("this image has no such layer: choose another one")} again={of.again} />
      </main>
    );
  }
  if (!browsed) {
    return (
      <main class="view" id="content" tabIndex={-1}>
        <Waiting what="Loading the manifest" />
      </main>
    );
  }
  const choose = (layer: string) =>
    go(
      { view: "files", name, reference, path: "" },
      { platform: query.platform, layer: layer || undefined, view: query.view },
    );
  return (
    <Browse of={browsed} path={path} query={query}>
      <select aria-label="Layer" value={query.layer ?? ""} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">all layers, merged</option>
        {layers.map(({ digest, size }, index) => (
          <option key={`${index}`} value={digest}>
            layer {index + 1}, {bytes(size)}
          </option>
        ))}
      </select>
      {progress && <IndexingLine progress={progress} done={() => setProgress(undefined)} />}
    </Browse>
  );
}

/** Shown while the registry indexes a layer. */
function IndexingLine({ progress, done }: { progress: Progress; done: () => void }) {
  useEffect(() => {
    // Progress arrives every second or so. If it stops, indexing is over.
    const timer = setTimeout(done, 3000);
    return () => clearTimeout(timer);
  }, [progress]);
  return (
    <span class="indexing" role="status">
      <span class="small muted">
        the registry is indexing layer <code>{short(progress.digest)}</code>, {bytes(progress.read)} of{" "}
        {bytes(progress.size)}
      </span>
      <progress max={progress.size} value={progress.read} aria-label="layer indexed" />
    </span>
  );
}
