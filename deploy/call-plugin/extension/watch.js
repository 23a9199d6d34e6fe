/** Watches the videos of one frame: finds them, sends a copy of each, and shows what is said of it. */

import { Badges } from './badges.js';
import { fetchThroughWorker } from './bridge.js';
import { attach, describe } from './streamguard.js';
import { isShown, stillPlays, trackOf, videosIn } from './videos.js';

// That a shadow tree was attached, or another stream put in, is announced by nothing: so the page is looked through.
const LOOK = 1000; // milliseconds
const MOST = 9; // videos of a page

/** @typedef {{ of: unknown, badge: ReturnType<Badges['add']>, end: () => void }} Watched */

/** @type {Map<HTMLVideoElement, Watched>} */
const watched = new Map();
const badges = new Badges();
/** @type {ReturnType<typeof setInterval> | undefined} */
let looking;
let server = '';

/** Begin, or go on. */
export async function start() {
  if (looking !== undefined) return;
  looking = setInterval(look, LOOK);
  ({ server } = await chrome.runtime.sendMessage({ kind: 'start' }));
  badges.show();
  addEventListener('scroll', place, { capture: true, passive: true });
  addEventListener('resize', place);
  look();
}

function stop() {
  clearInterval(looking);
  looking = undefined;
  removeEventListener('scroll', place, { capture: true });
  removeEventListener('resize', place);
  for (const video of [...watched.keys()]) drop(video);
  badges.hide();
}

chrome.runtime.onMessage.addListener((/** @type {{ kind: string }} */ { kind }) => {
  if (kind === 'stop') stop();
});

function look() {
  for (const [video, { of }] of [...watched]) {
    if (!isShown(video) || !stillPlays(video, of)) drop(video);
  }
  for (const video of videosIn(document)) {
    if (!watched.has(video) && isShown(video)) watched.set(video, take(video));
  }
  place();
}

/** @param {HTMLVideoElement} video @returns {Watched} */
function take(video) {
  const badge = badges.add();
  const { of, track, captured } = trackOf(video);
  let why = null;
  if (!server) why = 'no server set (options)';
  else if (watched.size >= MOST) why = 'too many videos';
  else if (track === null) why = captured ? 'protected video' : 'no video';
  if (track === null || why !== null) {
    if (captured) track?.stop();
    badge.say('inconclusive', `inconclusive: ${why}`);
    return { of, badge, end: () => {} };
  }
  // The name says nothing of the page: whoever keeps the server need not know where its users are.
  const guard = attach(track, { server, stream: `web-${crypto.randomUUID()}`, fetch: fetchThroughWorker });
  const say = () => badge.say(guard.current.state, describe(guard.current));
  guard.on('state', say);
  say();
  return {
    of,
    badge,
    end: () => {
      void guard.detach();
      if (captured) track.stop();
    },
  };
}

/** @param {HTMLVideoElement} video */
function drop(video) {
  const { badge, end } = /** @type {Watched} */ (watched.get(video));
  watched.delete(video);
  badge.remove();
  end();
}

function place() {
  for (const [video, { badge }] of watched) badge.place(video);
}
