/** One stream: its live picture, what is known of it, and what its faces are held against. */

import { ask, streamPath } from "./api.js";
import { badge, dialog, facts, find, make, mark, part, say } from "./dom.js";
import { list, strip } from "./passages.js";
import { Previews } from "./previews.js";
import { count, latency, MEANING, score, span, STATES } from "./words.js";

const MOST = 50; // passages
const HOUR = 3600;

export class StreamDialog {
  #node = dialog(find("#stream-dialog"), () => this.#leave());
  #name = null;
  #store;
  #freshness;
  #stills;
  #openSegment;
  #previews = new Previews((name, has) => name === this.#name && this.#pictured(has));
  #touched = false; // somebody is choosing: what the server says does not change it

  constructor({ store, freshness, stills, openSegment }) {
    this.#store = store;
    this.#freshness = freshness;
    this.#stills = stills;
    this.#openSegment = openSegment;
    store.addEventListener("points", () => {
      this.#points();
      this.update();
    });
    const form = part(this.#node, "sensitivity");
    form.addEventListener("input", (event) => this.#choosing(event));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
  }

  open(name) {
    this.#name = name;
    this.#touched = false;
    say(find("#stream-title"), name);
    say(part(this.#node, "said"), "");
    part(this.#node, "passages").replaceChildren();
    this.#pictured(false);
    const picture = part(this.#node, "picture");
    mark(picture, "aria-label", `Live picture of ${name}`);
    this.#points();
    this.update();
    this.#node.showModal();
    this.#previews.watch(name, picture);
    this.#previews.seen(name, true);
    this.#previews.show(true);
  }

  #leave() {
    this.#previews.show(false);
    this.#previews.forget(this.#name);
    this.#name = null;
  }

  #pictured(has) {
    mark(part(this.#node, "no-picture"), "hidden", has);
    mark(part(this.#node, "picture"), "data-none", !has);
  }

  update() {
    if (this.#name === null) return;
    const stream = this.#store.streams.get(this.#name);
    const known = this.#freshness.judge(performance.now()) !== "gone" && stream;
    const state = known ? stream.state : "unknown";
    this.#previews.show(Boolean(known));
    mark(this.#node, "data-state", state);
    badge(part(this.#node, "badge"), state, STATES[state]);
    const meaning = stream ? MEANING[state] : "This stream is not watched any more.";
    const reason = known ? stream.reason : null;
    say(part(this.#node, "meaning"), reason ? `${meaning.slice(0, -1)}: ${reason}.` : meaning);
    facts(part(this.#node, "facts"), known ? this.#facts(stream) : []);
    if (known && !this.#touched) this.#held(stream);
    const segments = this.#store.newest(this.#name).slice(0, MOST);
    list(part(this.#node, "passages"), segments, this.#stills, this.#openSegment, { streams: false });
    mark(part(this.#node, "no-passages"), "hidden", segments.length > 0);
    strip(part(this.#node, "strip"), segments, this.#store.now(), HOUR, this.#openSegment);
  }

  #facts(stream) {
    const age = this.#store.age(stream);
    const states = stream.tracks.map((track) => `${track.id} ${STATES[track.state].toLowerCase()}`);
    const { width, height } = stream.size;
    return [
      ["Source", stream.uri],
      ["Faces", states.length ? states.join(", ") : "none"],
      ["Last frame", age === null ? "none yet" : `${span(age)} ago`],
      ["Frame to score", stream.latency === null ? "" : latency(stream.latency)],
      ["Picture", width ? `${width} × ${height}` : ""],
      ["Connection", stream.up ? `number ${stream.session}` : "down"],
      ["Reconnects", stream.live ? String(stream.reconnects) : ""],
      ["Doing less", stream.overload],
    ];
  }

  // Sensitivity.

  #points() {
    const { operating_points: points } = this.#store.points;
    part(this.#node, "points").replaceChildren(
      ...points.map((point) =>
        make(
          "label",
          { class: "point" },
          make("input", { type: "radio", name: "point", value: point.name }),
          make("span", {}, make("b", {}, point.name), score(point.threshold)),
          make("small", { title: point.promise }, brief(point.promise)),
        ),
      ),
    );
    const may = this.#store.operator;
    const words = "It holds until the stream is removed or StreamGuard ends. Open passages close.";
    say(part(this.#node, "sensitivity-note"), may ? words : "Only an operator can change this.");
    for (const input of part(this.#node, "sensitivity").querySelectorAll("input, button")) input.disabled = !may;
  }

  /** The radio buttons: the points, once they came, and by hand, which is last. */
  #choices() {
    return [...part(this.#node, "sensitivity").querySelectorAll("input[name=point]")];
  }

  #held(stream) {
    const choices = this.#choices();
    const named = choices.find((choice) => choice.value === stream.operating_point);
    (named ?? choices.at(-1)).checked = true;
    this.#threshold(stream.threshold);
  }

  #threshold(value) {
    part(this.#node, "threshold").value = value;
    say(part(this.#node, "by-hand"), score(Number(value)));
  }

  #choosing({ target }) {
    this.#touched = true;
    if (target.type === "range") {
      this.#choices().at(-1).checked = true;
      this.#threshold(target.value);
    } else if (target.value) {
      this.#threshold(this.#store.points.operating_points.find((point) => point.name === target.value).threshold);
    }
  }

  async #save() {
    const name = this.#name;
    const chosen = this.#choices().find((choice) => choice.checked)?.value;
    const body = chosen ? { operating_point: chosen } : { threshold: Number(part(this.#node, "threshold").value) };
    const said = part(this.#node, "said");
    try {
      const stream = await ask("PATCH", streamPath(name), { body });
      this.#touched = false;
      this.#store.streamCame(stream);
      mark(said, "data-failed", false);
      say(said, `Held against ${stream.operating_point} (${score(stream.threshold)}) from now on.`);
    } catch (error) {
      mark(said, "data-failed", true);
      say(said, `Not changed: ${error.message}`);
    }
  }
}

/** The first sentence of a promise, without what stands in brackets. */
const brief = (promise) => `${promise.split(". ")[0].replace(/ \(.*/, "").replace(/\.$/, "")}.`;

/** How many streams are in each state. */
export function tally(streams) {
  const counts = { all: 0, flagged: 0, inconclusive: 0, clear: 0 };
  for (const stream of streams) {
    counts.all += 1;
    counts[stream.state] += 1;
  }
  return counts;
}

/** What to say aloud of streams that became flagged. */
export function news(before, streams) {
  const flagged = [...streams].filter((stream) => stream.state === "flagged" && before.get(stream.name) !== "flagged");
  if (!flagged.length) return null;
  return flagged.length > 3 ? `${count(flagged.length, "stream")} flagged` : `Flagged: ${flagged.map((s) => s.name).join(", ")}`;
}
