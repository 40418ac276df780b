// Miniflare reads a property of a stored object in a synchronous call: it sleeps until another
// thread has posted the answer, stored a sign and sent a wake-up. If the sleeper sees the sign
// first, it goes on to its next call, and the late wake-up of the former one ends that sleep before
// an answer is there. A sleep without a timeout therefore goes on while the value is unchanged.

const wait = Atomics.wait;

Atomics.wait = (array, index, value, timeout = Number.POSITIVE_INFINITY) => {
  let woken = wait(array, index, value, timeout);
  while (woken === "ok" && timeout === Number.POSITIVE_INFINITY && Atomics.load(array, index) === value)
    woken = wait(array, index, value, timeout);
  return woken;
};
