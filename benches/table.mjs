// Figures in Markdown.

/** Returns a table in Markdown with numbers to the right. */
export function tableOf(columns, rows) {
  const cells = [columns, ...rows.map((row) => row.map(String))];
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const line = (row) =>
    `| ${row.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[0]))).join(" | ")} |`;
  const rule = `| ${widths.map((width, column) => (column ? `${"-".repeat(width - 1)}:` : "-".repeat(width))).join(" | ")} |`;
  return [line(columns), rule, ...cells.slice(1).map(line)].join("\n");
}

/** Prints a table below its title. */
export function print(title, columns, rows) {
  console.log(`\n**${title}**\n\n${tableOf(columns, rows)}`);
}

/** Returns the median over the rounds of one of their figures, such as `rate`. */
export function median(rounds, key) {
  const sorted = rounds.map((round) => round[key]).sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Returns a number with as many decimals as are worth reading. */
export function figure(value) {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
