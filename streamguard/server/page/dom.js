/** The document: finding, making, changing no more than has changed. */

/** The one element for `selector`; without it the page is broken. */
export function find(selector, within = document) {
  const found = within.querySelector(selector);
  if (!found) throw new Error(`nothing is ${selector}`);
  return found;
}

/** The element that plays `part` within a dialog. */
export const part = (within, name) => find(`[data-part="${name}"]`, within);

/** A new element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A copy of what the template with that id holds. */
export function copy(id) {
  return find(`template#${id}`).content.firstElementChild.cloneNode(true);
}

/** Set a text, if it is another: what has not changed is not read out again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or remove an attribute, if it is another. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

/** A state's badge: a shape and a word, never colour alone. */
export function badge(node, state, word) {
  if (!node.firstElementChild) {
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("aria-hidden", "true");
    icon.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
    node.append(icon, make("span"));
  }
  mark(find("use", node), "href", `#i-${state}`);
  say(find("span", node), word);
}

/** Fill a list of terms with [term, description] pairs; those without a description are left out. */
export function facts(list, pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const wanted = shown.flat().map(String);
  const found = [...list.children].map((node) => node.textContent);
  if (wanted.length === found.length && wanted.every((text, at) => text === found[at])) return;
  list.replaceChildren(...shown.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, String(value))]));
}

/** Open a dialog that closes by its button, by Escape and by a click beside it; the focus goes back by itself. */
export function dialog(node, closed = () => {}) {
  find("[data-close]", node).addEventListener("click", () => node.close());
  node.addEventListener("click", (event) => {
    if (event.target === node) node.close();
  });
  node.addEventListener("close", closed);
  return node;
}
