/**
 * Stills of evidence, a few at a time and kept while they are of use: the server counts requests, and keeps no copies.
 *
 * Evidence is there some seconds after its passage has ended, so it is asked for again, ever more seldom.
 */

import { evidenceFile } from "./api.js";

const AT_ONCE = 2;
const PACE = 200; // milliseconds between two questions
const KEPT = 200;
const TRIES = [2000, 3000, 5000, 10000, 30000];

export class Stills {
  #kept = new Map(); // segment -> object URL, in the order of use
  #queue = [];
  #busy = 0;
  #observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) this.#want(target);
  });
  #segments = new WeakMap();

  /** Show the still of `segment` in `img` once both can be seen; until then `img` is hidden. */
  show(img, segment) {
    const before = this.#segments.get(img);
    this.#segments.set(img, segment);
    if (before?.segment_id === segment.segment_id && before.open === segment.open) return;
    if (before?.segment_id !== segment.segment_id) img.hidden = true;
    if (segment.open || !segment.evidence) return;
    this.#observer.unobserve(img.parentElement);
    this.#segments.set(img.parentElement, img);
    this.#observer.observe(img.parentElement);
  }

  clear() {
    for (const url of this.#kept.values()) URL.revokeObjectURL(url);
    this.#kept.clear();
    this.#queue = [];
  }

  #want(frame) {
    const img = this.#segments.get(frame);
    const segment = img && this.#segments.get(img);
    if (!segment) return;
    this.#observer.unobserve(frame);
    if (this.#kept.has(segment.segment_id)) this.#fill(img, segment.segment_id);
    else this.#queue.push({ img, segment, tries: 0 });
    this.#next();
  }

  async #next() {
    if (this.#busy >= AT_ONCE || !this.#queue.length) return;
    const wanted = this.#queue.shift();
    this.#busy += 1;
    try {
      await this.#fetch(wanted);
    } finally {
      await new Promise((done) => setTimeout(done, PACE));
      this.#busy -= 1;
      this.#next();
    }
  }

  async #fetch(wanted) {
    const id = wanted.segment.segment_id;
    if (!wanted.img.isConnected) return;
    try {
      const answer = await fetch(evidenceFile(id, "still.jpg"), { redirect: "error" });
      if (!answer.ok) throw new Error("not there yet");
      this.#keep(id, URL.createObjectURL(await answer.blob()));
      this.#fill(wanted.img, id);
    } catch {
      const wait = TRIES[wanted.tries];
      if (wait === undefined) return;
      wanted.tries += 1;
      setTimeout(() => {
        this.#queue.push(wanted);
        this.#next();
      }, wait);
    }
  }

  #keep(id, url) {
    this.#kept.set(id, url);
    if (this.#kept.size <= KEPT) return;
    const [oldest, old] = this.#kept.entries().next().value;
    this.#kept.delete(oldest);
    URL.revokeObjectURL(old);
  }

  #fill(img, id) {
    if (this.#segments.get(img)?.segment_id !== id) return;
    img.src = this.#kept.get(id);
    img.hidden = false;
  }
}
