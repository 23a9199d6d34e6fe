/**
 * StreamGuard beside a call: a copy of one participant's video goes to a StreamGuard server, and what the server says
 * of the faces in it comes back. The call's own track is never touched, stopped or constrained.
 *
 *     import { attach, describe } from './streamguard.js';
 *
 *     const guard = attach(track, { server: 'https://guard.example', stream: 'anna', token: askForToken });
 *     guard.on('state', (state) => { badge.textContent = describe(state); });
 *
 * Video goes out by WHIP (RFC 9725). Events (CloudEvents 1.0) come back over the data channel `streamguard`, or as
 * server-sent events where no channel comes. While there is no connection the state is `inconclusive`, with the
 * reason: no data is never `clear`. No dependency; types and their descriptions: streamguard.d.ts.
 */

import { Door } from './parts/door.js';
import { Backoff } from './parts/retry.js';
import { EventText } from './parts/sse.js';
import { Trouble, aborted, happens, pause, troubleOf } from './parts/trouble.js';
import { Verdict, segmentOf } from './parts/verdict.js';

/** @typedef {import('./streamguard.js').ConnectionReport} ConnectionReport */
/** @typedef {import('./streamguard.js').StateReport} StateReport */

const CHANNEL = 'streamguard';
const LOOK = 0.2; // between looks at the call's own track: nothing announces that it is switched off; seconds, as all here
const GATHER = 2;
const CONNECT = 15;
const OPEN = 5; // then events are asked for in the other way
const RECOVER = 5;
const QUIET = 40; // the server says something every 15 s
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
const OPTIONS = ['server', 'stream', 'token', 'iceServers', 'fetch', 'targetAddressSpace'];

/** @type {typeof import('./streamguard.js').attach} */
export function attach(track, options) {
  if (track?.kind !== 'video') throw new TypeError('attach: expected a video track first.');
  return new Attachment(track, settingsOf(options));
}

/** @type {typeof import('./streamguard.js').describe} */
export function describe({ state, reason, score, threshold }) {
  if (state === 'inconclusive') return `inconclusive: ${reason}`;
  if (state === 'clear' || score === null || threshold === null) return state;
  return `flagged: ${score.toFixed(2)} (threshold ${threshold.toFixed(2)})`;
}

/** @param {import('./streamguard.js').AttachOptions} options */
function settingsOf(options) {
  const { server, stream, token, iceServers = [], fetch, targetAddressSpace } = options;
  const strange = Object.keys(options).find((name) => !OPTIONS.includes(name));
  if (strange) throw new TypeError(`option '${strange}' is not known; known: ${OPTIONS.join(', ')}.`);
  if (!NAME.test(stream)) {
    throw new TypeError(`stream is '${stream}': expected 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front.`);
  }
  if (typeof token === 'string' && !/^[\x21-\x7e]+$/.test(token)) {
    throw new TypeError('token: expected visible ASCII characters without a space.'); // it is not repeated
  }
  return { server: baseOf(server), stream, token, iceServers, fetch, targetAddressSpace };
}

/** @param {string | URL} server */
function baseOf(server) {
  if (!/^https?:\/\/[^/]/i.test(String(server))) {
    throw new TypeError('server: expected an absolute http or https URL, such as https://guard.example');
  }
  const { origin, pathname, username, password } = new URL(server);
  if (username || password) throw new TypeError('server: expected no user and password in it; give a token.');
  return new URL(pathname.replace(/\/*$/, '/'), origin);
}

class Attachment {
  #door;
  #iceServers;
  #original;
  #copy;
  #verdict = new Verdict();
  /** @type {Map<string, Set<Function>>} */
  #listeners = new Map([['state', new Set()], ['segment', new Set()], ['connection', new Set()]]);
  #over = new AbortController();
  #ended;
  /** @type {string | null} */
  #noMedia = 'connecting';
  /** @type {string | null} */
  #noEvents = 'connecting';
  /** @type {StateReport} */
  #current = { ...this.#verdict.current, reason: 'connecting' };
  /** @type {ConnectionReport} */
  #connection = { phase: 'connecting', via: null, reason: null, message: '', retryIn: null, attempt: 0 };
  /** @type {string | null} */
  #resource = null; // the WHIP session that is to be ended
  #since = Infinity; // when the connection came to be, milliseconds

  /** @param {MediaStreamTrack} track @param {ReturnType<typeof settingsOf>} settings */
  constructor(track, settings) {
    this.#door = new Door(settings);
    this.#iceServers = [...settings.iceServers];
    this.#original = track;
    this.#copy = track.clone();
    const looking = setInterval(() => this.#look(), LOOK * 1000);
    const leave = () => this.#leave();
    globalThis.addEventListener('pagehide', leave);
    // Listeners that are added right after attach() hear everything.
    this.#ended = Promise.resolve().then(() => this.#run()).finally(() => {
      clearInterval(looking);
      globalThis.removeEventListener('pagehide', leave);
      this.#copy.stop();
    });
  }

  get current() {
    return this.#current;
  }

  get connection() {
    return this.#connection;
  }

  /** @param {string} kind @param {Function} listener */
  on(kind, listener) {
    const heard = this.#listeners.get(kind);
    if (!heard) throw new TypeError(`on('${kind}'): expected 'state', 'segment' or 'connection'.`);
    heard.add(listener);
    return () => {
      heard.delete(listener);
    };
  }

  detach() {
    this.#over.abort(new Trouble('detached', '', { final: true }));
    return this.#ended;
  }

  /** @param {'state' | 'segment' | 'connection'} kind @param {object} report */
  #tell(kind, report) {
    for (const listener of this.#listeners.get(kind) ?? []) {
      try {
        listener(report);
      } catch (error) {
        reportError(error); // a listener's mistake is the page's, and ends nothing here
      }
    }
  }

  /** Tell the state if it changed: what the server said, or why nothing can be known. */
  #settle() {
    const off = this.#original.enabled ? null : 'video off';
    const reason = this.#noMedia ?? this.#noEvents ?? off ?? (this.#original.muted ? 'no video' : null);
    const said = this.#verdict.current;
    const none = { score: null, threshold: null, operatingPoint: null };
    const now = reason === null ? said : { ...said, ...none, state: /** @type {const} */ ('inconclusive'), reason };
    if (JSON.stringify(now) === JSON.stringify(this.#current)) return;
    this.#current = now;
    this.#tell('state', now);
  }

  /** @param {Partial<ConnectionReport>} report */
  #say(report) {
    this.#connection = { ...this.#connection, reason: null, message: '', retryIn: null, ...report };
    this.#tell('connection', this.#connection);
  }

  /** The copy is switched off, and ends, with the call's own track. */
  #look() {
    if (this.#original.readyState === 'ended') this.#over.abort(new Trouble('track ended', '', { final: true }));
    this.#copy.enabled = this.#original.enabled;
    this.#settle();
  }

  /** The page goes away: there is no time for an answer. */
  #leave() {
    if (this.#resource !== null) void this.#door.end(this.#resource, { keepalive: true });
    this.#resource = null;
    void this.detach();
  }

  async #run() {
    const backoff = new Backoff();
    for (;;) {
      this.#say({ phase: 'connecting', via: null, attempt: this.#connection.attempt + 1 });
      this.#since = Infinity;
      const trouble = await this.#session();
      this.#verdict.forget('no verdict yet');
      this.#noMedia = this.#noEvents = trouble.reason;
      this.#settle();
      const { reason, message } = trouble;
      if (trouble.final) {
        this.#say({ phase: 'closed', via: null, reason, message });
        return;
      }
      const retryIn = backoff.delay(trouble, Math.max(0, (performance.now() - this.#since) / 1000));
      this.#say({ phase: 'waiting', via: null, reason, message, retryIn });
      await pause(retryIn, this.#over.signal, 'online').catch(() => {}); // the next session throws what ended it
    }
  }

  /** One connection, from the offer to its end: why it ended. */
  async #session() {
    const over = this.#over.signal;
    const session = new AbortController();
    const abort = () => session.abort(over.reason);
    over.addEventListener('abort', abort);
    /** @type {RTCPeerConnection | null} */
    let peer = null;
    try {
      over.throwIfAborted();
      await this.#farewell(); // a server that did not hear of the last one's end holds the stream's name for it
      peer = new RTCPeerConnection({ iceServers: this.#iceServers });
      await this.#open(peer, session);
      return await aborted(session.signal);
    } catch (error) {
      session.abort(error);
      return troubleOf(over.aborted ? over.reason : error, 'no media connection');
    } finally {
      over.removeEventListener('abort', abort);
      peer?.close();
      await this.#farewell();
    }
  }

  /** @param {RTCPeerConnection} peer @param {AbortController} session */
  async #open(peer, session) {
    const { signal } = session;
    const channel = peer.createDataChannel(CHANNEL);
    channel.onmessage = ({ data }) => this.#hear(data);
    peer.addTransceiver(this.#copy, { direction: 'sendonly' });
    await peer.setLocalDescription();
    await happens(peer, 'icegatheringstatechange', () => peer.iceGatheringState === 'complete', GATHER, signal);
    const { answer, resource, iceServers } = await this.#door.offer(peer.localDescription?.sdp ?? '', signal);
    this.#resource = resource;
    this.#learn(iceServers);
    await peer.setRemoteDescription({ type: 'answer', sdp: answer });
    const settled = () => ['connected', 'failed', 'closed'].includes(peer.connectionState);
    await happens(peer, 'connectionstatechange', settled, CONNECT, signal);
    if (peer.connectionState !== 'connected') throw new Trouble('no media connection', 'ICE or DTLS came to nothing');
    this.#since = performance.now();
    this.#watch(peer, session);
    const open = () => channel.readyState === 'open';
    if (peer.sctp !== null && (await happens(channel, 'open', open, OPEN, signal))) {
      this.#noEvents = null;
      this.#say({ phase: 'connected', via: 'datachannel' });
      channel.onclose = () => session.abort(new Trouble('connection lost', 'the data channel was closed'));
    } else {
      channel.onmessage = null;
      this.#listen(signal).catch((error) => session.abort(error));
    }
    this.#settle();
  }

  /** @param {RTCIceServer[]} named Servers that the answer names come in time for the next attempt only. */
  #learn(named) {
    const known = new Set(this.#iceServers.map((each) => JSON.stringify(each)));
    this.#iceServers.push(...named.filter((each) => !known.has(JSON.stringify(each))));
  }

  /**
   * Watch over media that flow.
   *
   * @param {RTCPeerConnection} peer
   * @param {AbortController} session
   */
  #watch(peer, session) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let patience;
    const look = () => {
      const { connectionState } = peer;
      const lost = new Trouble('connection lost', `the media connection is ${connectionState}`);
      clearTimeout(patience);
      this.#noMedia = connectionState === 'connected' ? null : lost.reason;
      if (connectionState === 'disconnected') patience = setTimeout(() => session.abort(lost), RECOVER * 1000);
      else if (connectionState !== 'connected') session.abort(lost);
      this.#settle();
    };
    peer.onconnectionstatechange = look;
    session.signal.addEventListener('abort', () => {
      clearTimeout(patience);
      peer.onconnectionstatechange = null;
    });
    look();
  }

  /**
   * Events without a data channel, until `signal` is aborted.
   *
   * @param {AbortSignal} signal
   */
  async #listen(signal) {
    const backoff = new Backoff();
    const text = new EventText();
    this.#noEvents = 'waiting for the server';
    for (;;) {
      const begun = performance.now();
      const trouble = await this.#read(text, signal);
      signal.throwIfAborted();
      this.#noEvents = trouble.reason;
      this.#settle();
      const retryIn = backoff.delay(trouble, (performance.now() - begun) / 1000);
      this.#say({ phase: 'waiting', via: 'sse', reason: trouble.reason, message: trouble.message, retryIn });
      await pause(retryIn, signal, 'online');
    }
  }

  /**
   * One answer of events, from its head to its end: why it ended.
   *
   * @param {EventText} text
   * @param {AbortSignal} signal
   */
  async #read(text, signal) {
    const reading = new AbortController();
    const stop = () => reading.abort(signal.reason);
    signal.addEventListener('abort', stop);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let quiet;
    const lost = () => reading.abort(new Trouble('connection lost', `not a word for ${QUIET} s`));
    try {
      const body = await this.#door.events(text.lastId, reading.signal);
      text.restart();
      this.#noEvents = null;
      this.#say({ phase: 'connected', via: 'sse' });
      this.#settle();
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        quiet = setTimeout(lost, QUIET * 1000);
        const { done, value } = await reader.read();
        clearTimeout(quiet);
        if (done) return new Trouble('connection lost', 'the server ended its events');
        for (const { type, data } of text.push(value)) {
          if (type === 'message') this.#hear(data);
          else this.#missed(); // `gap`, `dropped`: something happened that was not told
        }
      }
    } catch (error) {
      return troubleOf(reading.signal.aborted ? reading.signal.reason : error, 'connection lost');
    } finally {
      clearTimeout(quiet);
      signal.removeEventListener('abort', stop);
    }
  }

  /** @param {unknown} data The text of an event. */
  #hear(data) {
    /** @type {import('./streamguard.js').CloudEvent} */
    let event;
    try {
      event = JSON.parse(String(data));
      this.#verdict.take(event);
    } catch {
      this.#missed();
      return;
    }
    const segment = segmentOf(event);
    if (segment !== null) this.#tell('segment', segment);
    this.#settle();
  }

  #missed() {
    this.#verdict.forget('events missed');
    this.#settle();
  }

  /** Tell the server that the session is over; if that can't be done, it is tried again before the next one. */
  async #farewell() {
    const resource = this.#resource;
    if (resource === null) return;
    const heard = await this.#door.end(resource);
    if (heard) this.#resource = null;
  }
}
