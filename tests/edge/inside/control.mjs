// A second Worker beside the one under test, through which the harness speaks to its probe.

export default {
  async fetch(request, probes) {
    const [probe, method, ...args] = await request.json();
    return Response.json((await probes[probe][method](...args)) ?? null);
  },
};
