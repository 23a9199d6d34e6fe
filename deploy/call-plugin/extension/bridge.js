/** Requests of a page go through the extension's worker: it has the token, and no page's policy or origin binds it. */

/** @type {typeof globalThis.fetch} */
export function fetchThroughWorker(url, init = {}) {
  const { method = 'GET', body = null, headers, signal } = init;
  const port = chrome.runtime.connect({ name: 'request' });
  const encoder = new TextEncoder();
  /** @type {ReadableStreamDefaultController<Uint8Array>} */
  let writing;
  const stream = new ReadableStream({
    start: (controller) => {
      writing = controller;
    },
    cancel: () => port.disconnect(),
  });
  return new Promise((resolve, reject) => {
    const fail = (/** @type {unknown} */ error) => {
      port.disconnect();
      reject(error);
      writing.error(error);
    };
    signal?.addEventListener('abort', () => fail(signal.reason), { once: true });
    port.onDisconnect.addListener(() => fail(new TypeError('the extension was reloaded')));
    port.onMessage.addListener((/** @type {any} */ { head, text, failed }) => {
      if (head) resolve(new Response(head.status === 204 ? null : stream, head));
      else if (text) writing.enqueue(encoder.encode(text));
      else if (failed) fail(new TypeError('the request failed'));
      else {
        writing.close();
        port.disconnect();
      }
    });
    port.postMessage({ url: String(url), method, body, headers: [...new Headers(headers)] });
  });
}
