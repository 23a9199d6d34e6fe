/** Why there is no connection, and waiting for things that may end in it. */

/** @typedef {import('../streamguard.js').ConnectionReason} ConnectionReason */

/** `denied`: to be tried seldom; `final`: not again on this page; `after`: seconds that the server asked for. */
export class Trouble extends Error {
  /**
   * @param {ConnectionReason} reason
   * @param {string} message
   * @param {{ denied?: boolean, final?: boolean, after?: number | null }} how
   */
  constructor(reason, message = '', { denied = false, final = false, after = null } = {}) {
    super(message);
    this.name = 'Trouble';
    this.reason = reason;
    this.denied = denied;
    this.final = final;
    this.after = after;
  }
}

/**
 * @param {unknown} error
 * @param {ConnectionReason} reason of what is the browser's own
 */
export function troubleOf(error, reason) {
  return error instanceof Trouble ? error : new Trouble(reason, String(error));
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<never>} rejects with its reason
 */
export function aborted(signal) {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/**
 * @param {number} seconds
 * @param {AbortSignal} signal rejects with its reason
 * @param {string} [early] an event of the window that ends the wait
 * @returns {Promise<void>}
 */
export function pause(seconds, signal, early) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      if (early) globalThis.removeEventListener(early, over);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(over, seconds * 1000);
    signal.addEventListener('abort', over);
    if (early) globalThis.addEventListener(early, over);
  });
}

/**
 * Until `so()` holds, asked at every `event` of `target`, or `seconds` are over: whether it holds.
 *
 * @param {EventTarget} target
 * @param {string} event
 * @param {() => boolean} so
 * @param {number} seconds
 * @param {AbortSignal} signal rejects with its reason
 * @returns {Promise<boolean>}
 */
export function happens(target, event, so, seconds, signal) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (signal.aborted) reject(signal.reason);
      else if (so()) resolve(true);
      else return;
      done();
    };
    const done = () => {
      clearTimeout(timer);
      target.removeEventListener(event, look);
      signal.removeEventListener('abort', look);
    };
    const timer = setTimeout(() => {
      done();
      resolve(so());
    }, seconds * 1000);
    target.addEventListener(event, look);
    signal.addEventListener('abort', look);
    look();
  });
}
