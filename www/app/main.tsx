// The page: its header and footer, the view that the address names, and the sign-in dialog.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { session, signIn } from "./api";
import { Footer } from "./parts/activity";
import { Icon } from "./parts/parts";
import { SignIn } from "./parts/signin";
import { href, type Place, place } from "./route";
import { useStore } from "./store";
import { BlobView } from "./views/blob";
import { Disk, useDrop } from "./views/disk";
import { Files } from "./views/files";
import { Image } from "./views/image";
import { Registry, Tags } from "./views/registry";

function App() {
  const at = useStore(place);
  useEffect(() => {
    document.title = titleOf(at);
  }, [at]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) {
      scrollTo(0, 0);
      // The focused element disappeared with the view before.
      if (document.activeElement === document.body) document.getElementById("content")?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [viewOf(at)]);
  const over = useDrop();
  return (
    <>
      <a
        class="skip"
        href={location.hash || "#/"}
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("content")?.focus();
        }}
      >
        Skip to the content
      </a>
      <Head at={at} />
      <View at={at} key={viewOf(at)} />
      <Footer />
      <SignIn />
      {over && <div class="dropping">Drop a layer to open it. It stays on your machine.</div>}
    </>
  );
}

/** Returns the identity of a view: the same for all paths and queries in one image or layer. */
function viewOf({ route }: Place): string {
  return [
    route.view,
    "name" in route && route.name,
    "reference" in route && route.reference,
    "digest" in route && route.digest,
  ].join(" ");
}

function View({ at: { route, query } }: { at: Place }) {
  switch (route.view) {
    case "registry":
      return <Registry query={query} />;
    case "repository":
      return <Tags name={route.name} query={query} />;
    case "image":
      return <Image name={route.name} reference={route.reference} query={query} />;
    case "files":
      return <Files name={route.name} reference={route.reference} path={route.path} query={query} />;
    case "blob":
      return <BlobView name={route.name} digest={route.digest} query={query} />;
    case "disk":
      return <Disk path={route.path} query={query} />;
    case "unknown":
      return (
        <main class="view" id="content" tabIndex={-1}>
          <p class="notice">
            There is no page at this address. <a href="#/">All repositories</a>
          </p>
        </main>
      );
  }
}

function Head({ at: { route } }: { at: Place }) {
  const who = useStore(session);
  const name = "name" in route ? route.name : undefined;
  return (
    <header class="head">
      <a class="brand" href="#/" aria-label="Strata: all repositories">
        <svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true">
          <path class="stratum-fill-1" d="M4 5h24v5c-8 3-16-3-24 0z" />
          <path class="stratum-fill-0" d="M4 13c8-3 16 3 24 0v5c-8 3-16-3-24 0z" />
          <path class="stratum-fill-3" d="M4 21c8-3 16 3 24 0v6H4z" />
        </svg>
        <span class="brand-name">Strata</span>
      </a>
      <nav class="crumbs" aria-label="Breadcrumbs">
        {name && <a href={href({ view: "repository", name })}>{name}</a>}
        {"reference" in route && (
          <a href={href({ view: "image", name: route.name, reference: route.reference })}>
            {route.reference.includes(":") ? route.reference.slice(0, 19) : route.reference}
          </a>
        )}
      </nav>
      <div class="tools">
        <a
          class="button quiet-button"
          href={href({ view: "disk", path: "" })}
          aria-label="Open a layer from disk"
          title="Open a layer from disk"
        >
          <Icon name="disk" /> <span class="wide">Open a layer</span>
        </a>
        <Theme />
        {who ? (
          <button type="button" class="quiet" onClick={() => session.set(undefined)} title={`Signed in as ${who.user}`}>
            Sign out
          </button>
        ) : (
          <button type="button" class="quiet" onClick={() => signIn.set("")}>
            Sign in
          </button>
        )}
      </div>
    </header>
  );
}

const THEMES = ["auto", "light", "dark"] as const;

/** A button for the colours, which follow the system until the user chooses. */
function Theme() {
  const [theme, setTheme] = useState<(typeof THEMES)[number]>(
    () => THEMES.find((one) => one === remembered()) ?? "auto",
  );
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    remember(theme);
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
  return (
    <button
      type="button"
      class="quiet"
      onClick={() => setTheme(next)}
      aria-label={`Colours: ${theme}. Change to ${next}`}
      title={`Colours: ${theme}`}
    >
      <Icon name={theme === "auto" ? "auto" : theme === "light" ? "sun" : "moon"} />
    </button>
  );
}

function remembered(): string | null {
  try {
    return localStorage.getItem("theme");
  } catch {
    // A browser that forbids storage throws.
    return null;
  }
}

function remember(theme: string): void {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Without storage, the choice lasts until the page is reloaded.
  }
}

function titleOf({ route }: Place): string {
  switch (route.view) {
    case "registry":
      return "Strata";
    case "repository":
      return `${route.name} · Strata`;
    case "image":
    case "files":
      return `${route.name} ${route.reference} · Strata`;
    case "blob":
      return `${route.digest.slice(0, 19)} · Strata`;
    case "disk":
      return "Layer from disk · Strata";
    case "unknown":
      return "Not found · Strata";
  }
}

// The page's Content-Security-Policy requires Trusted Types, and no text may become a script or
// HTML. Only workers need an address as a script, and theirs are on this origin.
const { trustedTypes } = window as {
  trustedTypes?: { createPolicy(name: string, policy: { createScriptURL(address: string): string }): unknown };
};
trustedTypes?.createPolicy("default", {
  createScriptURL(address) {
    if (new URL(address, location.href).origin !== location.origin)
      throw new TypeError("only scripts of this origin are allowed");
    return address;
  },
});

const page = document.getElementById("page");
if (page) render(<App />, page);
