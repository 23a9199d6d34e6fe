/** One flagged passage: its evidence, what was measured, and what somebody says of it. */

import { ask, evidenceFile, evidencePath, Refused } from "./api.js";
import { badge, dialog, facts, find, make, mark, part, say } from "./dom.js";
import { meter } from "./passages.js";
import { day, hour, LABELS, score, size, span, STATES } from "./words.js";

const AGAIN = 3000; // milliseconds

export class SegmentDialog {
  #node = dialog(find("#segment-dialog"), () => this.#leave());
  #id = null;
  #shown = null; // the segment whose evidence is on the screen
  #timer = 0;
  #store;
  #current;

  /** `current(id)` is told which passage is open; null at the end. */
  constructor({ store, current }) {
    this.#store = store;
    this.#current = current;
    const clip = part(this.#node, "clip");
    clip.addEventListener("error", () => clip.hasAttribute("src") && this.#noClip());
    part(this.#node, "newer").addEventListener("click", () => this.step(-1));
    part(this.#node, "older").addEventListener("click", () => this.step(1));
    part(this.#node, "label").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#label(event.submitter.value);
    });
  }

  get opened() {
    return this.#node.open;
  }

  open(id) {
    this.#id = id;
    this.#shown = null;
    clearTimeout(this.#timer);
    say(part(this.#node, "said"), "");
    find("#note").value = this.#store.segments.get(id)?.label?.note ?? "";
    this.#blank("");
    this.update();
    if (!this.#node.open) this.#node.showModal();
    this.#current(id);
  }

  /** To the next older (1) or newer (-1) passage, if there is one. */
  step(by) {
    const ids = this.#store.newest().map((segment) => segment.segment_id);
    const next = ids[ids.indexOf(this.#id) + by];
    if (next) this.open(next);
  }

  update() {
    const segment = this.#id === null ? null : this.#store.segments.get(this.#id);
    if (!segment) return;
    mark(this.#node, "data-state", segment.state);
    badge(part(this.#node, "badge"), segment.state, STATES[segment.state]);
    say(find("#segment-title"), `${segment.stream}, face ${segment.track}`);
    meter(part(this.#node, "meter"), segment);
    const peak = `Peak ${score(segment.score.peak)}, threshold ${score(segment.threshold)}`;
    mark(part(this.#node, "meter"), "aria-label", peak);
    facts(part(this.#node, "facts"), this.#facts(segment));
    this.#labels(segment);
    const ids = this.#store.newest().map((each) => each.segment_id);
    part(this.#node, "newer").disabled = ids.indexOf(this.#id) <= 0;
    part(this.#node, "older").disabled = ids.indexOf(this.#id) >= ids.length - 1;
    if (this.#shown !== `${this.#id} ${segment.open}`) {
      this.#shown = `${this.#id} ${segment.open}`;
      this.#evidence(segment);
    }
  }

  #leave() {
    this.#id = this.#shown = null;
    clearTimeout(this.#timer);
    this.#blank("");
    this.#current(null);
  }

  #facts(segment) {
    const start = new Date(segment.started_at);
    const end = segment.ended_at ? new Date(segment.ended_at) : null;
    const classifier = segment.engines.at(-1);
    const clocks = { rtcp: "the sender's", arrival: "arrival here", file: "the file's reading" };
    return [
      ["From", `${day(start)} ${hour(start)}`],
      ["To", end ? hour(end) : "still going on"],
      ["Length", end ? span((end - start) / 1000) : ""],
      ["Clock", clocks[segment.clock]],
      ["Peak", score(segment.score.peak)],
      ["Mean", score(segment.score.mean)],
      ["Threshold", `${score(segment.threshold)} (${segment.operating_point})`],
      ["Frames scored", String(segment.frames)],
      ["Face", segment.quality ? `${Math.round(segment.quality.size)} pixels` : ""],
      ["Reason", segment.reason],
      ["Engine", classifier ? `${classifier.name} ${classifier.variant} ${classifier.sha256.slice(0, 8)}` : ""],
    ];
  }

  // Evidence.

  #blank(note) {
    for (const name of ["clip", "still", "crop"]) {
      const node = part(this.#node, name);
      if (node.hasAttribute("src")) {
        node.removeAttribute("src");
        node.load?.(); // a film is let go of
      }
      node.hidden = true;
    }
    part(this.#node, "files").replaceChildren();
    find(".beside", this.#node).hidden = true;
    say(part(this.#node, "screen-note"), note);
  }

  async #evidence(segment) {
    if (segment.open) return this.#blank("The passage goes on. Its evidence is there when it has ended.");
    if (!segment.evidence) return this.#blank("No evidence is kept of this passage.");
    const id = segment.segment_id;
    try {
      const { files } = await ask("GET", evidencePath(id));
      if (id === this.#id) this.#show(id, files);
    } catch (error) {
      if (id !== this.#id) return;
      const gone = error instanceof Refused && error.status === 404;
      this.#blank(gone ? "Its evidence is being written, or was deleted." : `No evidence: ${error.message}`);
      this.#timer = setTimeout(() => this.#id === id && this.#evidence(segment), AGAIN);
    }
  }

  #show(id, files) {
    this.#blank("");
    const named = (name) => files.find((file) => file.name.startsWith(`${name}.`));
    const place = (name, alt) => {
      const file = named(name);
      const node = part(this.#node, name);
      if (!file) return false;
      if (alt) node.alt = alt;
      node.src = evidenceFile(id, file.name);
      node.hidden = false;
      return true;
    };
    const filmed = place("clip");
    if (!filmed && place("still", "The frame with the highest score")) say(part(this.#node, "screen-note"), "No clip was kept.");
    place("crop", "The face as the classifier saw it");
    find(".beside", this.#node).hidden = false;
    say(part(this.#node, "evidence-note"), "On the left the face at its highest score, as the classifier saw it.");
    part(this.#node, "files").replaceChildren(
      ...files.map((file) => {
        const link = make("a", { href: evidenceFile(id, file.name), download: `${id}-${file.name}` }, file.name);
        return make("li", {}, link, ` ${size(file.size)}`);
      }),
    );
  }

  /** The browser can't play the clip (MPEG-TS, Matroska): the still takes its place, and the file can be had. */
  async #noClip() {
    const id = this.#id;
    const { files } = await ask("GET", evidencePath(id)).catch(() => ({ files: [] }));
    if (id !== this.#id) return;
    part(this.#node, "clip").hidden = true;
    const still = files.find((file) => file.name.startsWith("still."));
    if (still) {
      part(this.#node, "still").src = evidenceFile(id, still.name);
      part(this.#node, "still").hidden = false;
    }
    say(part(this.#node, "screen-note"), "This browser can't play the clip. It can be downloaded below.");
  }

  // Labels.

  #labels(segment) {
    const may = this.#store.operator;
    const { label } = segment;
    for (const button of part(this.#node, "label").querySelectorAll("button")) {
      button.disabled = !may;
      mark(button, "aria-pressed", String(label?.label === button.value));
    }
    find("#note").disabled = !may;
    const said = label ? `${LABELS[label.label]}, said ${label.by}, ${hour(new Date(label.at))}.` : "Nobody has said yet.";
    const meaning = may ? "It is kept for the next calibration, and changes nothing by itself." : "Only an operator can say.";
    say(part(this.#node, "label-note"), `${said} ${meaning}`);
  }

  async #label(label) {
    const said = part(this.#node, "said");
    const id = this.#id;
    try {
      const { segment, ...kept } = await ask("POST", "/labels", {
        body: { segment_id: id, label, note: find("#note").value },
      });
      this.#store.labelled(id, kept);
      mark(said, "data-failed", false);
      say(said, "Kept. Thank you.");
    } catch (error) {
      mark(said, "data-failed", true);
      say(said, `Not kept: ${error.message}`);
    }
  }
}

