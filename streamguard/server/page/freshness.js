/** Whether what is shown is still so. Pure: the caller says what time it is, in milliseconds. */

const LATE = 3000;
const GONE = 6000;

export class Freshness {
  #heard = null;

  /** The server answered. */
  heard(now) {
    this.#heard = now;
  }

  /** The computer slept, or somebody signed in: what was heard before is no news. */
  forget() {
    this.#heard = null;
  }

  /** Milliseconds since the last answer; null before the first. */
  age(now) {
    return this.#heard === null ? null : now - this.#heard;
  }

  /** `waiting` before the first answer, then `live`, `late` or `gone`. */
  judge(now) {
    const age = this.age(now);
    if (age === null) return "waiting";
    if (age < LATE) return "live";
    return age < GONE ? "late" : "gone";
  }
}
