// Drawing on canvases.

/** Draws an image. */
export function picture(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height) [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext('2d').putImageData(image, 0, 0);
}

const INFERNO = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

/** A color for 0 … 1. */
export function heat(value) {
  const at = Math.min(Math.max(value, 0), 1) * (INFERNO.length - 1);
  const below = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[below].map((c, i) => Math.round(c + (at - below) * (INFERNO[below + 1][i] - c)));
}

/** Draws a grid of squares, one per value, with `color(value)` as its RGB color. A `null` value stays transparent. */
export function squares(canvas, values, grid, color) {
  const size = 16;
  if (canvas.width !== grid * size) canvas.width = canvas.height = grid * size;
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, canvas.width, canvas.height);
  values.forEach((value, i) => {
    if (value === null) return;
    context.fillStyle = `rgb(${color(value).join(' ')})`;
    context.fillRect((i % grid) * size, Math.floor(i / grid) * size, size - 1, size - 1);
  });
}

/**
 * Draws values of 0 … 1, one per patch, over a picture: the larger, the more of the color is seen, from `least` on.
 * `null` is darkness.
 */
export function overlay(canvas, image, values, grid, least = 0.55) {
  const size = 24;
  if (canvas.width !== grid * size) canvas.width = canvas.height = grid * size;
  const context = canvas.getContext('2d');
  const plain = new OffscreenCanvas(image.width, image.height);
  plain.getContext('2d').putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(plain, 0, 0, canvas.width, canvas.height);
  values.forEach((value, i) => {
    context.fillStyle = value === null ? 'rgb(0 0 0 / 0.72)' : `rgb(${heat(value).join(' ')} / ${least + 0.3 * value})`;
    context.fillRect((i % grid) * size, Math.floor(i / grid) * size, size, size);
  });
}

/** Copies row `row` of patches from the image `full` into the image `partial`. */
export function revealRow(partial, full, row, patch) {
  const bytes = full.width * 4 * patch;
  partial.data.set(full.data.subarray(row * bytes, (row + 1) * bytes), row * bytes);
}

/** The index of the patch under the pointer. */
export function patchAt(canvas, event, grid) {
  const box = canvas.getBoundingClientRect();
  const at = (from, size, position) => Math.min(Math.max(Math.floor(((position - from) / size) * grid), 0), grid - 1);
  return at(box.top, box.height, event.clientY) * grid + at(box.left, box.width, event.clientX);
}

/** The patch that an arrow key leads to from `token`, or `null` for another key. */
export function step(key, token, grid) {
  const [row, column] = [Math.floor(token / grid), token % grid];
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  if (!move) return null;
  const within = (value) => Math.min(Math.max(value, 0), grid - 1);
  return within(row + move[0]) * grid + within(column + move[1]);
}

/** Draws a frame around a patch. */
export function frame(canvas, token, grid) {
  const context = canvas.getContext('2d');
  const size = canvas.width / grid;
  const line = Math.max(1, canvas.width / 64);
  context.lineWidth = line;
  context.strokeStyle = '#fff';
  context.strokeRect((token % grid) * size + line / 2, Math.floor(token / grid) * size + line / 2, size - line, size - line);
}

/** Fills the definition list `list` with { name: value } pairs. */
export function facts(list, entries) {
  list.replaceChildren(...Object.entries(entries).map(([name, value]) => {
    const [box, term, detail] = ['div', 'dt', 'dd'].map((tag) => document.createElement(tag));
    term.textContent = name;
    detail.textContent = value;
    detail.dataset.fact = name;
    box.append(term, detail);
    return box;
  }));
}
