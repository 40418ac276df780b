// A virtual list: only the rows in sight are in the document.

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { ComponentChildren, HTMLAttributes, RefObject } from "preact";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";

export interface Scroller {
  scrollTo(index: number): void;
}

/** Rows of one height in pixels. `row` renders those in sight; `handle` scrolls to one. */
export function Rows({
  count,
  height,
  row,
  handle,
  head,
  start = 0,
  onScroll,
  ...rest
}: {
  count: number;
  height: number;
  row: (index: number, style: { height: string; transform: string }) => ComponentChildren;
  handle?: RefObject<Scroller | undefined>;
  head?: ComponentChildren;
  start?: number;
  onScroll?: (offset: number, last: number) => void;
} & Omit<HTMLAttributes<HTMLDivElement>, "onScroll">) {
  const element = useRef<HTMLDivElement>(null);
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const options = {
    count,
    estimateSize: () => height,
    getScrollElement: () => element.current,
    overscan: 12,
    initialOffset: start,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw(undefined),
  };
  const [virtual] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options));
  virtual.setOptions({ ...virtual.options, ...options });
  useLayoutEffect(() => virtual._didMount(), []);
  useLayoutEffect(() => virtual._willUpdate());
  if (handle) handle.current = { scrollTo: (index) => virtual.scrollToIndex(index, { align: "auto" }) };
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? -1;
  useLayoutEffect(() => onScroll?.(virtual.scrollOffset ?? 0, last), [virtual.scrollOffset, last]);
  return (
    <div ref={element} {...rest}>
      {head}
      <div role="presentation" class="rows" style={{ height: `${virtual.getTotalSize()}px` }}>
        {items.map(({ index, start: offset }) =>
          row(index, { height: `${height}px`, transform: `translateY(${offset}px)` }),
        )}
      </div>
    </div>
  );
}
