// The allowlist of `Host` for a registry without users (`npm start -- --open`), against DNS
// rebinding. Nobody signs in, so a web page could use the registry through its own host name if
// that resolves to this machine: for the browser, page and registry then have the same origin. This
// runs in Node and, as a module of the Worker, in front of the registry.

const LOOPBACK = /^(localhost|::1|127(\.\d{1,3}){3})$/;

/** Returns whether an address or a name is a loopback one, without a lookup in DNS. */
export function isLoopback(host) {
  return LOOPBACK.test(host);
}

/** Returns whether this `Host` is served: a loopback name, or the name given with `--host`. */
export function isServed(header, given) {
  const [, six, other] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec((header ?? "").toLowerCase()) ?? [];
  const host = six ?? other;
  return host !== undefined && (isLoopback(host) || host === given.toLowerCase());
}

/** Wraps the registry: requests with any other `Host` get 403. */
export function onlyFor(given, worker) {
  return {
    ...worker,
    fetch(request, env, context) {
      // Not the request's URL: headers of the simulator can change that.
      const host = request.headers.get("host");
      if (isServed(host, given)) return worker.fetch(request, env, context);
      const message = `requested access to the resource is denied: an open registry answers to localhost and to the name given with --host, not to ${JSON.stringify(host)}: use localhost, or start it with --host NAME`;
      return Response.json({ errors: [{ code: "DENIED", message }] }, { status: 403 });
    },
  };
}
