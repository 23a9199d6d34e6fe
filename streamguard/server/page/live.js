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
  #run = null; // what is running: another one after somebody else signed in
  #before = null; // where the list of segments goes on
  #nudge = () => {};
  #listed = -Infinity;

  constructor(store, freshness, signedOut) {
    this.#store = store;
    this.#freshness = freshness;
    this.#signedOut = signedOut;
    document.addEventListener("visibilitychange", () => {
      if (!this.#run) return;
      if (document.hidden) this.#hangUp(); // a browser has six connections to a server, for all its tabs
      else this.#listen();
      this.#nudge();
    });
  }

  start() {
    this.#run = {};
    this.#before = null;
    this.#listed = -Infinity;
    this.#freshness.forget();
    this.#poll(this.#run);
    this.#listen();
  }

  stop() {
    this.#run = null;
    this.#hangUp();
    this.#nudge();
  }

  async #poll(run) {
    while (this.#run === run) {
      const began = performance.now();
      await this.#look(run);
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

  async #look(run) {
    try {
      const answer = await ask("GET", "/streams");
      if (this.#run !== run) return;
      this.#freshness.heard(performance.now());
      this.#store.streamsCame(answer);
      if (!this.#store.points.default) this.#store.pointsCame(await ask("GET", "/operating-points"));
      const silent = this.#feed?.readyState !== EventSource.OPEN;
      if (silent && performance.now() - this.#listed > LIST) await this.#list();
    } catch (error) {
      if (this.#run === run && error instanceof Refused && error.status === 401) this.#signedOut(error.message);
      // Whatever else it was, there was no answer: time tells what to make of it.
    }
  }

  async #list() {
    this.#listed = performance.now();
    const { segments, before } = await ask("GET", `/segments?limit=${PAGE}`);
    this.#before ??= before;
    this.#store.segmentsCame(segments);
  }

  /** Whether the server has earlier segments than those that are known here. */
  get more() {
    return this.#before !== null;
  }

  /** Fetch earlier segments. */
  async older() {
    if (!this.more) return;
    const { segments, before } = await ask("GET", `/segments?limit=${PAGE}&before=${encodeURIComponent(this.#before)}`);
    this.#before = before;
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
      setTimeout(() => this.#run && !document.hidden && this.#listen(), this.#again);
      this.#again = Math.min(LONGEST, 2 * this.#again);
    });
  }

  #hangUp() {
    this.#feed?.close();
    this.#feed = null;
  }
}
