// A blob that is not a layer, shown as a file.

import { useMemo } from "preact/hooks";

import { Copy } from "../parts/parts";
import type { Query, Route } from "../route";
import { BlobFile } from "../source";
import { Content, type Shown } from "./file";

export function BlobView({ name, digest, query }: { name: string; digest: string; query: Query }) {
  const of = useMemo((): Shown => {
    const address = `/v2/${name}/blobs/${digest}`;
    return {
      id: `${name} ${digest}`,
      source: new BlobFile(address),
      address: () => address,
      route: (): Route => ({ view: "blob", name, digest }),
    };
  }, [name, digest]);
  return (
    <main class="view full" id="content" tabIndex={-1}>
      <div class="bar">
        <h1 class="small-title">
          <code>{digest}</code>
        </h1>
        <Copy text={digest} label="Copy the digest" />
        {query.type && <span class="muted wide">{query.type}</span>}
      </div>
      <Content of={of} path="" name={digest.slice(0, 19)} query={query} keep={{ type: query.type }} />
    </main>
  );
}
