/**
 * What the page knows: streams as they stand, segments by id, the operating points.
 * Whoever shows it listens for `streams`, `segments` and `points`.
 */

const BOUND = 1000; // segments

export class Store extends EventTarget {
  streams = new Map();
  segments = new Map();
  points = { default: null, operating_points: [] };
  who = null;
  #offset = 0; // this computer's clock minus the server's, milliseconds

  get operator() {
    return this.who?.role === "operator";
  }

  /** An answer of /streams. */
  streamsCame({ at, streams }) {
    this.#offset = Date.now() - Date.parse(at);
    this.streams = new Map(streams.map((stream) => [stream.name, stream]));
    this.#tell("streams");
  }

  streamCame(stream) {
    this.streams.set(stream.name, stream);
    this.#tell("streams");
  }

  /** The answer of /operating-points. */
  pointsCame(points) {
    this.points = points;
    this.#tell("points");
  }

  /** Seconds since a stream's last frame; null before the first. */
  age(stream) {
    if (!stream.last_frame_at) return null;
    return Math.max(0, (Date.now() - this.#offset - Date.parse(stream.last_frame_at)) / 1000);
  }

  /** Now, by the server's clock, in milliseconds since the epoch. */
  now() {
    return Date.now() - this.#offset;
  }

  /** A page of /segments, or one that changed. */
  segmentsCame(segments) {
    for (const segment of segments) {
      const before = this.segments.get(segment.segment_id);
      this.segments.set(segment.segment_id, { ...segment, label: segment.label ?? before?.label ?? null });
    }
    const surplus = this.segments.size - BOUND;
    if (surplus > 0) for (const old of this.newest().slice(-surplus)) this.segments.delete(old.segment_id);
    this.#tell("segments");
  }

  /** An event of the feed. */
  eventCame(event) {
    const [, kind] = /^streamguard\.segment\.(opened|updated|closed)\.v1$/.exec(event.type) ?? [];
    if (kind) this.segmentsCame([{ ...event.data, open: kind !== "closed", label: null }]);
    return Boolean(kind);
  }

  labelled(segment, label) {
    const known = this.segments.get(segment);
    if (known) this.segmentsCame([{ ...known, label }]);
  }

  /** Segments, the newest first; of one stream, if it is named. */
  newest(stream = null) {
    const found = [...this.segments.values()].filter((segment) => stream === null || segment.stream === stream);
    return found.sort((a, b) => Date.parse(b.started_at) - Date.parse(a.started_at) || (b.segment_id > a.segment_id ? 1 : -1));
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }
}
