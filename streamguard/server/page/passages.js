/** Flagged passages: a strip of time and a list with stills, the newest first. */

import { copy, find, make, mark, say } from "./dom.js";
import { LABELS, score, STATES, when } from "./words.js";

const LANES = 4;
const BARS = 400;

/** Fill an ordered list. `segments` come newest first; items stay where they are if they still fit. */
export function list(node, segments, stills, open, { streams = true } = {}) {
  const items = new Map([...node.children].map((item) => [item.dataset.segment, item]));
  const wanted = new Set(segments.map((segment) => segment.segment_id));
  for (const [id, item] of items) if (!wanted.has(id)) item.remove();
  segments.forEach((segment, at) => {
    let item = items.get(segment.segment_id);
    if (!item) {
      item = copy("passage");
      item.dataset.segment = segment.segment_id;
      find("button", item).addEventListener("click", () => open(segment.segment_id));
    }
    if (node.children[at] !== item) node.insertBefore(item, node.children[at] ?? null);
    fill(item, segment, streams);
    stills.show(find("img", item), segment);
  });
}

function fill(item, segment, streams) {
  const word = segment.open ? "Now" : segment.label ? LABELS[segment.label.label] : "";
  say(find(".name", item), streams ? segment.stream : `Face ${segment.track}`);
  say(find(".mark", item), word);
  find(".mark", item).classList.toggle("now", segment.open);
  say(find(".when", item), `${when(segment)} · ${score(segment.score.peak)}`);
  meter(find(".meter", item), segment);
  const threshold = `peak ${score(segment.score.peak)}, threshold ${score(segment.threshold)}`;
  const label = segment.label ? `, labelled ${LABELS[segment.label.label].toLowerCase()}` : "";
  const stream = `${segment.stream}, face ${segment.track}`;
  mark(find("button", item), "aria-label", `${stream}, ${STATES[segment.state].toLowerCase()} ${when(segment)}, ${threshold}${label}`);
}

/** A bar as long as the peak, with a mark at the threshold. */
export function meter(node, segment) {
  node.style.setProperty("--peak", segment.score.peak);
  node.style.setProperty("--threshold", segment.threshold);
}

/** The last `seconds` before `now` (milliseconds) as a strip; what overlaps stands in lanes above. */
export function strip(node, segments, now, seconds, open) {
  const start = now - 1000 * seconds;
  const free = new Array(LANES).fill(-Infinity); // when each lane is free again
  const bars = [];
  for (const segment of [...segments].slice(0, BARS).reverse()) {
    const from = Date.parse(segment.started_at);
    const to = segment.open ? now : Date.parse(segment.ended_at);
    if (to < start || from > now) continue;
    const lane = Math.max(0, free.findIndex((at) => at <= from));
    free[lane] = to;
    const bar = make("button", { type: "button", tabindex: -1, "data-label": segment.label?.label });
    bar.style.setProperty("--from", Math.max(0, from - start) / (now - start));
    bar.style.setProperty("--share", (to - Math.max(from, start)) / (now - start));
    bar.style.setProperty("--lane", lane);
    bar.title = `${segment.stream} ${when(segment)}`;
    bar.addEventListener("click", () => open(segment.segment_id));
    bars.push(bar);
  }
  const words = seconds < 3600 ? `${seconds / 60} min ago` : `${seconds / 3600} h ago`;
  node.replaceChildren(make("span", {}, words), make("span", {}, "now"), ...bars);
}
