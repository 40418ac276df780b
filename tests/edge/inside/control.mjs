// A second Worker beside the one under test, by which the harness talks to the probe.

export default {
  async fetch(request, probes) {
    const [probe, method, ...args] = await request.json();
    return Response.json((await probes[probe][method](...args)) ?? null);
  },
};
