// Painting a mask on a canvas, with the mouse, a finger or the keyboard.
import { patchAt, step } from './draw.mjs';

/**
 * Lets people paint on `canvas`. `active()` says whether they may and `grid()` how many patches a side has; `get` and
 * `set` are about a patch's place in the mask; `moved` draws anew, `done` ends a stroke. Returns { cursor }, the patch
 * that the keyboard is at.
 */
export function brush(canvas, { active, grid, get, set, moved, done }) {
  const at = { cursor: 0 };
  let value = null;
  const touch = (event) => {
    at.cursor = patchAt(canvas, event, grid());
    set(at.cursor, value);
    moved();
  };
  canvas.addEventListener('pointerdown', (event) => {
    if (!active()) return;
    event.preventDefault();
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    value = get(patchAt(canvas, event, grid())) ? 0 : 1;
    touch(event);
  });
  canvas.addEventListener('pointermove', (event) => { if (value !== null) touch(event); });
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => {
    if (value !== null) done();
    value = null;
  });
  canvas.addEventListener('keydown', (event) => {
    if (!active()) return;
    const next = step(event.key, at.cursor, grid());
    if (next === null && event.key !== ' ') return;
    event.preventDefault();
    if (next === null) {
      set(at.cursor, get(at.cursor) ? 0 : 1);
      done();
    } else {
      at.cursor = next;
    }
    moved();
  });
  for (const event of ['focus', 'blur']) canvas.addEventListener(event, moved);
  return at;
}
