/** What StreamGuard says. `clear` means that no signs of manipulation were found: no proof that a video is authentic. */
export type State = 'flagged' | 'clear' | 'inconclusive';

/** Why there is no connection, or no longer. */
export type ConnectionReason =
  | 'detached' // by detach(), or because the page went away
  | 'track ended' // the call's own track is over
  | 'token refused' // 401 or 403, or the `token` function threw
  | 'server full' // 429 or 503: as many sessions or requests as it takes
  | 'stream taken' // 409: somebody else sends under this name
  | 'refused' // another 4xx; the message says more
  | 'server error' // another 5xx
  | 'no such service' // no WHIP endpoint is there
  | 'server not reached' // no answer, or one that CORS hides from this page
  | 'blocked by content security policy' // the page's own; final
  | 'mixed content' // an https page and an http server; final
  | 'local network refused' // the browser did not let the page reach the local network
  | 'no media connection' // ICE or DTLS came to nothing: a firewall, a TURN server that is missing
  | 'connection lost';

/** A CloudEvents 1.0 event as the server sends it; `data` has the form that `dataschema` names. */
export interface CloudEvent {
  specversion: '1.0';
  id: string;
  source: string;
  type: string;
  time: string;
  subject?: string;
  datacontenttype: string;
  dataschema: string;
  data: any;
}

/** A rectangle in pixels of the picture that the server received; `x2` and `y2` exclusive. */
export interface Box {
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

/** A face that is followed. */
export interface TrackReport {
  id: number;
  state: State;
  /** Why it is inconclusive; null otherwise. */
  reason: string | null;
  /** Its running evidence, 0 to 1, to be read beside the threshold: no probability that it is a forgery. */
  score: number | null;
  bbox: Box | null;
}

/** The state of the whole video. */
export interface StateReport {
  state: State;
  /** Why it is inconclusive: the server's word (`no face`, `too small` ...), or why there is no connection. Else null. */
  reason: string | null;
  /** Of the face that decides the state; null where it is inconclusive, as the two below. */
  score: number | null;
  threshold: number | null;
  operatingPoint: string | null;
  tracks: TrackReport[];
}

/** A flagged passage of one face. */
export interface SegmentReport {
  kind: 'opened' | 'updated' | 'closed';
  /** Unique; the same in all reports of one segment. */
  id: string;
  track: number;
  state: State;
  /** Why it was closed, if not by its own end. */
  reason: string | null;
  /** RFC 3339, UTC. */
  startedAt: string;
  endedAt: string | null;
  score: { mean: number; peak: number };
  threshold: number;
  operatingPoint: string;
  /** The event itself, whole. */
  event: CloudEvent;
}

/** How it stands with the server. */
export interface ConnectionReport {
  /** `waiting`: for the next attempt; `closed`: for good. */
  phase: 'connecting' | 'connected' | 'waiting' | 'closed';
  /** How events come. */
  via: 'datachannel' | 'sse' | null;
  /** Of `waiting` and `closed`. */
  reason: ConnectionReason | null;
  /** More about the reason, for people. It never has the token. */
  message: string;
  /** Seconds until the next attempt, of `waiting`. */
  retryIn: number | null;
  /** Attempts so far, this one included. */
  attempt: number;
}

export interface AttachOptions {
  /** Where the StreamGuard server is: `https://guard.example`, a path in front included. */
  server: string | URL;
  /** The name under which this video is watched: 1 to 64 of `A-Z a-z 0-9 . _ -`, no dot in front. One sender a name. */
  stream: string;
  /** A sender's token, or what gives one: asked before each attempt. It goes to the server alone. */
  token?: string | (() => string | Promise<string>);
  /** STUN and TURN servers. Those that the server names in its answer are added from the next attempt on. */
  iceServers?: readonly RTCIceServer[];
  /** Sends the requests instead of the page's own `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** For an http server in the local network with a public name, seen from an https page (Local Network Access). */
  targetAddressSpace?: 'local' | 'loopback';
}

export interface Listeners {
  /** The state, or something of it, changed. */
  state: (state: StateReport) => void;
  /** A flagged passage was opened, grew, or was closed. */
  segment: (segment: SegmentReport) => void;
  /** An attempt, a connection, a loss, the end. */
  connection: (connection: ConnectionReport) => void;
}

/** One video that is watched. */
export interface Guard {
  /** The state as it stands: `inconclusive: connecting` at first. */
  readonly current: StateReport;
  readonly connection: ConnectionReport;
  /** Hear of something; what it returns ends that. An error of `listener` is reported to the page and ends nothing. */
  on<Kind extends keyof Listeners>(kind: Kind, listener: Listeners[Kind]): () => void;
  /** Stop sending, and end the session. Resolves once the server was told, or did not answer for some seconds. */
  detach(): Promise<void>;
}

/**
 * Sends a copy of `track` to a server until it is detached or the track ends, and reconnects meanwhile.
 *
 * The copy is a clone: the call's own track is never touched, stopped or constrained. Where that is switched off
 * (`enabled`), so is the copy, within a fifth of a second.
 *
 * @throws TypeError no video track, or an option that can't be meant
 */
export function attach(track: MediaStreamTrack, options: AttachOptions): Guard;

/** A state in few words, for a badge: `flagged: 0.97 (threshold 0.91)`, `clear`, `inconclusive: too small`. */
export function describe(state: StateReport): string;
