// Draws figures as an SVG of bars, for light and dark pages.

const WIDTH = 760;
const LABELS = 290;
const VALUES = 150;
const ROW = 26;
const TOP = 58;

const STYLE = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #57606a }
  .ours { fill: #0969da }
  .theirs { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .theirs { fill: #57606a }
  }`;

/**
 * Draws one bar for each row. The longest fills the width.
 *
 * @param {{ title: string, note: string,
 *   rows: { label: string, value: number, text: string, ours: boolean }[] }} chart
 */
export function bars({ title, note, rows }) {
  const most = Math.max(...rows.map(({ value }) => value));
  const drawn = rows.map(({ label, value, text, ours }, index) => {
    const y = TOP + index * ROW;
    const width = Math.max(1, ((WIDTH - LABELS - VALUES) * value) / most).toFixed(1);
    return [
      `<text x="${LABELS - 10}" y="${y + 13}" text-anchor="end">${escapeXml(label)}</text>`,
      `<rect class="${ours ? "ours" : "theirs"}" x="${LABELS}" y="${y}" width="${width}" height="${ROW - 8}" rx="2"/>`,
      `<text class="quiet" x="${(LABELS + Number(width) + 8).toFixed(1)}" y="${y + 13}">${escapeXml(text)}</text>`,
    ].join("\n");
  });
  const height = TOP + rows.length * ROW + 10;
  // It has no background, so that the page's shows.
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<text class="title" x="10" y="22">${escapeXml(title)}</text>`,
    `<text class="quiet" x="10" y="42">${escapeXml(note)}</text>`,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

function escapeXml(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
