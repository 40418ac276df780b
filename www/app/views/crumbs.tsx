// The files that a view shows, and a path in them with a link for each part.

import type { Analysable } from "../analysis";
import { Name } from "../parts/parts";
import type { Route } from "../route";
import type { Source } from "../source";

export interface Browsed {
  id: string;
  title: string;
  source: Source;
  layers: { digest: string; size: number }[];
  /** The index of the layer, if only one is shown. */
  only?: number | undefined;
  analysable?: Analysable | undefined;
  /** Returns the address of a file on the registry. A layer from disk has none. */
  address?: ((path: string) => string) | undefined;
  route: (path: string) => Route;
}

export function Crumbs({ path, address }: { path: string; address: (path: string) => string }) {
  const parts = path.split("/").filter(Boolean);
  return (
    <nav class="path" aria-label="Path">
      <a href={address("")}>/</a>
      {parts.map((part, index) => {
        const last = index === parts.length - 1;
        const to = `${parts.slice(0, index + 1).join("/")}${last && !path.endsWith("/") ? "" : "/"}`;
        const text = textOf(part);
        return (
          <span key={index}>
            {last ? (
              <strong>
                <Name text={text ?? part} encoded={text === undefined ? part : undefined} />
              </strong>
            ) : (
              <a href={address(to)}>
                <Name text={text ?? part} encoded={text === undefined ? part : undefined} />
              </a>
            )}
            {(!last || path.endsWith("/")) && <span class="muted">/</span>}
          </span>
        );
      })}
    </nav>
  );
}

/** Returns a percent-encoded name as text, or `undefined` if it is not UTF-8. */
export function textOf(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}
