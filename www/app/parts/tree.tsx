// Files as a tree that loads a directory when it is opened. Its keys are those of any tree.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

import { Problem } from "../api";
import { age, bytes, day, moment, permissions } from "../format";
import { encode } from "../route";
import type { Entry } from "../source";
import { Icon, type IconName, Name, Stratum } from "./parts";
import { Rows, type Scroller } from "./virtual";

export type State = "added" | "changed" | "removed" | "unchanged";

/** A file, with its history if it is known. */
export interface Child extends Entry {
  state?: State;
  layerIndex?: number;
  /** Of a directory: the bytes of all files below it. */
  totalSize?: number;
}

export interface Shelf {
  /** Identifies the files, whatever the source that they are read from. */
  id: string;
  /** Changes when the source does: directories that were loaded before are then stale. */
  turn: string;
  children(
    directory: string,
    after: string | undefined,
    signal: AbortSignal,
  ): Promise<{ children: Child[]; next?: string | undefined }>;
}

interface Opened {
  turn: string;
  children: Child[];
  next?: string | undefined;
  error?: Problem;
  busy?: boolean;
}

interface Kept {
  opened: Map<string, Opened>;
  open: Set<string>;
  offset: number;
}

/** The state of the last trees, so that the way back finds their directories open. */
const kept = new Map<string, Kept>();

interface Row {
  path: string;
  depth: number;
  child?: Child;
  /** Shown in place of entries: more to load, loading, an empty directory, or an error. */
  say?: "more" | "busy" | "empty" | Problem;
}

export type Sort = "name" | "size";

export function pathOf(directory: string, child: Entry): string {
  return directory + (child.nameEncoded ?? encode(child.name)) + (child.type === "directory" ? "/" : "");
}

/** Directories above a path, the root first. */
export function above(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(0, -1).map((_, index) => `${parts.slice(0, index + 1).join("/")}/`);
}

export function Tree({
  shelf,
  reveal,
  sort,
  label,
  address,
  onOpen,
}: {
  shelf: Shelf;
  /** The path to scroll to at first. */
  reveal: string;
  sort: Sort;
  label: string;
  address: (path: string) => string;
  onOpen: (directory: string) => void;
}) {
  const state = useMemo(() => {
    const found = kept.get(shelf.id) ?? { opened: new Map(), open: new Set([""]), offset: 0 };
    kept.set(shelf.id, found);
    // Keep the eight newest trees.
    for (const id of [...kept.keys()].slice(0, -8)) kept.delete(id);
    return found;
  }, [shelf.id]);
  const [turn, redraw] = useReducer((count: number) => count + 1, 0);
  const [active, setActive] = useState<string>(reveal);
  const handle = useRef<Scroller>(undefined);
  const controller = useMemo(() => new AbortController(), [shelf.id, shelf.turn]);
  useEffect(() => () => controller.abort(), [controller]);

  const load = async (directory: string, all: boolean) => {
    const before = state.opened.get(directory);
    if (before?.busy) return;
    const fresh = before?.turn === shelf.turn && !before.error;
    const opened: Opened = fresh
      ? { ...before, busy: true }
      : { turn: shelf.turn, children: before?.children ?? [], busy: true };
    state.opened.set(directory, opened);
    redraw(undefined);
    try {
      let { children, next } = fresh ? opened : { children: [] as Child[], next: undefined as string | undefined };
      do {
        const page = await shelf.children(directory, next, controller.signal);
        children = children.concat(page.children);
        next = page.next;
      } while (all && next);
      state.opened.set(directory, { turn: shelf.turn, children, next });
    } catch (error) {
      if (controller.signal.aborted) {
        if (before) state.opened.set(directory, { ...before, busy: false });
        else state.opened.delete(directory);
        // Redraw, which loads the directory again from the current shelf.
        redraw(undefined);
        return;
      }
      state.opened.set(directory, {
        ...opened,
        busy: false,
        error: error instanceof Problem ? error : new Problem(String(error)),
      });
    }
    redraw(undefined);
  };
  const directories = [...state.open];
  useEffect(() => {
    for (const directory of directories) {
      const opened = state.opened.get(directory);
      // To sort by size, load all pages. To sort by name, load the pages in sight.
      if (
        !opened ||
        (opened.turn !== shelf.turn && !opened.busy) ||
        (sort === "size" && opened.next && !opened.busy && !opened.error)
      )
        void load(directory, sort === "size");
    }
  }, [shelf.turn, sort, turn]);

  const rows = useMemo(() => {
    const all: Row[] = [];
    const add = (directory: string, depth: number) => {
      const opened = state.opened.get(directory);
      if (!opened) return void all.push({ path: `${directory}?`, depth, say: "busy" });
      for (const child of sorted(opened.children, sort)) {
        const path = pathOf(directory, child);
        all.push({ path, depth, child });
        if (child.type === "directory" && state.open.has(path)) add(path, depth + 1);
      }
      if (opened.error) all.push({ path: `${directory}?`, depth, say: opened.error });
      else if (opened.next) all.push({ path: `${directory}?`, depth, say: "more" });
      else if (opened.children.length === 0)
        all.push({ path: `${directory}?`, depth, say: opened.busy ? "busy" : "empty" });
    };
    add("", 0);
    return all;
  }, [turn, sort, shelf.turn, state]);

  const at = useMemo(
    () =>
      Math.max(
        0,
        rows.findIndex(({ path }) => path === active),
      ),
    [rows, active],
  );
  // Scroll to the path of the address once. A tree that was shown before keeps its scroll position.
  const wanted = useRef<string | undefined>(state.offset > 0 ? undefined : reveal);
  useEffect(() => {
    for (const directory of above(reveal)) state.open.add(directory);
    if (reveal !== active) {
      setActive(reveal);
      wanted.current = reveal;
    }
    redraw(undefined);
  }, [reveal]);
  useEffect(() => {
    const index = wanted.current ? rows.findIndex(({ path }) => path === wanted.current) : -1;
    if (index < 0) return;
    wanted.current = undefined;
    handle.current?.scrollTo(index);
  }, [rows]);

  const toggle = (path: string, open = !state.open.has(path)) => {
    if (open) {
      state.open.add(path);
      onOpen(path);
    } else state.open.delete(path);
    setActive(path);
    redraw(undefined);
  };
  const move = (index: number) => {
    const next = Math.min(rows.length - 1, Math.max(0, index));
    setActive(rows[next]?.path ?? "");
    handle.current?.scrollTo(next);
  };
  const key = (event: KeyboardEvent) => {
    const row = rows[at];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const isDirectory = row.child?.type === "directory";
    const isOpen = state.open.has(row.path);
    const actions: Record<string, () => void> = {
      ArrowDown: () => move(at + 1),
      ArrowUp: () => move(at - 1),
      PageDown: () => move(at + 20),
      PageUp: () => move(at - 20),
      Home: () => move(0),
      End: () => move(rows.length - 1),
      ArrowRight: () => (isDirectory && !isOpen ? toggle(row.path, true) : isDirectory && move(at + 1)),
      ArrowLeft: () =>
        isDirectory && isOpen
          ? toggle(row.path, false)
          : move(rows.findLastIndex(({ depth }, index) => index < at && depth < row.depth)),
      Enter: () => {
        if (row.say === "more") void load(row.path.slice(0, -1), false);
        else if (isDirectory) toggle(row.path);
        else if (row.child && row.child.state !== "removed") location.hash = address(row.path);
      },
      " ": () => isDirectory && toggle(row.path),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };

  const height = useRowHeight();
  return (
    <Rows
      class="files"
      count={rows.length}
      height={height}
      handle={handle}
      start={state.offset}
      role="treegrid"
      aria-label={label}
      aria-rowcount={rows.length + 1}
      aria-activedescendant={rows[at] ? `row-${at}` : undefined}
      tabIndex={0}
      onKeyDown={key}
      onScroll={(offset, last) => {
        state.offset = offset;
        // Load the next page of each directory whose end is in sight.
        for (let index = last; index > last - 30; index -= 1) {
          const row = rows[index];
          if (row?.say === "more" && !state.opened.get(row.path.slice(0, -1))?.busy)
            void load(row.path.slice(0, -1), false);
        }
      }}
      head={
        <div role="row" aria-rowindex={1} class="file head-row">
          <span role="columnheader">Name</span>
          <span role="columnheader" class="figure">
            Size
          </span>
          <span role="columnheader" class="wide">
            Mode
          </span>
          <span role="columnheader" class="wide">
            Owner
          </span>
          <span role="columnheader" class="wide">
            Modified
          </span>
          <span role="columnheader" class="wide">
            Layer
          </span>
        </div>
      }
      row={(index, style) => {
        const row = rows[index];
        if (!row) return null;
        const { path, depth, child, say } = row;
        const common = {
          id: `row-${index}`,
          key: path,
          "aria-rowindex": index + 2,
          "aria-level": depth + 1,
          style,
        };
        if (!child) {
          return (
            <div {...common} role="row" class={index === at ? "file note active" : "file note"}>
              <span role="gridcell" style={{ paddingLeft: `${16 + depth * 18 + 22}px` }}>
                {say instanceof Problem ? say.message : say === "empty" ? "empty" : say === "more" ? "more …" : "…"}
              </span>
            </div>
          );
        }
        const isDirectory = child.type === "directory";
        const isOpen = state.open.has(path);
        const classes = ["file", index === at && "active", child.state === "removed" && "removed"]
          .filter(Boolean)
          .join(" ");
        return (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the tree handles the keys
          <div
            {...common}
            role="row"
            class={classes}
            aria-expanded={isDirectory ? isOpen : undefined}
            aria-selected={index === at}
            onClick={() => (isDirectory ? toggle(path) : setActive(path))}
          >
            <span role="gridcell" class="what" style={{ paddingLeft: `${16 + depth * 18}px` }}>
              <span class="turn" aria-hidden="true">
                {isDirectory ? (isOpen ? "▾" : "▸") : ""}
              </span>
              <Icon name={iconOf(child)} />
              {isDirectory || child.state === "removed" ? (
                <Name text={child.name} encoded={child.nameEncoded} />
              ) : (
                <a href={address(path)} tabIndex={-1} draggable={false}>
                  <Name text={child.name} encoded={child.nameEncoded} />
                </a>
              )}
              {child.link !== undefined && (
                <span class="muted target">
                  {child.type === "hardlink" ? "= " : "→ "}
                  <Name text={child.link} encoded={child.linkEncoded} />
                </span>
              )}
              <Change child={child} />
            </span>
            <span role="gridcell" class="figure">
              {isDirectory ? (
                child.totalSize === undefined ? (
                  ""
                ) : (
                  <span class="muted">{bytes(child.totalSize)}</span>
                )
              ) : (
                sizeOf(child)
              )}
            </span>
            <Details child={child} />
          </div>
        );
      }}
    />
  );
}

function Details({ child }: { child: Child }) {
  // A directory that no layer has an entry for has no owner and no time.
  const is = child.mode !== undefined;
  const date = moment(child.modified);
  return (
    <>
      <span role="gridcell" class="wide">
        <code>{is ? permissions(child.type, child.mode) : ""}</code>
      </span>
      <span role="gridcell" class="wide owner" title={is ? `${child.uid}:${child.gid}` : undefined}>
        {is && <Name text={`${child.user || child.uid}:${child.group || child.gid}`} />}
      </span>
      <span role="gridcell" class="wide" title={date ? age(date) : undefined}>
        {date ? day(date) : ""}
      </span>
      <span role="gridcell" class="wide from">
        {child.layerIndex !== undefined && (
          <>
            <Stratum index={child.layerIndex} /> {child.layerIndex + 1}
          </>
        )}
      </span>
    </>
  );
}

const CHANGES = { added: "+", changed: "~", removed: "−" } as const;

/**
 * The change of a file by a layer. Everything in the first layer is added, so that is not shown.
 */
export function Change({ child }: { child: Child }): ComponentChildren {
  if (!child.state || child.state === "unchanged" || (child.state === "added" && !child.layerIndex)) return null;
  return (
    <span class={`change ${child.state}`} title={`${child.state} by layer ${(child.layerIndex ?? 0) + 1}`}>
      {CHANGES[child.state]} <span class={child.state === "added" ? "visually-hidden" : undefined}>{child.state}</span>
    </span>
  );
}

export function iconOf(child: Entry): IconName {
  switch (child.type) {
    case "directory":
      return "directory";
    case "symlink":
    case "hardlink":
      return "link";
    case "char":
    case "block":
    case "fifo":
      return "device";
    default:
      return "file";
  }
}

function sorted(children: Child[], sort: Sort): Child[] {
  if (sort === "name") return children;
  const weight = (child: Child) => (child.type === "directory" ? (child.totalSize ?? 0) : child.size);
  return children.toSorted((one, other) => weight(other) - weight(one));
}

/** Returns the size of a file or a hard link; other entries have none. */
export function sizeOf(entry: Entry): string {
  return entry.type === "file" || entry.type === "hardlink" ? bytes(entry.size) : "";
}

/** Returns the height of a row in pixels: more on narrow screens, for fingers. */
export function useRowHeight(): number {
  const [coarse] = useState(() => matchMedia("(max-width: 720px)").matches);
  return coarse ? 38 : 28;
}
