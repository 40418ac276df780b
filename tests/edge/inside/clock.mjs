// The clock and the timers of an isolate, sped up: imported before the Worker's module.
import play from "./play.mjs";

const { began, speed } = play;
const Calendar = globalThis.Date;
const timer = globalThis.setTimeout;

/** Returns the simulated time in milliseconds since 1970. */
export const now = () => began + (Calendar.now() - began) * speed;

/** Resolves at a simulated time. */
export async function until(time) {
  const left = Math.round((time - now()) / speed);
  if (left > 0) await new Promise((resolve) => timer(resolve, left));
}

globalThis.Date = class extends Calendar {
  constructor(...parts) {
    super(...(parts.length > 0 ? parts : [now()]));
  }

  static now() {
    return Math.floor(now());
  }
};

globalThis.setTimeout = (work, delay = 0, ...args) => timer(work, delay / speed, ...args);
