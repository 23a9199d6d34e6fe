/** Server, token and sites, kept in chrome.storage.local. The token is never shown again. */

const ALWAYS = 'always';
export const KEPT = 'kept; leave empty to keep it';

const form = /** @type {HTMLFormElement} */ (document.getElementById('options'));
const notice = /** @type {HTMLElement} */ (document.getElementById('notice'));
const field = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

const kept = await chrome.storage.local.get(['server', 'token', 'sites']);
field('server').value = kept.server ?? '';
field('sites').value = (kept.sites ?? []).join('\n');
field('token').placeholder = kept.token ? KEPT : 'sg_...';
field('token').required = !kept.token;

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const { origin, pathname } = new URL(field('server').value);
  const server = origin + pathname.replace(/\/*$/, '/');
  const sites = field('sites').value.split(/\s+/).filter(Boolean);
  try {
    const matches = sites.map(pattern);
    // The browser asks now, and only in answer to a click: so nothing may be waited for before.
    if (!(await chrome.permissions.request({ origins: [pattern(server), ...matches] }))) {
      notice.textContent = 'Not saved: the browser was not allowed to reach the server.';
      return;
    }
    const token = field('token').value || (await chrome.storage.local.get('token')).token;
    await chrome.storage.local.set({ server, token, sites });
    await begin(matches);
    field('token').value = '';
    field('token').placeholder = KEPT;
    field('token').required = false;
    notice.textContent = 'Saved. Pages that are watched already go on as they are.';
  } catch (error) {
    notice.textContent = `Not saved: ${error}`;
  }
});

/** @param {string} address The match pattern of its host, whatever the port. */
function pattern(address) {
  const { protocol, hostname } = new URL(address);
  return `${protocol}//${hostname}/*`;
}

/** @param {string[]} matches Pages in which the content script runs by itself. */
async function begin(matches) {
  const [known] = await chrome.scripting.getRegisteredContentScripts({ ids: [ALWAYS] });
  if (known) await chrome.scripting.unregisterContentScripts({ ids: [ALWAYS] });
  if (matches.length === 0) return;
  await chrome.scripting.registerContentScripts([{ id: ALWAYS, js: ['content.js'], matches, allFrames: true }]);
}
