// The addresses of views. They are fragments, so none is ever a path of the API.
//
//   #/                                          the registry           ?q= &last=
//   #/<name>                                    a repository           ?q= &last=
//   #/<name>/_image/<reference>                 an image, an index, any manifest
//   #/<name>/_files/<reference>/<path>          files of an image      ?layer= &platform= &view=
//                                                                      &sort= &at= &find=
//   #/<name>/_blob/<digest>                     a blob as a file       ?at=
//   #/_disk/<path>                              a layer from the disk  ?view= &sort= &at= &find=
//
// No component of a name begins with `_`. Paths are percent-encoded, as in the API.

import { store } from "./store";

export type Query = Record<string, string | undefined>;

export type Route =
  | { view: "registry" }
  | { view: "repository"; name: string }
  | { view: "image"; name: string; reference: string }
  | { view: "files"; name: string; reference: string; path: string }
  | { view: "blob"; name: string; digest: string }
  | { view: "disk"; path: string }
  | { view: "unknown"; address: string };

export interface Place {
  route: Route;
  query: Query;
}

/** A name, as the specification defines it. Other text never becomes part of an API address. */
const NAME = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+|\/)[a-z0-9]+)*$/;
/** A tag or a digest. */
const REFERENCE = /^\w[\w.:+=-]*$/;

export function parse(fragment: string): Place {
  const [path = "", query = ""] = fragment.replace(/^#?\/?/, "").split(/\?(.*)/s);
  return { route: routeOf(path), query: Object.fromEntries(new URLSearchParams(query)) };
}

function routeOf(path: string): Route {
  const disk = /^_disk(?:\/(.*))?$/s.exec(path);
  if (disk) return { view: "disk", path: disk[1] ?? "" };
  const inside = /^(.+?)\/_(image|files|blob)\/([^/]+)(?:\/(.*))?$/s.exec(path);
  if (inside) {
    const [, name = "", view, encoded = "", rest = ""] = inside;
    const reference = decode(encoded);
    if (!NAME.test(name) || !REFERENCE.test(reference)) return { view: "unknown", address: path };
    if (view === "image") return { view: "image", name, reference };
    if (view === "blob") return { view: "blob", name, digest: reference };
    return { view: "files", name, reference, path: rest };
  }
  const name = path.replace(/\/$/, "");
  if (name === "") return { view: "registry" };
  if (NAME.test(name)) return { view: "repository", name };
  return { view: "unknown", address: path };
}

export function href(route: Route, query: Query = {}): string {
  const pairs = Object.entries(query).flatMap(([key, value]) => (value ? [`${key}=${encodeURIComponent(value)}`] : []));
  return `#/${pathOf(route)}${pairs.length > 0 ? `?${pairs.join("&")}` : ""}`;
}

function pathOf(route: Route): string {
  switch (route.view) {
    case "registry":
      return "";
    case "repository":
      return route.name;
    case "image":
      return `${route.name}/_image/${route.reference}`;
    case "files":
      return `${route.name}/_files/${route.reference}/${route.path}`;
    case "blob":
      return `${route.name}/_blob/${route.digest}`;
    case "disk":
      return `_disk/${route.path}`;
    case "unknown":
      return route.address;
  }
}

export const place = store<Place>(parse(location.hash));

/** Navigates to a view. `replace` replaces the current entry of the history. */
export function go(route: Route, query: Query = {}, replace = false): void {
  const address = href(route, query);
  if (replace) history.replaceState(null, "", address);
  else if (address !== location.hash) history.pushState(null, "", address);
  place.set(parse(address));
}

// The back button, a link or the user changed the address.
addEventListener("popstate", () => place.set(parse(location.hash)));

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the percent-encoded name of a file. For names that are not UTF-8, use `nameEncoded`. */
export function encode(name: string): string {
  return encodeURIComponent(name);
}
