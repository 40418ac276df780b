// Formats sizes, counts, times and permissions.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(count: number): string {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit === 0 || count >= 99.5 ? Math.round(count) : count >= 9.95 ? count.toFixed(1) : count.toFixed(2)} ${UNITS[unit]}`;
}

export function number(count: number): string {
  return count.toLocaleString("en-GB");
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 365.25 * 86400],
  ["month", 30.44 * 86400],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];

const relative = new Intl.RelativeTimeFormat("en-GB", { numeric: "auto" });

export function age(date: Date): string {
  const seconds = (date.getTime() - Date.now()) / 1000;
  // Reproducible builds set their date to 1970, or to year 1.
  if (date.getTime() <= 86_400_000) return "undated";
  for (const [unit, length] of STEPS)
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  return "just now";
}

export function moment(seconds: string | undefined): Date | undefined {
  if (seconds === undefined) return undefined;
  const date = new Date(Number(seconds) * 1000);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

export function day(date: Date): string {
  return `${date.toISOString().slice(0, 10)} ${date.toISOString().slice(11, 16)}`;
}

const TYPES: Record<string, string> = { directory: "d", symlink: "l", char: "c", block: "b", fifo: "p" };

/** Returns permissions as `ls` writes them. */
export function permissions(type: string, mode: number): string {
  const letters = [...Array(9).keys()].map((bit) => ((mode >> (8 - bit)) & 1 ? "rwx".charAt(bit % 3) : "-"));
  for (const [bit, at, letter] of [
    [0o4000, 2, "s"],
    [0o2000, 5, "s"],
    [0o1000, 8, "t"],
  ] as const) {
    if (mode & bit) letters[at] = letters[at] === "x" ? letter : letter.toUpperCase();
  }
  return (TYPES[type] ?? "-") + letters.join("");
}

export function short(digest: string): string {
  const [algorithm, encoded = ""] = digest.split(":");
  return algorithm === "sha256" ? encoded.slice(0, 12) : `${algorithm}:${encoded.slice(0, 12)}`;
}

export function percent(part: number, whole: number): string {
  return whole === 0 ? "0 %" : `${((100 * part) / whole).toFixed(part / whole >= 0.0995 ? 0 : 1)} %`;
}
