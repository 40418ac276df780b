// A file: text with line numbers, a picture, or bytes. A large one is fetched by windows.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { open, Problem, problem, session } from "../api";
import { age, bytes, day, moment, number, permissions } from "../format";
import { type Line, languageOf, linesOf, paint } from "../highlight";
import { useLoad } from "../load";
import { Failed, Icon, Name, Waiting } from "../parts/parts";
import { Rows } from "../parts/virtual";
import { go, href, type Query, type Route } from "../route";
import type { Entry, Source } from "../source";
import { useStore } from "../store";
import { type Browsed, Crumbs, textOf } from "./crumbs";

/** The size of a window in bytes: it is fetched and shown at a time. */
const WINDOW = 128 * 1024;
/** The largest picture that is shown, in bytes: it is fetched whole. */
const PICTURE = 16 * 1024 * 1024;

export interface Shown {
  id: string;
  source: Pick<Source, "read">;
  address?: ((path: string) => string) | undefined;
  route: (path: string) => Route;
}

type Kind = "text" | "picture" | "bytes";

export function File({ of, path, query, keep }: { of: Browsed; path: string; query: Query; keep: Query }) {
  const entry = useLoad((signal) => entryOf(of.source, path, signal), [of.id, path]);
  const directory = `${path.split("/").slice(0, -1).join("/")}/`.replace(/^\/$/, "");
  return (
    <main class="view full" id="content" tabIndex={-1}>
      <h1 class="visually-hidden">{textOf(path.split("/").at(-1) ?? "") ?? path}</h1>
      <div class="bar">
        <Crumbs path={path} address={(to) => href(of.route(to), keep)} />
        <a class="button quiet-button" href={href(of.route(directory), keep)}>
          Directory
        </a>
      </div>
      {entry.value && <About entry={entry.value} layers={of.layers} />}
      <Content of={of} path={path} name={textOf(path.split("/").at(-1) ?? "") ?? path} query={query} keep={keep} />
    </main>
  );
}

function About({ entry, layers }: { entry: Entry; layers: Browsed["layers"] }) {
  const date = moment(entry.modified);
  const layer = entry.layer ? layers.findIndex(({ digest }) => digest === entry.layer) : -1;
  return (
    <p class="about">
      <code>{permissions(entry.type, entry.mode)}</code>
      <span>
        <Name text={`${entry.user || entry.uid}:${entry.group || entry.gid}`} />
      </span>
      {date && <span title={age(date)}>{day(date)}</span>}
      {layer >= 0 && <span>layer {layer + 1}</span>}
      {entry.link !== undefined && (
        <span>
          {entry.type === "hardlink" ? "hard link to " : "link to "}
          <Name text={entry.link} encoded={entry.linkEncoded} />
        </span>
      )}
    </p>
  );
}

/**
 * Returns a file's entry in its directory. It lists one entry after a name just before the file's.
 */
async function entryOf(source: Source, path: string, signal: AbortSignal): Promise<Entry | undefined> {
  const at = path.lastIndexOf("/") + 1;
  const [directory, encoded] = [path.slice(0, at), path.slice(at)];
  if (!("address" in source)) return undefined;
  const name = bytesOf(encoded);
  const last = name.at(-1) ?? 0;
  const before = [...name.subarray(0, -1), ...(last > 0 ? [last - 1, 0xff, 0xff] : [])];
  // Encode only the bytes that need it: the length of an address is limited.
  const plain = (byte: number) => /[\w.~-]/.test(String.fromCharCode(byte));
  const text = before
    .map((byte) => (plain(byte) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`))
    .join("");
  const { address } = source as Source & { address(path: string, query?: Record<string, string>): string };
  const asked = address.call(source, directory, { n: "1" });
  const { children } = await source.list(directory, before.length > 0 ? `${asked}&last=${text}` : asked, signal);
  return children.find((child) => same(bytesOf(child.nameEncoded ?? encodeURIComponent(child.name)), name));
}

function bytesOf(encoded: string): Uint8Array {
  const found: number[] = [];
  for (let at = 0; at < encoded.length; at += 1) {
    if (encoded[at] === "%") {
      found.push(Number.parseInt(encoded.slice(at + 1, at + 3), 16));
      at += 2;
    } else found.push(encoded.charCodeAt(at));
  }
  return Uint8Array.from(found);
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

export function Content({
  of,
  path,
  name,
  query,
  keep,
}: {
  of: Shown;
  path: string;
  name: string;
  query: Query;
  keep: Query;
}) {
  const asked = Math.max(0, Math.floor(Number(query.at) || 0));
  const from = asked - (asked % WINDOW);
  const read = useLoad((signal) => of.source.read(path, from, from + WINDOW, signal), [of.id, path, from]);
  const known = useRef<{ size: number; kind: Kind }>(undefined);
  const numbers = useRef(new Map<number, number>([[0, 1]]));
  if (read.value && !known.current)
    known.current = { size: read.value.size, kind: kindOf(name, read.value.bytes, read.value.size) };
  if (read.error) {
    return (
      <div class="pad">
        <Failed error={read.error} again={read.again} />
      </div>
    );
  }
  const size = read.value?.size ?? known.current?.size;
  if (size === undefined || !known.current) return <Waiting what="Reading" progress={read.progress} />;
  const kind: Kind = query.as === "bytes" || query.as === "text" ? query.as : known.current.kind;
  const whole = size <= WINDOW;
  const canFormat = kind === "text" && whole && isJson(name, query.type);
  const formatted = canFormat && query.as !== "text";
  const turn = (more: Query) =>
    go(of.route(path), { ...keep, type: query.type, as: query.as, at: query.at, ...more }, true);
  return (
    <>
      <div class="bar second">
        <span class="muted">
          {bytes(size)}
          {size >= 1000 && <span class="wide">, {number(size)} bytes</span>}
        </span>
        <span class="spring" />
        <select
          aria-label="Show as"
          value={query.as ?? ""}
          onChange={(event) => turn({ as: event.currentTarget.value })}
        >
          <option value="">
            {canFormat
              ? "formatted"
              : { text: "text (detected)", picture: "picture", bytes: "bytes (detected)" }[known.current.kind]}
          </option>
          <option value="text">text</option>
          <option value="bytes">bytes</option>
        </select>
        <Download of={of} path={path} name={name} size={size} />
      </div>
      {size === 0 && <p class="notice">The file is empty.</p>}
      {size > 0 && !read.value && <Waiting what="Reading" progress={read.progress} />}
      {size > 0 && read.value && kind === "picture" && <Picture of={of} path={path} name={name} size={size} />}
      {size > 0 && read.value && kind === "text" && (
        <Text
          key={from}
          bytes={read.value.bytes}
          name={name}
          from={from}
          size={size}
          formatted={formatted}
          numbers={numbers.current}
        />
      )}
      {size > 0 && read.value && kind === "bytes" && <Hex key={from} bytes={read.value.bytes} from={from} />}
      {!whole && kind !== "picture" && (
        <Windows from={from} size={size} onTurn={(at) => turn({ at: at > 0 ? String(at) : undefined })} />
      )}
    </>
  );
}

function isJson(name: string, type: string | undefined): boolean {
  return /\.(json|webmanifest|jsonld)$/i.test(name) || /[/+]json$/.test(type ?? "");
}

const SVG = "image/svg+xml";
const BYTES = "application/octet-stream";

const PICTURES: [string, (head: Uint8Array) => boolean][] = [
  ["image/png", (head) => starts(head, [0x89, 0x50, 0x4e, 0x47])],
  ["image/jpeg", (head) => starts(head, [0xff, 0xd8, 0xff])],
  ["image/gif", (head) => starts(head, [0x47, 0x49, 0x46, 0x38])],
  [
    "image/webp",
    (head) => starts(head, [0x52, 0x49, 0x46, 0x46]) && starts(head.subarray(8), [0x57, 0x45, 0x42, 0x50]),
  ],
  ["image/avif", (head) => starts(head.subarray(4), [0x66, 0x74, 0x79, 0x70, 0x61, 0x76, 0x69, 0x66])],
  ["image/x-icon", (head) => starts(head, [0, 0, 1, 0])],
  ["image/bmp", (head) => starts(head, [0x42, 0x4d]) && starts(head.subarray(6), [0, 0, 0, 0])],
];

function starts(head: Uint8Array, with_: number[]): boolean {
  return with_.every((byte, index) => head[index] === byte);
}

function pictureOf(name: string, head: Uint8Array): string | undefined {
  const found = PICTURES.find(([, is]) => is(head))?.[0];
  return found ?? (/\.svg$/i.test(name) && isText(head) ? SVG : undefined);
}

function kindOf(name: string, head: Uint8Array, size: number): Kind {
  if (size <= PICTURE && pictureOf(name, head)) return "picture";
  return isText(head) ? "text" : "bytes";
}

/**
 * Whether it is UTF-8 without control characters of binary files. The last character may be cut.
 */
function isText(head: Uint8Array): boolean {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a text has none of them
    return !/[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text);
  } catch {
    return false;
  }
}

function Text({
  bytes: of,
  name,
  from,
  size,
  formatted,
  numbers,
}: {
  bytes: Uint8Array;
  name: string;
  from: number;
  size: number;
  formatted: boolean;
  numbers: Map<number, number>;
}) {
  const text = useMemo(() => {
    // A character that two windows share is shown in neither, because both have only a part of it.
    let [start, end] = [0, of.length];
    if (from > 0) while (start < 4 && ((of[start] ?? 0) & 0xc0) === 0x80) start += 1;
    if (from + end < size) {
      let back = 1;
      while (back <= 4 && ((of[end - back] ?? 0) & 0xc0) === 0x80) back += 1;
      if (back <= 4 && (of[end - back] ?? 0) >= 0xc0) end -= back;
    }
    const plain = new TextDecoder().decode(of.subarray(start, end));
    if (!formatted) return plain;
    try {
      return JSON.stringify(JSON.parse(plain), null, 2);
    } catch {
      return plain;
    }
  }, [of, formatted]);
  const plain = useMemo(() => linesOf(text), [text]);
  const [lines, setLines] = useState<Line[]>(plain);
  useEffect(() => {
    let gone = false;
    setLines(plain);
    const language = formatted ? "json" : languageOf(name, text);
    if (language) void paint(text, language).then((painted) => !gone && painted && setLines(painted));
    return () => {
      gone = true;
    };
  }, [text]);
  const first = numbers.get(from);
  const breaks = plain.reduce((count, { starts: is }) => count + (is ? 1 : 0), 0);
  if (first !== undefined) numbers.set(from + WINDOW, first + breaks - (text.endsWith("\n") ? 0 : 1));
  const offsets = useMemo(() => numbersOf(plain, first, from), [plain, first, from]);
  const width = `${Math.max(4, ...[offsets.at(-1)?.length ?? 0]) + 2}ch`;
  return (
    <Rows
      class="text"
      role="region"
      aria-label="Text"
      tabIndex={0}
      count={lines.length}
      height={20}
      row={(index, style) => {
        const line = lines[index];
        return (
          <div key={index} class="line" style={style}>
            <span class="gutter" style={{ width }}>
              {offsets[index]}
            </span>
            <code>
              {line?.parts.map(({ text: part, scope }, at) =>
                scope ? <span key={at} class={`hl-${scope.split(".")[0]}`} children={part} /> : part,
              )}
            </code>
          </div>
        );
      }}
    />
  );
}

/** Returns line numbers if the number of the first line is known, and otherwise byte offsets. */
function numbersOf(lines: Line[], first: number | undefined, from: number): string[] {
  let line = (first ?? 0) - 1;
  let offset = from;
  const encoder = new TextEncoder();
  return lines.map(({ starts: is, parts }, index) => {
    if (is) line += 1;
    const said = first === undefined ? `@${offset}` : is || index === 0 ? String(Math.max(line, first)) : "";
    if (first === undefined) offset += encoder.encode(parts.map(({ text }) => text).join("")).length + 1;
    return said;
  });
}

function Hex({ bytes: of, from }: { bytes: Uint8Array; from: number }) {
  const width = window.innerWidth <= 720 ? 8 : 16;
  const digits = Math.max(8, (from + of.length).toString(16).length);
  return (
    <Rows
      class="text hex"
      role="region"
      aria-label="Bytes"
      tabIndex={0}
      count={Math.ceil(of.length / width)}
      height={20}
      row={(index, style) => {
        const row = of.subarray(index * width, (index + 1) * width);
        const hex = [...row].map((byte) => byte.toString(16).padStart(2, "0"));
        const text = [...row].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·"));
        return (
          <div key={index} class="line" style={style}>
            <span class="gutter">{(from + index * width).toString(16).padStart(digits, "0")}</span>
            <code>
              {hex.slice(0, 8).join(" ").padEnd(23)}
              {width > 8 && `  ${hex.slice(8).join(" ").padEnd(23)}`}
              {"  "}
              <span class="hl-string">{text.join("")}</span>
            </code>
          </div>
        );
      }}
    />
  );
}

/** Moves to another window of a large file. */
function Windows({ from, size, onTurn }: { from: number; size: number; onTurn: (at: number) => void }) {
  const count = Math.ceil(size / WINDOW);
  const at = from / WINDOW;
  return (
    <nav class="windows" aria-label="Parts of the file">
      <button type="button" disabled={at === 0} onClick={() => onTurn(from - WINDOW)}>
        Before
      </button>
      <input
        type="range"
        min={0}
        max={count - 1}
        value={at}
        aria-label="Position in the file"
        aria-valuetext={`from byte ${number(from)}`}
        onChange={(event) => onTurn(Number(event.currentTarget.value) * WINDOW)}
      />
      <span class="figure small muted">
        {number(from)}–{number(Math.min(size, from + WINDOW) - 1)}
        <span class="wide"> of {number(size)}</span>
      </span>
      <button type="button" disabled={at >= count - 1} onClick={() => onTurn(from + WINDOW)}>
        After
      </button>
    </nav>
  );
}

function Picture({ of, path, name, size }: { of: Shown; path: string; name: string; size: number }) {
  const [address, setAddress] = useState<string>();
  const [figures, setFigures] = useState("");
  const loaded = useLoad((signal) => of.source.read(path, 0, size, signal), [of.id, path]);
  const content = loaded.value?.bytes;
  useEffect(() => {
    if (!content) return undefined;
    // Always set a type: a browser guesses a missing one, and an attacker's file may look like
    // HTML.
    const blob = new Blob([content as BlobPart], { type: pictureOf(name, content) ?? BYTES });
    if (blob.type === SVG) {
      // In a tab of its own, a blob: address is a document of this page's origin, and an SVG can
      // load scripts. The origin of a data: address is opaque.
      const reader = new FileReader();
      reader.onload = () => setAddress(String(reader.result));
      reader.readAsDataURL(blob);
      return () => reader.abort();
    }
    const made = URL.createObjectURL(blob);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [content]);
  if (loaded.error) return <Failed error={loaded.error} again={loaded.again} />;
  if (!address) return <Waiting what="Reading the picture" />;
  return (
    <figure class="picture">
      <img
        src={address}
        alt={name}
        onLoad={(event) => setFigures(`${event.currentTarget.naturalWidth} × ${event.currentTarget.naturalHeight}`)}
        onError={() => setFigures("this browser can't show the picture")}
      />
      <figcaption class="muted small">{figures}</figcaption>
    </figure>
  );
}

/**
 * Saves a file: by a link if nobody is signed in. Otherwise, and from disk, the page fetches it.
 */
function Download({ of, path, name, size }: { of: Shown; path: string; name: string; size: number }) {
  const who = useStore(session);
  const [state, setState] = useState<{ read: number; controller: AbortController }>();
  const [failed, setFailed] = useState("");
  useEffect(() => () => state?.controller.abort(), []);
  if (of.address && !who) {
    return (
      <a class="button" href={of.address(path)} download={name}>
        <Icon name="download" /> Download
      </a>
    );
  }
  const save = async () => {
    const controller = new AbortController();
    const told = (read: number) => setState({ read, controller });
    setFailed("");
    told(0);
    try {
      const parts = of.address
        ? await fetched(of.address(path), told, controller.signal)
        : await readWhole(of.source, path, size, told, controller.signal);
      const address = URL.createObjectURL(new Blob(parts, { type: BYTES }));
      const link = document.createElement("a");
      link.href = address;
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) {
      if (!controller.signal.aborted) setFailed(error instanceof Error ? error.message : String(error));
    }
    setState(undefined);
  };
  return state ? (
    <button type="button" onClick={() => state.controller.abort()}>
      {bytes(state.read)} of {bytes(size)}, cancel
    </button>
  ) : (
    <button type="button" onClick={save} title={failed || undefined}>
      <Icon name="download" /> {failed ? "Download failed, try again" : "Download"}
    </button>
  );
}

async function fetched(address: string, told: (read: number) => void, signal: AbortSignal): Promise<BlobPart[]> {
  const response = await open(address, { signal });
  if (!response.ok || !response.body) throw problem(response.status, response.headers, await response.text());
  const parts: BlobPart[] = [];
  let read = 0;
  for await (const part of response.body) {
    parts.push(part as BlobPart);
    read += part.length;
    told(read);
  }
  return parts;
}

async function readWhole(
  source: Pick<Source, "read">,
  path: string,
  size: number,
  told: (read: number) => void,
  signal: AbortSignal,
): Promise<BlobPart[]> {
  const parts: BlobPart[] = [];
  let read = 0;
  while (read < size) {
    const { bytes: part } = await source.read(path, read, Math.min(size, read + 8 * 1024 * 1024), signal);
    if (part.length === 0) throw new Problem("the file ended before its size: open the layer again");
    parts.push(new Blob([part as BlobPart]));
    read += part.length;
    told(read);
  }
  return parts;
}
