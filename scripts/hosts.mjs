// The allowlist of `Host` for a registry without users (`npm start -- --open`). Nobody signs in to it, so a web page must not
// reach it by a host name of the page's own that resolves to this machine (DNS rebinding): for the browser, such a page and the
// registry have the same origin. Runs in Node and, as a module of the Worker, in front of the registry.

const LOOPBACK = /^(localhost|::1|127(\.\d{1,3}){3})$/;

/** Whether an address or a name is a loopback one, without a lookup in DNS. */
export function isLoopback(host) {
  return LOOPBACK.test(host);
}

/** Whether a request with this `Host` is answered: a loopback name, or the name given with `--host`. */
export function isServed(header, given) {
  const [, six, other] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec((header ?? "").toLowerCase()) ?? [];
  const host = six ?? other;
  return host !== undefined && (isLoopback(host) || host === given.toLowerCase());
}

/** The registry, which refuses all other names. */
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
