/**
 * The pictures of all streams that can be seen, over one connection: a browser has six to a server, a wall has 64 tiles.
 *
 * `watch(name, canvas)` says which canvas shows a stream, `seen(name, visible)` whether it can be seen. The server is
 * asked anew when that has changed; a picture that does not come any more is taken down rather than left standing.
 */

import { Parts } from "./parts.js";

const SETTLED = 200; // milliseconds: scrolling asks once
const FIRST = 500;
const LONGEST = 8000;
const STALE = 8000;

export class Previews {
  #canvases = new Map(); // stream -> canvas
  #visible = new Set();
  #came = new Map(); // stream -> when its last picture came
  #shown; // called with (stream, whether it has a picture)
  #abort = null;
  #asked = "";
  #timer = 0;
  #again = FIRST;
  #running = false;

  constructor(shown) {
    this.#shown = shown;
    setInterval(() => this.#takeDown(performance.now() - STALE), 1000);
    document.addEventListener("visibilitychange", () => this.#soon(0));
    addEventListener("resize", () => this.#soon());
  }

  /** Whether pictures are to be shown at all: not of a server that does not answer. */
  show(running) {
    if (this.#running === running) return;
    this.#running = running;
    if (!running) this.#takeDown(Infinity);
    this.#soon(0);
  }

  watch(name, canvas) {
    this.#canvases.set(name, canvas);
  }

  forget(name) {
    this.#canvases.delete(name);
    this.seen(name, false);
  }

  seen(name, visible) {
    if (visible) this.#visible.add(name);
    else this.#visible.delete(name);
    this.#soon();
  }

  #soon(wait = SETTLED) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), wait);
  }

  /** What to ask for now; nothing where nobody looks. */
  #wanted() {
    const names = document.hidden || !this.#running ? [] : [...this.#visible].filter((name) => this.#canvases.has(name));
    if (!names.length) return "";
    const tallest = Math.max(...names.map((name) => this.#canvases.get(name).clientHeight));
    const height = [120, 180, 240, 360, 540].find((each) => each >= tallest * Math.min(devicePixelRatio, 1.5)) ?? 720;
    const query = new URLSearchParams(names.sort().map((name) => ["stream", name]));
    query.append("height", height);
    return `/preview?${query}`;
  }

  async #ask() {
    const wanted = this.#wanted();
    if (wanted === this.#asked) return;
    this.#hangUp();
    this.#asked = wanted;
    if (!wanted) return;
    const abort = (this.#abort = new AbortController());
    try {
      const answer = await fetch(wanted, { cache: "no-store", redirect: "error", signal: abort.signal });
      if (!answer.ok) throw new Error(`refused with ${answer.status}`);
      const parts = new Parts((headers, bytes) => this.#picture(headers.get("x-stream"), bytes));
      const reader = answer.body.getReader();
      for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) parts.push(chunk.value);
    } catch {
      // cut off, refused or nonsense: asked again below
    }
    if (abort !== this.#abort) return; // something else is wanted by now
    this.#hangUp();
    this.#soon(this.#again);
    this.#again = Math.min(LONGEST, 2 * this.#again);
  }

  async #picture(name, bytes) {
    this.#again = FIRST;
    const canvas = this.#canvases.get(name);
    if (!canvas || !this.#running) return;
    try {
      const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
      if (canvas.width !== bitmap.width) canvas.width = bitmap.width;
      if (canvas.height !== bitmap.height) canvas.height = bitmap.height;
      canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    } catch {
      return; // half a picture is none
    }
    if (!this.#running) return; // it was unpacked for too long
    this.#came.set(name, performance.now());
    this.#shown(name, true);
  }

  #takeDown(before) {
    for (const [name, at] of this.#came) {
      if (at >= before) continue;
      this.#came.delete(name);
      this.#shown(name, false);
    }
  }

  #hangUp() {
    this.#abort?.abort();
    this.#abort = null;
    this.#asked = "";
  }
}
