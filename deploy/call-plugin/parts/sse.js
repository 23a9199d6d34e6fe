/** Server-sent events out of pieces of text (WHATWG HTML 9.2.6). `EventSource` itself can't send a token. */
export class EventText {
  /** The id to come back with, as `Last-Event-ID`. */
  lastId = '';
  #rest = '';
  #type = '';
  /** @type {string[]} */
  #data = [];

  /** A new connection: half a message of the last one counts for nothing. */
  restart() {
    [this.#rest, this.#type, this.#data] = ['', '', []];
  }

  /**
   * @param {string} text without a byte order mark, as TextDecoderStream gives it
   * @returns {{ type: string, data: string }[]} the messages that it completes
   */
  push(text) {
    const found = [];
    this.#rest += text;
    // A carriage return at the very end may be the first half of a line's end.
    for (let end; (end = /\r\n|\r(?!$)|\n/.exec(this.#rest)); ) {
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      if (line !== '') this.#field(line);
      else {
        if (this.#data.length) found.push({ type: this.#type || 'message', data: this.#data.join('\n') });
        [this.#type, this.#data] = ['', []];
      }
    }
    return found;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#type = value;
    else if (name === 'id' && !value.includes('\0')) this.lastId = value;
  }
}
