/** A body of multipart/x-mixed-replace, part by part (RFC 2046, 5.1), each with its Content-Length. Pure. */

const END = [13, 10, 13, 10];
const LONGEST = 4096; // bytes of a part's head
const LARGEST = 4 << 20;

export class Parts {
  #bytes = new Uint8Array(0);
  #came;

  /** `came(headers, bytes)` is called with each part: names of headers in lower case. */
  constructor(came) {
    this.#came = came;
  }

  /** More of the body. Throws where it is none of this kind. */
  push(chunk) {
    const joined = new Uint8Array(this.#bytes.length + chunk.length);
    joined.set(this.#bytes);
    joined.set(chunk, this.#bytes.length);
    let at = 0;
    for (;;) {
      const head = indexOf(joined, END, at);
      if (head < 0) {
        if (joined.length - at > LONGEST) throw new Error("a part without an end of its head");
        break;
      }
      const headers = parse(joined.subarray(at, head));
      const length = Number(headers.get("content-length"));
      if (!Number.isInteger(length) || length < 0 || length > LARGEST) throw new Error("a part without a length");
      const from = head + END.length;
      if (joined.length < from + length) break;
      this.#came(headers, joined.slice(from, from + length));
      at = from + length;
    }
    this.#bytes = joined.slice(at);
  }
}

function parse(bytes) {
  const headers = new Map();
  for (const line of new TextDecoder("latin1").decode(bytes).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  return headers;
}

function indexOf(bytes, wanted, from) {
  for (let at = bytes.indexOf(wanted[0], from); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}
