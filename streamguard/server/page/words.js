/** Numbers and states in words. */

export const STATES = { flagged: "Flagged", inconclusive: "Inconclusive", clear: "Clear", unknown: "Unknown" };

export const MEANING = {
  flagged: "Signs of manipulation were found in a face.",
  clear: "No signs were found. That does not prove that the picture is authentic.",
  inconclusive: "There is not enough to judge by.",
  unknown: "StreamGuard is not reached. Nothing is known of this stream now.",
};

export const LABELS = { authentic: "Wrong", manipulated: "Confirmed", unsure: "Not sure" };

const two = (number) => String(number).padStart(2, "0");

/** The day of a moment, here. */
export function day(date) {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** The hour of a moment, here. */
export function hour(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A span of seconds: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min. */
export function span(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** A time in milliseconds or seconds, as short as it can be read. */
export function latency(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

export const score = (value) => value.toFixed(2);

export const count = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;

/** Bytes as people count them. */
export function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** From when to when a passage was, and how long. */
export function when(segment) {
  const start = new Date(segment.started_at);
  if (segment.open) return `since ${hour(start)}`;
  return `${hour(start)} · ${span((new Date(segment.ended_at) - start) / 1000)}`;
}
