/** How many columns make the tiles as large as they can be without scrolling. Pure. */

const LEAST = 150; // pixels; smaller ones are scrolled
const RATIO = 9 / 16;

/** What a tile of that width has under its picture, in pixels. */
const under = (width) => (width < 200 ? 25 : width < 250 ? 43 : 54);

/** {columns, tile}: tile is its width in pixels. */
export function arrange(count, width, height, gap) {
  let best = { columns: 1, tile: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns += 1) {
    const rows = Math.ceil(count / columns);
    const wide = (width - gap * (columns - 1)) / columns;
    const high = (height - gap * (rows - 1)) / rows - under(wide) - 2;
    const tile = Math.floor(Math.min(wide, high / RATIO));
    if (tile > best.tile) best = { columns, tile };
  }
  if (best.tile >= LEAST) return best;
  const columns = Math.max(1, Math.floor((width + gap) / (LEAST + gap)));
  return { columns, tile: Math.floor((width - gap * (columns - 1)) / columns) };
}
