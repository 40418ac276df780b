// The page's requests, live: one line at the bottom, which opens to a list.

import { useState } from "preact/hooks";

import { activity, type Tier } from "../activity";
import { bytes, number, percent, plural } from "../format";
import { useStore } from "../store";

const TIERS: [Tier, string][] = [
  ["hot", "from the registry's memory"],
  ["warm", "from Workers KV"],
  ["cold", "from R2"],
  ["upstream", "from the upstream"],
  ["browser", "from this browser's cache"],
];

export function Footer() {
  const { asked, requests, tiers, saved, inflated, fetched, layers } = useStore(activity);
  const [open, setOpen] = useState(false);
  const total = [...layers.values()].reduce((sum, size) => sum + size, 0);
  return (
    <footer class={open ? "activity open" : "activity"}>
      <button
        type="button"
        class="summary"
        aria-expanded={open}
        aria-controls="activity"
        onClick={() => setOpen(!open)}
      >
        <span>{plural(requests, "request")}</span>
        {TIERS.map(([tier, meaning]) =>
          tiers[tier] ? (
            <span key={tier} class={`tier tier-${tier}`} title={meaning}>
              {tier} {tiers[tier]}
            </span>
          ) : null,
        )}
        {saved + inflated > 0 && (
          <span class="wide" title="responses from cached spans, and responses that decompressed a span">
            {plural(saved, "decompression")} saved, {inflated} done
          </span>
        )}
        {total > 0 && (
          <span class="wide">
            {bytes(fetched)} fetched of {bytes(total)} in layers ({percent(fetched, total)})
          </span>
        )}
      </button>
      {open && (
        <section class="asked" id="activity" tabIndex={0} aria-label="Requests, the latest first">
          {asked.length === 0 && <p class="muted">No requests yet.</p>}
          <table>
            <tbody>
              {asked.map((one) => (
                <tr key={one.id}>
                  <td>
                    <span class={`tier tier-${one.tier}`}>{one.tier === "none" ? "–" : one.tier}</span>
                  </td>
                  <td class="figure">{one.status}</td>
                  <td class="figure">{bytes(one.bytes)}</td>
                  <td class="figure">{number(Math.round(one.milliseconds))} ms</td>
                  <td class="address" title={one.steps.map(({ what, tier }) => `${what} ${tier}`).join(", ")}>
                    <bdi>{one.address}</bdi>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </footer>
  );
}
