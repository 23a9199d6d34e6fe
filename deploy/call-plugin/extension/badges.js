/** Badges over videos, in a shadow tree that the page can't read. */

const COLOURS = { flagged: '#b3261e', clear: '#1b6e3c', inconclusive: '#4a4a4a' };

export class Badges {
  #host = document.createElement('streamguard-badges');
  #root = this.#host.attachShadow({ mode: 'closed' });
  #follow = () => this.#settle();

  show() {
    // Set one by one: a page's Content-Security-Policy may forbid style attributes and elements.
    this.#host.style.setProperty('position', 'fixed');
    this.#host.style.setProperty('inset', '0 auto auto 0');
    this.#host.style.setProperty('z-index', '2147483647');
    this.#host.style.setProperty('pointer-events', 'none');
    document.addEventListener('fullscreenchange', this.#follow);
    this.#settle();
  }

  hide() {
    document.removeEventListener('fullscreenchange', this.#follow);
    this.#host.remove();
  }

  add() {
    const badge = document.createElement('div');
    badge.setAttribute('role', 'status');
    for (const [name, value] of [
      ['position', 'fixed'],
      ['padding', '2px 8px'],
      ['border-radius', '4px'],
      ['color', '#fff'],
      ['font', '14px/1.4 system-ui, sans-serif'],
      ['white-space', 'nowrap'],
    ]) {
      badge.style.setProperty(name, value);
    }
    this.#root.append(badge);
    return new Badge(badge);
  }

  /** Above what fills the screen, or else above the page. */
  #settle() {
    const full = document.fullscreenElement;
    const above = full === null || full instanceof HTMLVideoElement ? document.documentElement : full;
    if (this.#host.parentNode !== above) above.append(this.#host);
  }
}

class Badge {
  #element;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.#element = element;
  }

  /** @param {'flagged' | 'clear' | 'inconclusive'} state @param {string} text */
  say(state, text) {
    this.#element.dataset.state = state;
    this.#element.textContent = text;
    this.#element.style.setProperty('background', COLOURS[state]);
  }

  /** @param {HTMLVideoElement} video Where it goes: into the lower left corner. */
  place(video) {
    const { left, bottom, width } = video.getBoundingClientRect();
    this.#element.style.setProperty('display', width > 0 ? 'block' : 'none');
    this.#element.style.setProperty('transform', `translate(${left + 6}px, ${bottom - 32}px)`);
  }

  remove() {
    this.#element.remove();
  }
}
