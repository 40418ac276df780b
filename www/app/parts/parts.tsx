// Small components that all views use.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { type Problem, type Progress, signIn } from "../api";
import { bytes, percent, short } from "../format";

/** Characters that are invisible, or that change the order of the text around them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are invisible
const HIDDEN = /([\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])/u;

/** A name from an image, as text with its invisible characters spelled out. */
export function Name({ text, encoded }: { text: string; encoded?: string | undefined }) {
  const parts = (encoded ?? text).split(HIDDEN);
  return (
    <bdi class="name" title={encoded ? `not UTF-8: ${encoded}` : undefined}>
      {parts.map((part, index) =>
        index % 2 === 0 ? (
          part
        ) : (
          <span class="hidden-character" key={index}>
            U+{part.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}
          </span>
        ),
      )}
      {encoded && <span class="chip">not UTF-8</span>}
    </bdi>
  );
}

export function Digest({ digest, href }: { digest: string; href?: string | undefined }) {
  const text = <code title={digest}>{short(digest)}</code>;
  return href ? (
    <a href={href} class="digest">
      {text}
    </a>
  ) : (
    text
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure connection there is no clipboard API, so use the old command.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="quiet copy" onClick={copy} aria-label={done ? "copied" : label} title={label}>
      <Icon name={done ? "check" : "copy"} />
    </button>
  );
}

const PATHS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M2.5 8.5l3.5 3.5 7.5-8",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.7 10.7L14 14",
  open: "M6 3.5l4.5 4.5L6 12.5",
  file: "M3.5 1.5h6l3 3v10h-9zM9.5 1.5v3h3",
  directory: "M1.5 13V3h4.5l1.5 2h7v8z",
  link: "M6.5 9.5l3-3M7 4.5l1.5-1.5a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5L7.5 13A3 3 0 0 1 3 8.5L4.5 7",
  device: "M2 4h12v8H2zM5 12v2M11 12v2",
  download: "M8 2v8M4.5 7L8 10.5 11.5 7M2.5 13.5h11",
  disk: "M8 10.5V2.5M4.5 6L8 2.5 11.5 6M2.5 10.5v3h11v-3",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
  auto: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** An error, with buttons to sign in, to retry, or to leave. */
export function Failed({ error, again }: { error: Problem; again?: () => void }) {
  return (
    <div class="notice failed" role="alert">
      <p>{error.message}</p>
      {error.code && <p class="muted small">{`${error.status} ${error.code}`}</p>}
      <p class="actions">
        {(error.status === 401 || error.status === 403) && (
          <button type="button" class="primary" onClick={() => signIn.set("")}>
            Sign in
          </button>
        )}
        {again && (
          <button type="button" onClick={again}>
            Try again
          </button>
        )}
        <a href="#/" class="button">
          All repositories
        </a>
      </p>
    </div>
  );
}

/** Shown while something loads. The text appears late, so that short loads show nothing. */
export function Waiting({ what, progress }: { what: string; progress?: Progress | undefined }) {
  return (
    <div class="notice waiting" role="status">
      {progress ? (
        <>
          <p>
            The registry is indexing layer <code>{short(progress.digest)}</code>: {bytes(progress.read)} of{" "}
            {bytes(progress.size)}, {percent(progress.read, progress.size)}
          </p>
          <progress max={progress.size} value={progress.read} aria-label="layer indexed" />
        </>
      ) : (
        <p class="late muted">{what} …</p>
      )}
    </div>
  );
}

/** A search field for the list below. The key `/` moves the focus to it. */
export function Search({ value, label, onSearch }: { value: string; label: string; onSearch: (text: string) => void }) {
  const field = useRef<HTMLInputElement>(null);
  const timer = useRef<number>(undefined);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
      event.preventDefault();
      field.current?.focus();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  useEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  return (
    <label class="search">
      <Icon name="search" />
      <input
        ref={field}
        type="search"
        defaultValue={value}
        placeholder={label}
        aria-label={label}
        spellcheck={false}
        autocapitalize="off"
        onInput={(event) => {
          const text = event.currentTarget.value;
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => onSearch(text), 150);
        }}
      />
      {/* biome-ignore lint/a11y/noAriaHiddenOnFocusable: a kbd takes no focus */}
      <kbd aria-hidden="true">/</kbd>
    </label>
  );
}

function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** The colour of a layer, by its index: the same in all views. */
export function Stratum({ index, label }: { index: number; label?: string }) {
  const own = `stratum stratum-${index % 8}`;
  return label ? <span class={own} role="img" aria-label={label} /> : <span class={own} aria-hidden="true" />;
}

export function Section({
  title,
  note,
  children,
  id,
}: {
  title: string;
  note?: ComponentChildren;
  children: ComponentChildren;
  id?: string;
}) {
  return (
    <section class="section" aria-label={title} id={id}>
      <h2>
        {title}
        {note !== undefined && <span class="note">{note}</span>}
      </h2>
      {children}
    </section>
  );
}
