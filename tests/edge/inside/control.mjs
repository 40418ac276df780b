// A second Worker beside the one under test, through which the harness speaks to its probe.

export default {
  async fetch(request, { PROBE }) {
    const [method, ...args] = await request.json();
    return Response.json((await PROBE[method](...args)) ?? null);
  },
};
