/**
 * News: the state of all streams once a second, and the feed of events in between.
 *
 * The feed makes a change seen at once; that nothing is stale hangs on the asking, which has an answer or has none.
 */

import { ask, Refused } from "./api.js";

const EVERY = 1000; // milliseconds
const HIDDEN = 10000;
const LIST = 5000; // from one look at the list of segments to the next, while there is no feed
const FIRST = 1000;
const LONGEST = 30000;
const PAGE = 200; // segments

export class Live {
  #store;
  #freshness;
  #signedOut;
  #feed = null;
  #again = FIRST;
  #running = false;
  #nudge = () => {};
  #listed = -Infinity;

  constructor(store, freshness, signedOut) {
    this.#store = store;
    this.#freshness = freshness;
    this.#signedOut = signedOut;
    document.addEventListener("visibilitychange", () => {
      if (!this.#running) return;
      if (document.hidden) this.#hangUp(); // a browser has six connections to a server, for all its tabs
      else this.#listen();
      this.#nudge();
    });
  }

  start() {
    this.#running = true;
    this.#freshness.forget();
    this.#poll();
    this.#listen();
  }

  stop() {
    this.#running = false;
    this.#hangUp();
    this.#nudge();
  }

  /** Ask for the streams now rather than in a second. */
  soon() {
    this.#nudge();
  }

  async #poll() {
    while (this.#running) {
      const began = performance.now();
      await this.#look();
      const wait = document.hidden ? HIDDEN : EVERY;
      await new Promise((done) => {
        const timer = setTimeout(done, Math.max(200, wait - (performance.now() - began)));
        this.#nudge = () => {
          clearTimeout(timer);
          setTimeout(done, 150); // several changes at once are one question
        };
      });
      this.#nudge = () => {};
    }
  }

  async #look() {
    try {
      const answer = await ask("GET", "/streams");
      if (!this.#running) return;
      this.#freshness.heard(performance.now());
      this.#store.streamsCame(answer);
      if (!this.#store.points.default) this.#store.points = await ask("GET", "/operating-points");
      const silent = this.#feed?.readyState !== EventSource.OPEN;
      if (silent && performance.now() - this.#listed > LIST) await this.#list();
    } catch (error) {
      if (error instanceof Refused && error.status === 401) this.#signedOut(error.message);
      // Whatever else it was, there was no answer: time tells what to make of it.
    }
  }

  async #list() {
    this.#listed = performance.now();
    const { segments } = await ask("GET", `/segments?limit=${PAGE}`);
    this.#store.segmentsCame(segments);
  }

  #listen() {
    if (this.#feed) return;
    const feed = (this.#feed = new EventSource("/api/v1/events"));
    feed.addEventListener("open", () => {
      this.#again = FIRST;
      this.#list().catch(() => (this.#listed = -Infinity));
      this.#nudge();
    });
    feed.addEventListener("message", (message) => {
      if (!this.#store.eventCame(JSON.parse(message.data))) this.#nudge();
    });
    for (const missed of ["gap", "dropped"]) feed.addEventListener(missed, () => this.#list().catch(() => {}));
    feed.addEventListener("error", () => {
      if (feed.readyState !== EventSource.CLOSED || feed !== this.#feed) return; // it tries again by itself
      this.#hangUp();
      setTimeout(() => this.#running && !document.hidden && this.#listen(), this.#again);
      this.#again = Math.min(LONGEST, 2 * this.#again);
    });
  }

  #hangUp() {
    this.#feed?.close();
    this.#feed = null;
  }
}
