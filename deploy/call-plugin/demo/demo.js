/** Two participants in one page, each watched as the other receives them. */

import { attach, describe } from '../streamguard.js';

/** @typedef {import('../streamguard.js').Guard} Guard */

const WIDTH = 960;
const HEIGHT = 540;

/** @type {(() => unknown)[]} What is to be ended when the call is. */
const running = [];

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind */
function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`no #${id}`);
  return found;
}

const form = byId('settings', HTMLFormElement);
const start = byId('start', HTMLButtonElement);
const stop = byId('stop', HTMLButtonElement);
const notice = byId('notice', HTMLElement);

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const [server, token, call] = ['server', 'token', 'call'].map((name) => String(fields.get(name)));
  notice.textContent = '';
  start.disabled = true;
  begin({ server, token, call }).then(
    () => {
      stop.disabled = false;
    },
    (error) => {
      notice.textContent = String(error);
      hangUp();
    },
  );
});
stop.addEventListener('click', hangUp);

/** @param {{ server: string, token: string, call: string }} settings */
async function begin({ server, token, call }) {
  const participants = [
    { name: 'Anna', picture: await camera() },
    { name: 'Ben', picture: drawing() },
  ];
  for (const { name, picture } of participants) {
    const tile = show(name);
    if (picture === null) continue;
    const received = await carry(picture);
    tile.video.srcObject = new MediaStream([received]);
    const guard = attach(received, { server, token, stream: `${call}.${name.toLowerCase()}` });
    running.push(() => guard.detach());
    watch(guard, tile);
  }
}

async function camera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: WIDTH, height: HEIGHT } });
    const [track] = stream.getVideoTracks();
    running.push(() => track.stop());
    return track;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : '';
    notice.textContent =
      name === 'NotAllowedError'
        ? 'The browser does not let this page use the camera. Allow it at the address bar, then start again. Ben is watched alone.'
        : 'This machine has no camera that can be used. Ben is watched alone.';
    return null;
  }
}

/** A participant without a face: what is not there to be judged is never clear. */
function drawing() {
  const canvas = Object.assign(document.createElement('canvas'), { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext('2d');
  if (context === null) throw new TypeError('no 2d context');
  const started = performance.now();
  const timer = setInterval(() => {
    const angle = (performance.now() - started) / 1000;
    context.fillStyle = '#203040';
    context.fillRect(0, 0, WIDTH, HEIGHT);
    context.fillStyle = '#80c0ff';
    context.beginPath();
    context.arc(WIDTH / 2 + 200 * Math.cos(angle), HEIGHT / 2 + 100 * Math.sin(angle), 60, 0, 2 * Math.PI);
    context.fill();
  }, 40);
  const [track] = canvas.captureStream(25).getVideoTracks();
  running.push(() => clearInterval(timer), () => track.stop());
  return track;
}

/**
 * Through a call: what the other side receives.
 *
 * @param {MediaStreamTrack} track
 * @returns {Promise<MediaStreamTrack>}
 */
async function carry(track) {
  const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
  running.push(() => from.close(), () => to.close());
  from.onicecandidate = ({ candidate }) => void to.addIceCandidate(candidate ?? undefined);
  to.onicecandidate = ({ candidate }) => void from.addIceCandidate(candidate ?? undefined);
  /** @type {Promise<MediaStreamTrack>} */
  const received = new Promise((resolve) => {
    to.ontrack = (event) => resolve(event.track);
  });
  const sender = from.addTransceiver(track, { direction: 'sendonly', sendEncodings: [{ maxBitrate: 4e6 }] }).sender;
  // A face says most at full size; a call that is short of bandwidth would shrink it first.
  const parameters = /** @type {any} */ (sender.getParameters());
  await sender.setParameters(Object.assign(parameters, { degradationPreference: 'maintain-resolution' }));
  await from.setLocalDescription();
  await to.setRemoteDescription(/** @type {RTCSessionDescription} */ (from.localDescription));
  await to.setLocalDescription();
  await from.setRemoteDescription(/** @type {RTCSessionDescription} */ (to.localDescription));
  return received;
}

/** @param {string} name */
function show(name) {
  const tile = /** @type {DocumentFragment} */ (byId('participant', HTMLTemplateElement).content.cloneNode(true));
  /** @param {string} selector @returns {any} */
  const part = (selector) => tile.querySelector(selector);
  part('h2').textContent = name;
  part('article').id = name.toLowerCase();
  const parts = { video: part('video'), badge: part('.badge'), connection: part('.connection'), segments: part('.segments') };
  byId('participants', HTMLElement).append(tile);
  return parts;
}

/** @param {Guard} guard @param {ReturnType<typeof show>} tile */
function watch(guard, { badge, connection, segments }) {
  const state = () => {
    badge.textContent = describe(guard.current);
    badge.dataset.state = guard.current.state;
  };
  guard.on('state', state);
  guard.on('connection', ({ phase, via, reason, message, retryIn }) => {
    const again = retryIn === null ? '' : `; again in ${retryIn.toFixed(0)} s`;
    connection.textContent = [phase, via && `by ${via}`, reason, message].filter(Boolean).join(', ') + again;
  });
  guard.on('segment', ({ kind, id, startedAt, endedAt, score }) => {
    const line = segments.querySelector(`[data-id="${CSS.escape(id)}"]`) ?? segments.appendChild(document.createElement('li'));
    line.dataset.id = id;
    line.dataset.kind = kind;
    line.textContent = `${startedAt} to ${endedAt ?? 'now'}: mean ${score.mean.toFixed(2)}, peak ${score.peak.toFixed(2)}`;
  });
  state();
}

function hangUp() {
  for (const end of running.splice(0)) void end();
  byId('participants', HTMLElement).replaceChildren();
  start.disabled = false;
  stop.disabled = true;
}
