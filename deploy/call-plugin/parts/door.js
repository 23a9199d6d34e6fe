/** The server's HTTP face as one attachment uses it: WHIP (RFC 9725) and events, each request with the token. */

import { retryAfter } from './retry.js';
import { Trouble } from './trouble.js';

/** @typedef {import('../streamguard.js').ConnectionReason} ConnectionReason */

const PATIENCE = 30; // seconds; a person may have to answer the browser's question about the local network first
const FAREWELL = 5;
const VIOLATION = 'securitypolicyviolation';

/** @type {Record<number, [ConnectionReason, boolean]>} Reason, and whether to come back seldom. */
const REFUSALS = {
  401: ['token refused', true],
  403: ['token refused', true],
  404: ['no such service', true],
  405: ['no such service', true],
  409: ['stream taken', false],
  429: ['server full', false],
  503: ['server full', false],
};

/**
 * @typedef {object} DoorSettings
 * @property {URL} server ends with a slash
 * @property {string} stream
 * @property {string | (() => string | Promise<string>) | undefined} token
 * @property {typeof globalThis.fetch | undefined} fetch
 * @property {'local' | 'loopback' | undefined} targetAddressSpace
 */

export class Door {
  #settings;
  #token = '';

  /** @param {DoorSettings} settings */
  constructor(settings) {
    this.#settings = settings;
  }

  /**
   * Ask for a session.
   *
   * @param {string} sdp
   * @param {AbortSignal} signal
   * @returns {Promise<{ answer: string, resource: string | null, iceServers: RTCIceServer[] }>}
   */
  async offer(sdp, signal) {
    const { server, stream } = this.#settings;
    await this.#fetchToken();
    const headers = { 'Content-Type': 'application/sdp', Accept: 'application/sdp' };
    const answered = await this.#send('POST', new URL(`whip/${stream}`, server), { headers, body: sdp }, signal);
    if (!answered.ok) throw await refusal(answered);
    const type = answered.headers.get('Content-Type')?.split(';')[0].trim().toLowerCase();
    const location = answered.headers.get('Location');
    // Without a Location the session can't be ended: the server frees it when the media stop.
    const resource = location === null ? null : new URL(location, answered.url || server).href;
    if (answered.status !== 201 || type !== 'application/sdp') {
      throw new Trouble('no such service', `expected 201 with application/sdp, found ${answered.status} with ${type}`, {
        denied: true,
      });
    }
    return { answer: await answered.text(), resource, iceServers: iceServers(answered.headers.get('Link')) };
  }

  /**
   * End a session: whether the server heard of it.
   *
   * @param {string} resource
   * @param {{ keepalive?: boolean }} how `keepalive`: the page goes away meanwhile
   */
  async end(resource, { keepalive = false } = {}) {
    const { signal } = new AbortController();
    return this.#send('DELETE', new URL(resource), { keepalive }, signal, FAREWELL).then(() => true, () => false);
  }

  /**
   * The stream's events, to be read from the answer's body.
   *
   * @param {string} lastId
   * @param {AbortSignal} signal for as long as they are read
   */
  async events(lastId, signal) {
    const { server, stream } = this.#settings;
    await this.#fetchToken();
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' };
    if (lastId) headers['Last-Event-ID'] = lastId;
    const answered = await this.#send('GET', new URL(`api/v1/events?stream=${stream}`, server), { headers }, signal);
    if (!answered.ok || answered.body === null) throw await refusal(answered);
    return answered.body;
  }

  async #fetchToken() {
    const { token } = this.#settings;
    try {
      this.#token = (typeof token === 'function' ? await token() : token) ?? '';
    } catch {
      // What it throws may hold the token, so it is not repeated.
      throw new Trouble('token refused', 'the function given as token threw an error', { denied: true });
    }
  }

  /**
   * @param {string} method
   * @param {URL} url
   * @param {RequestInit} init
   * @param {AbortSignal} signal
   * @param {number} patience seconds until the head of an answer
   */
  async #send(method, url, init, signal, patience = PATIENCE) {
    const { fetch, targetAddressSpace } = this.#settings;
    const headers = new Headers(init.headers);
    if (this.#token) headers.set('Authorization', `Bearer ${this.#token}`);
    const answering = new AbortController();
    const late = setTimeout(() => answering.abort(), patience * 1000);
    const stop = () => answering.abort();
    signal.addEventListener('abort', stop, { once: true }); // it stays: the answer's body is read under it too
    if (signal.aborted) stop();
    const violation = watchPolicy(url);
    try {
      const request = { cache: 'no-store', credentials: 'omit', referrerPolicy: 'no-referrer', targetAddressSpace };
      const whole = /** @type {RequestInit} */ ({ ...request, ...init, method, headers, signal: answering.signal });
      return await (fetch ?? globalThis.fetch)(url.href, whole);
    } catch {
      // A browser tells a page nothing of why a request failed, so it is found out otherwise.
      if (signal.aborted) throw signal.reason;
      throw fetch ? new Trouble('server not reached') : await diagnosis(url, targetAddressSpace, violation);
    } finally {
      clearTimeout(late);
      violation.stop();
    }
  }
}

/**
 * STUN and TURN servers that a `Link` header names (RFC 9725 4.6; RFC 8288).
 *
 * @param {string | null} link
 */
export function iceServers(link) {
  /** @type {RTCIceServer[]} */
  const found = [];
  const parameter = String.raw`\s*;\s*[^\s=;,"]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]+))?`;
  for (const [, urls, text] of (link ?? '').matchAll(new RegExp(`<([^>]*)>((?:${parameter})*)`, 'g'))) {
    /** @type {Record<string, string>} */
    const named = {};
    for (const [, name, quoted, bare] of text.matchAll(/;\s*([^\s=;]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+)))?/g)) {
      named[name.toLowerCase()] ??= quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '';
    }
    if (!named.rel?.split(/\s+/).includes('ice-server')) continue;
    const { username, credential } = named;
    found.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return found;
}

/** @param {Response} answered */
async function refusal(answered) {
  const { status, headers } = answered;
  const [reason, denied] = REFUSALS[status] ?? (status < 500 ? ['refused', true] : ['server error', false]);
  let detail = '';
  if (headers.get('Content-Type')?.startsWith('application/problem+json')) {
    detail = await answered.json().then((problem) => String(problem?.detail ?? ''), () => '');
  }
  const after = retryAfter(headers.get('Retry-After'));
  return new Trouble(/** @type {ConnectionReason} */ (reason), detail || `HTTP ${status}`, { denied, after });
}

/** @param {URL} url Notes whether the page's policy (CSP) blocks a request to its origin. */
function watchPolicy({ origin }) {
  const seen = { blocked: false, stop };
  /** @param {Event} event */
  function note(event) {
    const { disposition, effectiveDirective, blockedURI } = /** @type {SecurityPolicyViolationEvent} */ (event);
    if (disposition === 'enforce' && effectiveDirective === 'connect-src' && blockedURI.startsWith(origin)) {
      seen.blocked = true;
    }
  }
  function stop() {
    globalThis.document?.removeEventListener(VIOLATION, note);
  }
  globalThis.document?.addEventListener(VIOLATION, note);
  return seen;
}

/**
 * @param {URL} url
 * @param {'local' | 'loopback' | undefined} space
 * @param {{ blocked: boolean }} violation
 */
async function diagnosis(url, space, violation) {
  await new Promise((resolve) => setTimeout(resolve, 50)); // a violation is told a little later
  if (violation.blocked) {
    const how = `the page's Content-Security-Policy has no connect-src for ${url.origin}`;
    return new Trouble('blocked by content security policy', how, { final: true });
  }
  const near = space ?? nearness(url.hostname);
  if (near && !nearness(globalThis.location.hostname) && !(await mayReach(near))) {
    const how = `the browser did not let this page reach ${url.host} in the local network`;
    return new Trouble('local network refused', how, { denied: true });
  }
  if (globalThis.location.protocol === 'https:' && url.protocol === 'http:' && !near) {
    return new Trouble('mixed content', `an https page can't reach ${url.origin}; serve it by https`, { final: true });
  }
  return new Trouble('server not reached', `no answer of ${url.origin}, or it does not allow ${globalThis.origin} (CORS)`);
}

/**
 * Whether the person allowed it; where a browser does not ask, the page may.
 *
 * @param {'local' | 'loopback'} near
 */
async function mayReach(near) {
  if (!globalThis.isSecureContext) return false; // such pages are not even asked for
  // One permission for both in older versions.
  for (const name of [near === 'loopback' ? 'loopback-network' : 'local-network', 'local-network-access']) {
    try {
      const { state } = await navigator.permissions.query({ name: /** @type {PermissionName} */ (name) });
      return state === 'granted';
    } catch {
      continue; // this browser knows no such permission
    }
  }
  return true;
}

/**
 * Whether a host is this machine, or a private or link-local address or a name of such; null: neither, as it looks.
 *
 * @param {string} host
 * @returns {'local' | 'loopback' | null}
 */
export function nearness(host) {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (/^((.+\.)?localhost|127\.[\d.]+|::1)$/.test(bare)) return 'loopback';
  const local = /^(.+\.local|(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01]))\.[\d.]+|(f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]):.*)$/;
  return local.test(bare) ? 'local' : null;
}
