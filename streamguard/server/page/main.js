/** The page, put together: who is signed in, what is shown, which key does what. */

import { ask, Refused } from "./api.js";
import { dialog, find, mark, say } from "./dom.js";
import { Freshness } from "./freshness.js";
import { Live } from "./live.js";
import { list, strip } from "./passages.js";
import { Previews } from "./previews.js";
import { SegmentDialog } from "./segment.js";
import { Stills } from "./stills.js";
import { Store } from "./store.js";
import { news, StreamDialog, tally } from "./stream.js";
import { themes } from "./theme.js";
import { Tiles } from "./tiles.js";
import { hour, span } from "./words.js";

const PAGE = 100; // passages shown at first, and more at a time

const store = new Store();
const freshness = new Freshness();
const stills = new Stills();
const live = new Live(store, freshness, signedOut);
const segment = new SegmentDialog({ store, current: (id) => ((opened = id), passages()) });
const stream = new StreamDialog({ store, freshness, stills, openSegment: (id) => segment.open(id) });
const previews = new Previews((name, has) => tiles.pictured(name, has));
const tiles = new Tiles({ store, freshness, previews, open: (name) => stream.open(name) });
const help = dialog(find("#help"));
const nextTheme = themes();

let opened = null; // the passage on the screen
let most = PAGE;
let states = new Map(); // of streams, at the last look
let since = null; // when the server was heard of last

// What is shown.

function streams() {
  const counts = tally(store.streams.values());
  for (const button of document.querySelectorAll("[data-show]")) {
    say(find("b", button), String(counts[button.dataset.show]));
    mark(button, "data-any", counts[button.dataset.show] > 0);
  }
  const said = news(states, store.streams.values());
  if (said || !counts.flagged) say(find("#spoken"), said ?? "");
  states = new Map([...store.streams.values()].map((each) => [each.name, each.state]));
  document.title = counts.flagged ? `(${counts.flagged}) StreamGuard` : "StreamGuard";
  tiles.update();
  stream.update();
}

function passages() {
  const found = store.newest();
  list(find("#passages"), found.slice(0, most), stills, (id) => segment.open(id));
  for (const item of find("#passages").children) mark(find("button", item), "aria-current", item.dataset.segment === opened ? "true" : null);
  find("#no-passages").hidden = found.length > 0;
  find("#more").hidden = found.length <= most && !live.more;
  strip(find("#strip"), found, store.now(), Number(find("#span").value), (id) => segment.open(id));
  segment.update();
  stream.update();
}

const LINKS = { waiting: "Connecting", live: "Live", late: "Late", gone: "No connection" };

function tick() {
  const now = performance.now();
  const link = freshness.judge(now);
  mark(find("#link"), "data-link", link);
  mark(find("#room"), "data-link", link);
  say(find("#link span"), LINKS[link]);
  say(find("#wall-clock"), hour(new Date()));
  if (store.who) previews.show(link !== "gone");
  if (link === "live") since = new Date();
  const gone = link === "gone" && since;
  const words = gone ? `The server is not reached since ${hour(since)}. Nothing on this page is of now.` : "";
  say(find("#notice"), words);
  if (gone) document.title = `No connection for ${span(freshness.age(now) / 1000)} - StreamGuard`;
  tiles.update();
  stream.update();
}

store.addEventListener("streams", streams);
store.addEventListener("segments", passages);

// Who is there.

function enter(who) {
  store.who = who;
  say(find("#who"), `${who.name}, ${who.role}`);
  find("#door").hidden = true;
  find("#room").hidden = false;
  live.start();
  previews.show(true);
}

function signedOut(why = "") {
  store.who = null;
  live.stop();
  previews.show(false);
  stills.clear();
  for (const node of document.querySelectorAll("dialog[open]")) node.close();
  store.streams.clear();
  store.segments.clear();
  freshness.forget();
  since = null;
  streams();
  passages();
  find("#room").hidden = true;
  find("#door").hidden = false;
  say(find("#sign-in-error"), why);
  find("#token").focus();
}

find("#sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = find("#token");
  try {
    const who = await ask("POST", "/session", { token: field.value.trim() });
    field.value = "";
    say(find("#sign-in-error"), "");
    enter(who);
  } catch (error) {
    say(find("#sign-in-error"), error instanceof Refused ? error.message : "The server is not reached.");
  }
});

find("#sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/session").catch(() => {});
  signedOut();
});

// What can be done.

function show(state) {
  for (const button of document.querySelectorAll("[data-show]")) mark(button, "aria-pressed", String(button.dataset.show === state));
  tiles.show(state);
}

for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => show(button.dataset.show));
find("#filter").addEventListener("input", (event) => tiles.find(event.target.value));
find("#filter").addEventListener("keydown", (event) => event.key === "Escape" && tiles.focus());
find("#span").addEventListener("change", passages);
find("#more").addEventListener("click", async () => {
  most += PAGE;
  if (store.segments.size < most) await live.older().catch(() => {});
  passages();
});
find("#help-open").addEventListener("click", () => help.showModal());

const KEYS = {
  "?": () => help.showModal(),
  "/": () => find("#filter").focus(),
  f: () => show(find('[data-show="flagged"]').getAttribute("aria-pressed") === "true" ? "all" : "flagged"),
  t: nextTheme,
  w: () => tiles.focus(),
  p: () => find("#passages").querySelector("button")?.focus(),
  j: () => walk(1),
  k: () => walk(-1),
};

/** From passage to passage: in the dialog, or in the list. */
function walk(by) {
  if (segment.opened) return segment.step(by);
  const buttons = [...find("#passages").querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  buttons[at < 0 ? 0 : at + by]?.focus();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("textarea, select, input:not([type=radio]):not([type=range])");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || find("#room").hidden) return;
  const another = [...document.querySelectorAll("dialog[open]")].some((node) => node.id !== "segment-dialog");
  if (another || (segment.opened && !"jk".includes(event.key))) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

setInterval(tick, 1000);
ask("GET", "/session").then(enter, (error) => {
  const known = error instanceof Refused && error.status === 401;
  signedOut(known ? "" : "The server is not reached.");
});
