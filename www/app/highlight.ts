// Syntax highlighting. A language's grammar is fetched when it is first needed.

import type { LanguageFn } from "highlight.js";

export interface Part {
  text: string;
  scope?: string;
}

export interface Line {
  parts: Part[];
  /** False for the rest of a line that was broken because of its length. */
  starts: boolean;
}

/** The most characters of a line; a longer line is broken. */
const LONGEST = 1000;
/** The most characters of a text that is highlighted: grammars are slow on longer ones. */
const MOST = 256 * 1024;

const GRAMMARS: Record<string, () => Promise<{ default: LanguageFn }>> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  css: () => import("highlight.js/lib/languages/css"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  go: () => import("highlight.js/lib/languages/go"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  makefile: () => import("highlight.js/lib/languages/makefile"),
  perl: () => import("highlight.js/lib/languages/perl"),
  python: () => import("highlight.js/lib/languages/python"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  sql: () => import("highlight.js/lib/languages/sql"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

const ENDINGS: Record<string, string> = {
  bash: "sh bash ash ksh zsh profile bashrc postinst preinst prerm postrm config",
  c: "c h cc cpp hpp",
  css: "css",
  dockerfile: "dockerfile containerfile",
  go: "go",
  ini: "ini toml conf cfg service socket timer desktop properties gitconfig",
  java: "java",
  javascript: "js mjs cjs ts tsx jsx",
  json: "json webmanifest",
  makefile: "makefile mk",
  perl: "pl pm",
  python: "py pyi",
  ruby: "rb gemspec",
  rust: "rs",
  sql: "sql",
  xml: "xml html htm svg xhtml xsd plist",
  yaml: "yaml yml",
};

const LANGUAGES = new Map(
  Object.entries(ENDINGS).flatMap(([language, endings]) =>
    endings.split(" ").map((ending) => [ending, language] as const),
  ),
);

export function languageOf(name: string, text: string): string | undefined {
  if (text.length > MOST) return undefined;
  const [, program = ""] = /^#!\s*\S*?(?:\/env\s+)?(\w+)[\d.]*\s*(?:\n|\s)/.exec(text.slice(0, 200)) ?? [];
  const called: Record<string, string> = {
    sh: "bash",
    bash: "bash",
    dash: "bash",
    python: "python",
    perl: "perl",
    ruby: "ruby",
    node: "javascript",
  };
  return LANGUAGES.get(name.toLowerCase().split(".").at(-1) ?? "") ?? called[program];
}

interface Node {
  type: string;
  value?: string;
  children?: Node[];
  properties?: { className?: string[] };
}

/** Returns the lines of a text with their scopes, or `undefined` if it can't be highlighted. */
export async function paint(text: string, language: string): Promise<Line[] | undefined> {
  const grammar = GRAMMARS[language];
  if (!grammar) return undefined;
  try {
    const [{ createLowlight }, { default: of }] = await Promise.all([import("./painter"), grammar()]);
    const lowlight = createLowlight({ [language]: of });
    const parts: Part[] = [];
    const walk = (node: Node, scope?: string) => {
      if (node.type === "text") parts.push({ text: node.value ?? "", ...(scope && { scope }) });
      const [own] = node.properties?.className ?? [];
      for (const child of node.children ?? []) walk(child, own?.replace(/^hljs-/, "") ?? scope);
    };
    walk(lowlight.highlight(language, text) as Node);
    return broken(parts);
  } catch {
    // The caller still shows the text, without colours.
    return undefined;
  }
}

export function linesOf(text: string): Line[] {
  return broken([{ text }]);
}

function broken(parts: Part[]): Line[] {
  const lines: Line[] = [{ parts: [], starts: true }];
  let length = 0;
  for (const { text, scope } of parts) {
    let first = true;
    for (const piece of text.split("\n")) {
      if (!first) {
        lines.push({ parts: [], starts: true });
        length = 0;
      }
      first = false;
      let rest = piece;
      while (rest.length > 0) {
        if (length >= LONGEST) {
          lines.push({ parts: [], starts: false });
          length = 0;
        }
        const part = rest.slice(0, LONGEST - length);
        rest = rest.slice(part.length);
        length += part.length;
        lines.at(-1)?.parts.push({ text: part, ...(scope && { scope }) });
      }
    }
  }
  // A line feed at the end of the text starts no further line.
  const last = lines.at(-1);
  if (lines.length > 1 && last?.starts && last.parts.length === 0) lines.pop();
  return lines;
}
