/** What the server's events amount to: the state of a stream from those of its tracks, joined as the server joins them. */

/** @typedef {import('../streamguard.js').CloudEvent} CloudEvent */
/** @typedef {import('../streamguard.js').StateReport} StateReport */
/** @typedef {import('../streamguard.js').SegmentReport} SegmentReport */
/** @typedef {import('../streamguard.js').TrackReport} TrackReport */

const MOST_TRACKS = 64;
const SEGMENT = /^streamguard\.segment\.(opened|updated|closed)\.v1$/;

/** Takes events in their order; `current` is what holds. Nothing that was not heard of is ever clear. */
export class Verdict {
  /** @type {Map<number, TrackReport & { threshold: number, operatingPoint: string }>} */
  #tracks = new Map();
  #session = -1;
  /** @type {string | null} */
  #outage = null;
  #nothing = 'no verdict yet';

  /** @param {CloudEvent} event A kind that is not known changes nothing. */
  take({ type, data }) {
    if (type === 'streamguard.track.state.v1') this.#follow(data);
    else if (type === 'streamguard.stream.degraded.v1') this.#outage = data.reason ?? 'degraded';
    else if (type === 'streamguard.stream.up.v1') {
      this.#enter(data.session);
      this.#outage = null;
      this.#nothing = 'no face judged'; // there may be one: of a face that has little evidence so far nothing is told
    } else if (type === 'streamguard.stream.down.v1') {
      this.#tracks.clear();
      this.#outage = data.reason ?? 'no frames';
    }
  }

  /** @param {string} reason Nothing that was heard before counts any more, for that reason. */
  forget(reason) {
    this.#tracks.clear();
    this.#outage = null;
    this.#nothing = reason;
  }

  /** @returns {StateReport} */
  get current() {
    const all = [...this.#tracks.values()];
    const tracks = all.map(({ id, state, reason, score, bbox }) => ({ id, state, reason, score, bbox }));
    const none = { score: null, threshold: null, operatingPoint: null, tracks };
    if (this.#outage !== null) return { state: 'inconclusive', reason: this.#outage, ...none };
    for (const state of /** @type {const} */ (['flagged', 'clear'])) {
      const [first] = all.filter((track) => track.state === state).sort((a, b) => (b.score ?? 0) - (a.score ?? 0));
      if (first) {
        const { score, threshold, operatingPoint } = first;
        return { state, reason: null, score, threshold, operatingPoint, tracks };
      }
    }
    return { state: 'inconclusive', reason: all.at(-1)?.reason ?? this.#nothing, ...none };
  }

  /** @param {any} data */
  #follow({ session, track: id, state, reason, score, bbox, threshold, operating_point: operatingPoint }) {
    this.#enter(session);
    this.#tracks.delete(id); // the newest stands last
    if (reason === 'face gone') {
      this.#nothing = 'no face';
      return;
    }
    this.#tracks.set(id, { id, state, reason, score, bbox, threshold, operatingPoint });
    // That a track ended which was never judged is not told: such make room first.
    for (const [old, kept] of this.#tracks) {
      if (this.#tracks.size > MOST_TRACKS && kept.state === 'inconclusive') this.#tracks.delete(old);
    }
  }

  /** @param {number} session Tracks are numbered within one session. */
  #enter(session) {
    if (session !== this.#session) this.#tracks.clear();
    this.#session = session;
  }
}

/**
 * @param {CloudEvent} event
 * @returns {SegmentReport | null} null: it is of another kind
 */
export function segmentOf(event) {
  const kind = SEGMENT.exec(event.type)?.[1];
  if (kind === undefined) return null;
  const { data } = event;
  return {
    kind: /** @type {SegmentReport['kind']} */ (kind),
    id: data.segment_id,
    track: data.track,
    state: data.state,
    reason: data.reason,
    startedAt: data.started_at,
    endedAt: data.ended_at,
    score: data.score,
    threshold: data.threshold,
    operatingPoint: data.operating_point,
    event,
  };
}
