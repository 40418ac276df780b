// The vendor's list prices in dollars, beyond the usage that a plan includes:
// https://developers.cloudflare.com/r2/pricing/ and https://developers.cloudflare.com/kv/platform/pricing/

/** The prices of a gigabyte that is stored for a month. */
export const STORED = { r2: 0.015, kv: 0.5 };

/** The prices of a million operations, by the probe's names of calls. All other calls are free. */
const CLASSES = [
  { name: "R2 A", calls: /^r2\.(put|list|createMultipartUpload|uploadPart|complete)$/, price: 4.5 },
  { name: "R2 B", calls: /^r2\.(get|head)$/, price: 0.36 },
  { name: "KV reads", calls: /^kv\.get$/, price: 0.5 },
  { name: "KV writes", calls: /^kv\.(put|delete|list)$/, price: 5 },
];

export const NAMES = CLASSES.map(({ name }) => name);

/**
 * Returns the number of calls in each class of `NAMES`, and the dollars for a million times those.
 */
export function bill(counts) {
  const calls = CLASSES.map((one) =>
    Object.entries(counts).reduce((sum, [call, { calls }]) => (one.calls.test(call) ? sum + calls : sum), 0),
  );
  return { calls, dollars: calls.reduce((sum, count, index) => sum + count * CLASSES[index].price, 0) };
}
