/** Dark, light, or as the system has it; remembered by this browser alone. */

import { find, mark, say } from "./dom.js";

const ORDER = ["system", "dark", "light"];
const KEY = "streamguard.theme";

export function themes() {
  const button = find("#theme");
  const read = () => {
    const kept = localStorage.getItem(KEY);
    return ORDER.includes(kept) ? kept : "system";
  };
  const set = (theme) => {
    mark(document.documentElement, "data-theme", theme === "system" ? null : theme);
    say(button, `Theme: ${theme}`);
  };
  const next = () => {
    const theme = ORDER[(ORDER.indexOf(read()) + 1) % ORDER.length];
    localStorage.setItem(KEY, theme);
    set(theme);
  };
  set(read());
  button.addEventListener("click", next);
  return next;
}
