// A document as JSON, in which digests are links.

import type { VNode } from "preact";

import { Copy } from "./parts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Shows a document. `link` returns the address of a digest, by the object that contains it. */
export function Document({
  of,
  link,
  label,
}: {
  of: unknown;
  link: (digest: string, within: Record<string, unknown>) => string | undefined;
  label: string;
}) {
  return (
    <div class="json">
      <pre tabIndex={0} role="group" aria-label={label}>
        {write(of as Json, "", {}, link)}
      </pre>
      <Copy text={JSON.stringify(of, null, 2)} label={`Copy ${label}`} />
    </div>
  );
}

type Part = VNode | string | Part[];

function write(
  of: Json,
  indent: string,
  within: Record<string, unknown>,
  link: (digest: string, within: Record<string, unknown>) => string | undefined,
): Part {
  if (Array.isArray(of)) {
    if (of.length === 0) return "[]";
    const deeper = `${indent}  `;
    return [
      "[\n",
      ...of.map((one, index): Part => [deeper, write(one, deeper, within, link), index < of.length - 1 ? ",\n" : "\n"]),
      indent,
      "]",
    ];
  }
  if (of !== null && typeof of === "object") {
    const entries = Object.entries(of);
    if (entries.length === 0) return "{}";
    const deeper = `${indent}  `;
    return [
      "{\n",
      ...entries.map(
        ([key, value], index): Part => [
          deeper,
          <span class="key">{JSON.stringify(key)}</span>,
          ": ",
          write(value, deeper, of, link),
          index < entries.length - 1 ? ",\n" : "\n",
        ],
      ),
      indent,
      "}",
    ];
  }
  if (typeof of === "string") {
    const to = DIGEST.test(of) ? link(of, within) : undefined;
    const text = JSON.stringify(of);
    return to ? <a href={to}>{text}</a> : <span class="string">{text}</span>;
  }
  return <span class="literal">{String(of)}</span>;
}

const DIGEST = /^[a-z0-9]+:[0-9a-f]{32,}$/;
