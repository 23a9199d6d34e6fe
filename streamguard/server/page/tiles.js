/** The wall: a tile a stream, in the order of the server, so that each keeps its place. */

import { badge, copy, find, mark, say } from "./dom.js";
import { arrange } from "./layout.js";
import { count, latency, span, STATES } from "./words.js";

const LATE = 2; // seconds without a frame that are worth a look
const TROUBLE = /^(no frames|frozen|damaged|rate|stale)/; // reasons for somebody to look after the stream

export class Tiles {
  #list = find("#tiles");
  #wall = find("#wall");
  #none = find("#none");
  #tiles = new Map(); // stream -> its button
  #store;
  #freshness;
  #previews;
  #open;
  #show = "all";
  #find = "";
  #observer;

  constructor({ store, freshness, previews, open }) {
    this.#store = store;
    this.#freshness = freshness;
    this.#previews = previews;
    this.#open = open;
    this.#observer = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) this.#previews.seen(target.dataset.stream, isIntersecting);
      },
      { root: this.#wall },
    );
    new ResizeObserver(() => this.#arrange()).observe(this.#wall);
    this.#list.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.#open(tile.dataset.stream);
    });
    this.#list.addEventListener("focusin", (event) => this.#current(event.target.closest(".tile")));
    this.#list.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show `all` streams, or those of one state. */
  show(state) {
    this.#show = state;
    this.update();
  }

  find(text) {
    this.#find = text.trim().toLowerCase();
    this.update();
  }

  focus() {
    (find("#tiles").querySelector('.tile[tabindex="0"]') ?? this.#wall).focus();
  }

  pictured(name, has) {
    const tile = this.#tiles.get(name);
    if (tile) mark(tile, "data-picture", has);
  }

  update() {
    const link = this.#freshness.judge(performance.now());
    const known = link !== "gone";
    const streams = [...this.#store.streams.values()];
    for (const [name, tile] of this.#tiles) if (!this.#store.streams.has(name)) this.#remove(name, tile);
    let shown = 0;
    let changed = false;
    for (const [at, stream] of streams.entries()) {
      const tile = this.#tiles.get(stream.name) ?? this.#add(stream.name);
      const item = tile.parentElement;
      if (this.#list.children[at] !== item) this.#list.insertBefore(item, this.#list.children[at] ?? null);
      const hidden = !this.#wanted(stream);
      changed ||= item.hidden !== hidden;
      item.hidden = hidden;
      shown += hidden ? 0 : 1;
      this.#fill(tile, stream, known);
    }
    this.#say(streams.length, shown, link);
    if (changed || Number(this.#list.dataset.count) !== shown) this.#arrange(shown);
    this.#reachable();
  }

  #wanted(stream) {
    const named = !this.#find || stream.name.toLowerCase().includes(this.#find);
    return named && (this.#show === "all" || stream.state === this.#show);
  }

  #say(all, shown, link) {
    this.#none.hidden = shown > 0;
    if (shown) return;
    const why = link === "waiting" ? "Waiting for the server." : "No stream is being watched.";
    say(this.#none, all ? "No stream is like that now." : why);
  }

  #add(name) {
    const item = copy("tile");
    const tile = find(".tile", item);
    tile.dataset.stream = name;
    tile.tabIndex = -1;
    say(find(".name", tile), name);
    this.#tiles.set(name, tile);
    this.#list.append(item);
    this.#previews.watch(name, find("canvas", tile));
    this.#observer.observe(tile);
    return tile;
  }

  #remove(name, tile) {
    this.#observer.unobserve(tile);
    this.#previews.forget(name);
    this.#tiles.delete(name);
    tile.parentElement.remove();
  }

  #fill(tile, stream, known) {
    const state = known ? stream.state : "unknown";
    const faces = stream.tracks.length;
    mark(tile, "data-state", state);
    mark(tile, "data-trouble", known && state === "inconclusive" && (!stream.up || TROUBLE.test(stream.reason)));
    badge(find(".badge", tile), state, STATES[state]);
    say(find(".reason", tile), known ? (stream.reason ?? "") : "no connection");
    mark(find(".reason", tile), "title", known ? stream.reason : null);
    const age = this.#store.age(stream);
    this.#figure(tile, "faces", known ? count(faces, "face") : "");
    this.#figure(tile, "latency", known && stream.latency !== null ? latency(stream.latency) : "");
    this.#figure(tile, "age", known ? (age === null ? "no frame yet" : `${span(age)} ago`) : "", age === null || age > LATE);
    const tried = stream.reconnects ? count(stream.reconnects, "reconnect") : "";
    this.#figure(tile, "reconnects", known ? tried : "");
    const reason = known && stream.reason ? `: ${stream.reason}` : "";
    const seen = known ? `, ${count(faces, "face")}` : "";
    mark(tile, "aria-label", `${stream.name}, ${STATES[state].toLowerCase()}${reason}${seen}`);
  }

  #figure(tile, name, text, bad = false) {
    const figure = find(`[data-figure="${name}"]`, tile);
    say(figure, text);
    mark(figure, "data-bad", bad && text !== "");
  }

  #arrange(shown = this.#visible().length) {
    this.#list.dataset.count = shown;
    const style = getComputedStyle(this.#wall);
    const room = (sides) => sides.reduce((sum, side) => sum + parseFloat(style[`padding${side}`]), 0);
    const width = this.#wall.clientWidth - room(["Left", "Right"]);
    const height = innerWidth > 900 ? this.#wall.clientHeight - room(["Top", "Bottom"]) : Infinity;
    const { columns, tile } = arrange(Math.max(1, shown), width, height, parseFloat(getComputedStyle(this.#list).gap));
    this.#list.style.setProperty("--columns", columns);
    this.#list.style.setProperty("--tile", `${tile}px`);
    this.#list.dataset.columns = columns;
  }

  // The keyboard: one tile is in the order of tabs, the arrows move it.

  #visible() {
    return [...this.#list.children].filter((item) => !item.hidden).map((item) => find(".tile", item));
  }

  #reachable() {
    const visible = this.#visible();
    if (!visible.some((tile) => tile.tabIndex === 0)) this.#current(visible[0]);
  }

  #current(tile) {
    if (!tile) return;
    for (const each of this.#tiles.values()) each.tabIndex = each === tile ? 0 : -1;
  }

  #key(event) {
    const columns = Number(this.#list.dataset.columns);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const visible = this.#visible();
    const at = visible.indexOf(event.target.closest(".tile"));
    const to = Number.isFinite(step) ? at + step : step < 0 ? 0 : visible.length - 1;
    const tile = visible[to];
    if (!tile) return;
    this.#current(tile);
    tile.focus();
  }
}
