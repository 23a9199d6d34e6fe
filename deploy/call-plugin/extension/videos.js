/** The videos of a page, and their pictures as tracks. */

const LEAST = 64; // pixels of the page; smaller ones show nobody

/**
 * Every video element below `root`, those in shadow trees included, closed ones too.
 *
 * @param {Document | ShadowRoot} root
 * @returns {Generator<HTMLVideoElement>}
 */
export function* videosIn(root) {
  for (const element of root.querySelectorAll('*')) {
    if (element instanceof HTMLVideoElement) yield element;
    else if (element instanceof HTMLElement) {
      const shadow = chrome.dom.openOrClosedShadowRoot(element);
      if (shadow) yield* videosIn(shadow);
    }
  }
}

/** @param {HTMLVideoElement} video Whether it shows something that is large enough to be looked at. */
export function isShown(video) {
  const { width, height } = video.getBoundingClientRect();
  return video.isConnected && video.videoWidth > 0 && Math.min(width, height) >= LEAST;
}

/**
 * What the video plays: the call's own track where it plays one, else what is captured of a file that it plays.
 *
 * @param {HTMLVideoElement} video
 * @returns {{ of: unknown, track: MediaStreamTrack | null, captured: boolean }} `of` stays the same while that plays on;
 *     no track: it has ended, or the pictures are protected
 */
export function trackOf(video) {
  const { srcObject } = video;
  if (srcObject instanceof MediaStream) {
    const track = liveTrack(srcObject);
    return { of: track, track, captured: false };
  }
  try {
    const [track = null] = /** @type {any} */ (video).captureStream().getVideoTracks();
    return { of: video.currentSrc, track, captured: true };
  } catch {
    return { of: video.currentSrc, track: null, captured: true }; // another origin's, or encrypted
  }
}

/**
 * Whether the video still plays what it was taken for.
 *
 * @param {HTMLVideoElement} video
 * @param {unknown} of
 */
export function stillPlays(video, of) {
  const { srcObject } = video;
  return of === (srcObject instanceof MediaStream ? liveTrack(srcObject) : video.currentSrc);
}

/** @param {MediaStream} stream */
function liveTrack(stream) {
  return stream.getVideoTracks().find(({ readyState }) => readyState === 'live') ?? null;
}
