// The names that an open registry answers to. It asks nobody to sign in, so a web page must not reach it under a name of its own that leads to
// this machine (DNS rebinding): for the browser such a page and the registry have the same origin. Runs in Node and, as a module of the Worker, in front of the registry.

const LOOPBACK = /^(localhost|::1|127(\.\d{1,3}){3})$/;

/** Whether an address or a name is this machine's own, without asking anybody. */
export function isLoopback(host) {
  return LOOPBACK.test(host);
}

/** Whether a request with this `Host` is answered: of loopback, and of the name that was given with `--host`. */
export function isServed(header, given) {
  const [, six, other] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec((header ?? "").toLowerCase()) ?? [];
  const host = six ?? other;
  return host !== undefined && (isLoopback(host) || host === given.toLowerCase());
}

/** The registry, for these names only. */
export function onlyFor(given, worker) {
  return {
    ...worker,
    fetch(request, env, context) {
      // Not the address of the request, which headers of the simulator's can change.
      const host = request.headers.get("host");
      if (isServed(host, given)) return worker.fetch(request, env, context);
      const message = `requested access to the resource is denied: an open registry answers to localhost and to the name given with --host, not to ${JSON.stringify(host)}: ask for it as localhost, or start it with --host`;
      return Response.json({ errors: [{ code: "DENIED", message }] }, { status: 403 });
    },
  };
}
