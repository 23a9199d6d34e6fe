/** When to try again. */

const FIRST = 0.25; // seconds, as all of these
const LONGEST = 30;
const DENIED = 60;
const GOOD = 10;
const NAMED = 600;

/**
 * Delays between attempts: doubled each time, and drawn from the upper half, so that many pages do not come back in
 * step. What a repetition will hardly change, such as a refused token, gets a long delay at once.
 */
export class Backoff {
  #failures = 0;
  #random;

  /** @param {() => number} random 0 to 1 */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * Seconds to wait after an attempt that failed, or a connection that lasted for some seconds and was lost.
   *
   * @param {{ denied?: boolean, after?: number | null }} trouble `after`: what the server asked for (Retry-After)
   * @param {number} lasted from 10 s on it was a good one, and delays start again from the first
   */
  delay({ denied = false, after = null } = {}, lasted = 0) {
    if (lasted >= GOOD) this.#failures = 0;
    const ceiling = denied ? DENIED : Math.min(LONGEST, FIRST * 2 ** Math.min(this.#failures, 32));
    this.#failures += 1;
    const drawn = (ceiling * (1 + this.#random())) / 2;
    // Not before the server said, not all at that moment, and not for ever because of one wrong header.
    return after === null ? drawn : Math.max(drawn, Math.min(after, NAMED) * (1 + this.#random() / 4));
  }
}

/**
 * Seconds that a `Retry-After` header asks for (RFC 9110 10.2.3: seconds or a date), or null.
 *
 * @param {string | null} header
 */
export function retryAfter(header, now = Date.now()) {
  if (header === null) return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}
