// The vendor's list prices in dollars, beyond what a plan includes:
// https://developers.cloudflare.com/r2/pricing/ and https://developers.cloudflare.com/kv/platform/pricing/

/** Of a gigabyte kept for a month. */
export const STORED = { r2: 0.015, kv: 0.5 };

/** Of a million operations, by the names that the probe gives them. What is missing here is free. */
const CLASSES = [
  { name: "R2 A", calls: /^r2\.(put|list|createMultipartUpload|uploadPart|complete)$/, price: 4.5 },
  { name: "R2 B", calls: /^r2\.(get|head)$/, price: 0.36 },
  { name: "KV reads", calls: /^kv\.get$/, price: 0.5 },
  { name: "KV writes", calls: /^kv\.(put|delete|list)$/, price: 5 },
];

export const NAMES = CLASSES.map(({ name }) => name);

/** How often each class of `NAMES` was called, and dollars for a million times that. */
export function bill(counts) {
  const calls = CLASSES.map((one) =>
    Object.entries(counts).reduce((sum, [call, { calls }]) => (one.calls.test(call) ? sum + calls : sum), 0),
  );
  return { calls, dollars: calls.reduce((sum, count, index) => sum + count * CLASSES[index].price, 0) };
}
