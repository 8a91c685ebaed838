// Reconstruct: an image, a mask, and the predicted patches shown row by row.
import { Model } from './pkg/rowscan_web.js';
import { facts, frame, heat, patchAt, picture, revealRow, squares, step } from './draw.mjs';
import { fetched } from './files.mjs';
import { decode, photograph, samples, square } from './images.mjs';

const SHIPPED = 'assets/map_micro';
/** Milliseconds between two rows of patches. */
const PACE = 90;

export function attach(app) {
  const { $ } = app;
  const state = { files: null, model: null, source: null, image: null, mask: null, result: null, cursor: 0, drawn: 0, painted: null };
  let queue = Promise.resolve();
  let wanted = 0;

  const strategy = () => document.querySelector('input[name="r-strategy"]:checked').value;
  const changed = new EventTarget();

  function load() {
    const file = (name) => {
      const found = state.files.find((file) => file.name === name);
      if (!found) throw new Error(`${name} is missing in what was dropped`);
      return found.bytes;
    };
    const model = Model.load(app.device, file('config.json'), file('model.safetensors'));
    state.model?.free();
    state.model = model;
    const config = JSON.parse(model.config);
    const about = JSON.parse(model.metadata);
    $('r-model').textContent = `${config.name}, ${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.side} × ${model.side} pixels, ${model.grid * model.grid} patches`;
    delete about.format;
    facts($('r-about'), { layers: config.pattern, width: config.width, ...about });
  }

  function paintMask() {
    const count = state.model.grid * state.model.grid;
    if (state.painted?.length !== count) state.painted = new Float32Array(state.mask?.length === count ? state.mask : count);
    const hidden = state.painted.reduce((sum, value) => sum + value, 0);
    if (hidden === 0) state.painted[count >> 1] = 1;
    if (hidden === count) state.painted[0] = 0;
    return state.painted.slice();
  }

  function drawMask() {
    const { grid, side } = state.model;
    const patch = side / grid;
    const grey = state.image.slice();
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
      if (state.mask[Math.floor(y / patch) * grid + Math.floor(x / patch)]) grey.fill(128, (y * side + x) * 3, (y * side + x) * 3 + 3);
    }
    picture($('r-masked'), grey, side);
    if (strategy() === 'paint' && document.activeElement === $('r-masked')) frame($('r-masked'), state.cursor, grid);
    return grey;
  }

  /** Reconstructs with the settings of the controls. Of several waiting calls only the last is carried out. */
  function run() {
    const wish = ++wanted;
    queue = queue.then(() => app.guard(async () => {
      if (wish !== wanted || !state.model || !state.source) return;
      const { model } = state;
      const { side, grid } = model;
      state.image = await square(state.source, side);
      picture($('r-original'), state.image, side);
      state.mask = strategy() === 'paint' ? paintMask() : model.mask(strategy(), Number($('r-ratio').value), Number($('r-seed').value));
      const masked = drawMask();
      const began = performance.now();
      const result = await model.reconstruct(state.image, state.mask);
      const took = performance.now() - began;
      state.result = { reconstruction: result.reconstruction, errors: result.errors, predictions: result.predictions, loss: result.loss };
      result.free();
      globalThis.firstReconstruction ??= performance.now();
      const hidden = state.mask.reduce((sum, value) => sum + value, 0);
      facts($('r-facts'), {
        'loss (1 = patch means)': state.result.loss.toFixed(3), hidden: `${hidden} of ${grid * grid}`,
        time: `${took.toFixed(0)} ms`, adapter: $('adapter').textContent,
      });
      changed.dispatchEvent(new Event('result'));
      await reveal(masked, wish);
    }));
    return queue;
  }

  /** Shows the reconstruction row by row, in decoding order: a row does not depend on the rows below it. */
  async function reveal(partial, wish) {
    const { side, grid } = state.model;
    const { reconstruction, errors } = state.result;
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    picture($('r-result'), partial, side);
    squares($('r-error'), errors.length ? [...errors].map(() => null) : [], grid, heat);
    $('r-result').dataset.rows = 0;
    for (let row = 0; row < grid; row++) {
      if (!still) await new Promise((done) => setTimeout(done, PACE));
      if (wish !== wanted) return;
      revealRow(partial, reconstruction, row, side / grid, side);
      picture($('r-result'), partial, side);
      squares($('r-error'), [...errors].map((error, i) => (i < (row + 1) * grid && state.mask[i] ? error / 2 : null)), grid, heat);
      $('r-row').textContent = row + 1 < grid ? `row ${row + 1} of ${grid}` : '';
      $('r-result').dataset.rows = row + 1;
      $('r-result').dispatchEvent(new CustomEvent('row', { detail: row + 1 }));
    }
  }

  async function choose(source) {
    state.source = source;
    for (const button of $('r-samples').children) button.setAttribute('aria-pressed', button.source === source);
    await run();
  }

  async function gallery() {
    for (const [i, source] of (await samples()).entries()) {
      const button = document.createElement('button');
      button.type = 'button';
      button.source = source;
      button.setAttribute('aria-label', `Sample ${i + 1}`);
      const canvas = document.createElement('canvas');
      canvas.width = canvas.height = 64;
      canvas.getContext('2d').drawImage(source, 0, 0, 64, 64);
      button.append(canvas);
      button.addEventListener('click', () => choose(source));
      $('r-samples').append(button);
    }
    if (!state.source) await choose($('r-samples').firstChild.source);
  }

  function painting() {
    const on = strategy() === 'paint';
    $('r-pictures').classList.toggle('painting', on);
    $('r-paint-hint').hidden = !on;
    $('r-ratio').disabled = $('r-seed').disabled = on;
    if (on) state.painted = null;
  }

  let brush = null;
  function dab(token) {
    if (!state.painted || state.painted[token] === brush) return;
    const hidden = state.painted.reduce((sum, value) => sum + value, 0);
    if (brush ? hidden + 1 >= state.painted.length : hidden <= 1) return; // one patch stays hidden, one visible
    state.painted[token] = brush;
    state.mask = state.painted.slice();
    drawMask();
  }
  $('r-masked').addEventListener('pointerdown', (event) => {
    if (strategy() !== 'paint' || !state.model || !state.painted) return;
    event.preventDefault();
    $('r-masked').focus();
    $('r-masked').setPointerCapture(event.pointerId);
    state.cursor = patchAt($('r-masked'), event, state.model.grid);
    brush = state.painted[state.cursor] ? 0 : 1;
    dab(state.cursor);
  });
  $('r-masked').addEventListener('pointermove', (event) => {
    if (brush === null) return;
    state.cursor = patchAt($('r-masked'), event, state.model.grid);
    dab(state.cursor);
  });
  for (const end of ['pointerup', 'pointercancel']) $('r-masked').addEventListener(end, () => {
    if (brush !== null) run();
    brush = null;
  });
  $('r-masked').addEventListener('keydown', (event) => {
    if (strategy() !== 'paint' || !state.painted) return;
    const next = step(event.key, state.cursor, state.model.grid);
    if (next === null && event.key !== ' ') return;
    event.preventDefault();
    if (next !== null) {
      state.cursor = next;
      drawMask();
    } else {
      brush = state.painted[state.cursor] ? 0 : 1;
      dab(state.cursor);
      brush = null;
      run();
    }
  });
  for (const event of ['focus', 'blur']) $('r-masked').addEventListener(event, () => { if (state.mask && state.image) drawMask(); });

  const labels = () => {
    $('r-ratio-out').textContent = `${Math.round($('r-ratio').value * 100)}%`;
    $('r-seed-out').textContent = $('r-seed').value;
  };
  $('r-form').addEventListener('submit', (event) => event.preventDefault());
  $('r-form').addEventListener('input', (event) => {
    if (event.target.type === 'file') return;
    labels();
    if (event.target.name === 'r-strategy') painting();
    run();
  });
  $('r-again').addEventListener('click', run);
  $('r-file').addEventListener('change', ({ target }) => target.files[0] && app.guard(() => api.image(target.files[0])));
  $('r-folder').addEventListener('change', ({ target }) => app.guard(() => app.take([...target.files])));
  $('r-camera').addEventListener('click', () => app.guard(async () => {
    const source = await photograph($('camera'), $('camera-view'), $('camera-take'), $('camera-close'))
      .catch((error) => { throw new Error(`no camera: ${error.message}`); });
    if (source) await choose(source);
  }));
  labels();

  const api = {
    state,
    changed,
    run,
    async connected() {
      state.files ??= await fetched(SHIPPED);
      load();
      await run();
      if (!$('r-samples').children.length) await gallery();
    },
    lost() { state.model = null; },
    async image(file) { await choose(await decode(file)); app.notice(); },
    async open(files) {
      const swap = queue.then(() => {
        const before = state.files;
        state.files = files;
        try {
          load();
        } catch (error) {
          state.files = before;
          throw error;
        }
      });
      queue = swap.catch(() => {});
      await swap;
      app.notice();
      app.show('reconstruct');
      state.painted = null;
      await run();
    },
  };
  return api;
}
