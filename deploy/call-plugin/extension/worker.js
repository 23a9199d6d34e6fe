/** The extension's worker: the toolbar button, and requests to the server. The token is known here and in the options. */

const BASES = ['whip/', 'api/v1/events'];
const ON = 'on';

// Nothing that runs in a page can read the token.
void chrome.storage.local.setAccessLevel({ accessLevel: 'TRUSTED_CONTEXTS' });

chrome.action.onClicked.addListener(async (/** @type {any} */ { id: tabId }) => {
  const { server } = await chrome.storage.local.get('server');
  if (!server) {
    await chrome.runtime.openOptionsPage();
    return;
  }
  // The text belongs to the tab and goes with the page in it: it is the state.
  if ((await chrome.action.getBadgeText({ tabId })) === ON) {
    await chrome.tabs.sendMessage(tabId, { kind: 'stop' });
    await chrome.action.setBadgeText({ tabId, text: '' });
  } else {
    await chrome.scripting.executeScript({ target: { tabId, allFrames: true }, files: ['content.js'] });
  }
});

chrome.runtime.onMessage.addListener((/** @type {any} */ { kind }, /** @type {any} */ { tab }, /** @type {any} */ answer) => {
  if (kind !== 'start') return false;
  void chrome.action.setBadgeText({ tabId: tab.id, text: ON });
  chrome.storage.local.get('server').then(({ server = '' }) => answer({ server }));
  return true; // the answer comes later
});

chrome.runtime.onConnect.addListener((/** @type {any} */ port) => {
  if (port.name !== 'request') return;
  const leaving = new AbortController();
  port.onDisconnect.addListener(() => leaving.abort());
  port.onMessage.addListener((/** @type {any} */ request) => {
    // A session is ended even if its page is gone by then.
    const signal = request.method === 'DELETE' ? undefined : leaving.signal;
    ask(request, signal, (message) => leaving.signal.aborted || port.postMessage(message)).catch(() => {
      if (!leaving.signal.aborted) port.postMessage({ failed: true });
    });
  });
});

/**
 * @param {{ url: string, method: string, body: string | null, headers: [string, string][] }} request
 * @param {AbortSignal | undefined} signal
 * @param {(message: object) => void} tell
 */
async function ask({ url, method, body, headers }, signal, tell) {
  const { server, token } = await chrome.storage.local.get(['server', 'token']);
  // A page that broke into its content script can have the token used for this, and for nothing else.
  if (!BASES.some((base) => new URL(url).href.startsWith(server + base))) throw new TypeError('no address of the server');
  const sent = { ...Object.fromEntries(headers), Authorization: `Bearer ${token}` };
  const how = /** @type {const} */ ({ cache: 'no-store', credentials: 'omit', referrerPolicy: 'no-referrer' });
  const answered = await fetch(url, { ...how, method, body, headers: sent, signal });
  const told = new Headers(answered.headers);
  const location = told.get('Location');
  if (location !== null) told.set('Location', new URL(location, answered.url).href);
  tell({ head: { status: answered.status, headers: [...told] } });
  if (answered.body) {
    const reader = answered.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece; !(piece = await reader.read()).done; ) tell({ text: piece.value });
  }
  tell({});
}
