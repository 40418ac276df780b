// A Worker that fills the bucket with `[{ key, body, metadata }]`. The metadata goes to the field
// that the registry uses.

const AT_ONCE = 64;

export default {
  async fetch(request, { BUCKET }) {
    const left = await request.json();
    const writer = async () => {
      for (let object = left.pop(); object; object = left.pop()) {
        const { key, body, metadata } = object;
        await BUCKET.put(key, body, metadata === undefined ? {} : { customMetadata: { strata: metadata } });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, writer));
    return new Response();
  },
};
