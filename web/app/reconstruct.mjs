// Reconstruct: an image, a mask, and the predicted patches shown row by row.
import { Rowscan } from 'rowscan';
import { maskOf, maskText } from './address.mjs';
import { facts, frame, heat, picture, revealRow, squares } from './draw.mjs';
import { decode, embedded, photograph, reopened } from './images.mjs';
import { catalog } from './models.mjs';
import { wasm } from './module.mjs';
import { brush } from './paint.mjs';
import { download, pass, sheet } from './share.mjs';

/** Milliseconds between two rows of patches: of the first picture, which introduces the page, and of those after it. */
const [FIRST_PACE, PACE] = [220, 90];

export function attach(app) {
  const { $, address, samples } = app;
  const models = catalog('images');
  const state = {
    model: null, files: null, loaded: '', wish: '', // the model, the files it came from, its name in the list ('' for an
    // own one), and the name that was asked for
    picked: '', data: '', own: false, source: null, // the sample's name, or the text of an own image in a link; the image
    image: null, mask: null, result: null, painted: null, shared: '', // `shared`: a painted mask from a link
  };
  const changed = new EventTarget();
  let [queue, wanted, pace] = [Promise.resolve(), 0, FIRST_PACE];

  const strategy = () => document.querySelector('input[name="r-strategy"]:checked').value;

  /** Loads a model. What was loaded before stays if that fails. */
  async function load(source, wish) {
    const model = await Rowscan.load(source, {
      wasm,
      progress({ file, loaded, total }) {
        if (file === 'model.safetensors' && total) $('r-model').textContent = `loading, ${Math.round((loaded / total) * 100)}%`;
      },
    });
    state.model?.dispose();
    Object.assign(state, { model, files: model.files, loaded: wish, wish, result: null });
    performance.mark('model loaded');
    if (!wish && $('r-pick').lastChild?.value !== '') $('r-pick').append(new Option('Your own', ''));
    $('r-pick').value = wish;
    const { config, metadata } = model;
    $('r-model').textContent = `${config.name}, ${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.side} × ${model.side} pixels, ${model.grid * model.grid} patches`;
    delete metadata.format;
    delete metadata.objective;
    facts($('r-about'), { method: model.method, layers: config.pattern, width: config.width, ...metadata });
  }

  /** Loads what was chosen last: own files, or a model of the list. */
  async function reload() {
    const list = await models;
    if (!$('r-pick').options.length) $('r-pick').append(...list.map(({ id, title }) => new Option(title, id)));
    if (state.files && !state.loaded && !state.wish) return load(state.files, '');
    const { id, address: folder } = list.find(({ id }) => id === state.wish) ?? list[0];
    return load(folder, id);
  }

  function paintMask() {
    const count = state.model.grid ** 2;
    if (state.shared) state.painted = maskOf(state.shared, count) ?? state.painted;
    state.shared = '';
    if (state.painted?.length !== count) state.painted = new Float32Array(state.mask?.length === count ? state.mask : count);
    const hidden = state.painted.reduce((sum, value) => sum + value, 0);
    if (hidden === 0) state.painted[count >> 1] = 1;
    if (hidden === count) state.painted[0] = 0;
    return state.painted.slice();
  }

  /** Draws the image with gray patches. Returns that picture, without the frame of the keyboard. */
  function drawMask() {
    const { grid, side } = state.model;
    const patch = side / grid;
    const canvas = $('r-masked');
    picture(canvas, state.image);
    const context = canvas.getContext('2d');
    context.fillStyle = 'rgb(128 128 128)';
    state.mask.forEach((hidden, i) => hidden && context.fillRect((i % grid) * patch, Math.floor(i / grid) * patch, patch, patch));
    const gray = context.getImageData(0, 0, side, side);
    if (strategy() === 'paint' && document.activeElement === canvas) frame(canvas, pen.cursor, grid);
    return gray;
  }

  /** Reconstructs with the settings of the controls. Of several waiting calls only the last is carried out. */
  function run() {
    const wish = ++wanted;
    queue = queue.then(() => app.guard(async () => {
      if (wish !== wanted || !state.model || !state.source) return;
      const { model } = state;
      const { grid } = model;
      const options = strategy() === 'paint' ? { mask: paintMask() }
        : { strategy: strategy(), maskRatio: Number($('r-ratio').value), seed: Number($('r-seed').value) };
      const began = performance.now();
      const result = await model.reconstruct(state.source, options);
      const took = performance.now() - began;
      if (model !== state.model) return;
      Object.assign(state, { result, image: result.original, mask: result.predicted });
      picture($('r-original'), state.image);
      const masked = drawMask();
      performance.mark('picture');
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
    picture($('r-result'), partial);
    squares($('r-error'), [...errors].map(() => null), grid, heat);
    $('r-result').dataset.rows = 0;
    for (let row = 0; row < grid; row++) {
      if (!still) await new Promise((done) => setTimeout(done, (pace * 8) / grid));
      if (wish !== wanted) return;
      revealRow(partial, reconstruction, row, side / grid);
      picture($('r-result'), partial);
      squares($('r-error'), [...errors].map((error, i) => (i < (row + 1) * grid && state.mask[i] ? error / 2 : null)), grid, heat);
      $('r-row').textContent = row + 1 < grid ? `row ${row + 1} of ${grid}` : '';
      $('r-result').dataset.rows = row + 1;
      $('r-result').dispatchEvent(new CustomEvent('row', { detail: row + 1 }));
    }
    pace = PACE;
  }

  /** Takes an image: a sample by its name, or an own one. */
  async function choose(picked, source) {
    const { image, title, by, license } = source ? { image: source, title: 'Your image' } : await samples.get(picked);
    Object.assign(state, { picked: source ? '' : picked, own: Boolean(source), source: image, data: '' });
    for (const button of $('r-samples').children) button.setAttribute('aria-pressed', button.value === state.picked);
    $('r-credit').textContent = [title, by, license].filter(Boolean).join(', ');
    await run();
  }

  /** Takes an image that the user has chosen. */
  async function chosen(picked, source) {
    const shown = choose(picked, source);
    address.changed();
    await shown;
  }

  /** Takes the image that the address names, or the first sample. */
  async function reopen() {
    if (state.data) {
      const { data } = state;
      await choose('', await reopened(data));
      state.data = data;
    } else if (state.picked || !state.own) {
      const list = await samples.list;
      await choose((list.find(({ id }) => id === state.picked) ?? list[0]).id);
    } else {
      await run();
    }
  }

  async function gallery() {
    for (const { id, title } of await samples.list) {
      const button = document.createElement('button');
      button.type = 'button';
      button.value = id;
      button.title = title;
      button.setAttribute('aria-label', title);
      button.setAttribute('aria-pressed', id === state.picked);
      const canvas = document.createElement('canvas');
      canvas.width = canvas.height = 144;
      button.append(canvas);
      button.addEventListener('click', () => app.guard(() => chosen(id)));
      $('r-samples').append(button);
      canvas.getContext('2d').drawImage((await samples.get(id)).image, 0, 0, 144, 144);
    }
  }

  function painting() {
    const on = strategy() === 'paint';
    $('r-pictures').classList.toggle('painting', on);
    $('r-paint-hint').hidden = !on;
    $('r-ratio').disabled = $('r-seed').disabled = on;
    const canvas = $('r-masked');
    canvas.setAttribute('role', on ? 'application' : 'img');
    const keys = on ? '; move with the arrow keys, space hides or shows a patch' : '';
    canvas.setAttribute('aria-label', `Masked: what the encoder sees${keys}`);
    canvas.tabIndex = on ? 0 : -1;
    if (on) state.painted = null;
  }

  const pen = brush($('r-masked'), {
    active: () => strategy() === 'paint' && state.model && state.painted,
    grid: () => state.model.grid,
    get: (token) => state.painted[token],
    set(token, value) {
      if (state.painted[token] === value) return;
      const hidden = state.painted.reduce((sum, value) => sum + value, 0);
      if (value ? hidden + 1 >= state.painted.length : hidden <= 1) return; // one patch stays hidden, one visible
      state.painted[token] = value;
      state.mask = state.painted.slice();
    },
    moved() { if (state.model && state.mask && state.image) drawMask(); },
    done() { address.changed(); run(); },
  });

  const labels = () => {
    $('r-ratio-out').textContent = `${Math.round($('r-ratio').value * 100)}%`;
    $('r-seed-out').textContent = $('r-seed').value;
  };

  /** The address of what is shown. An own image goes into it, small, and is shown as it goes. */
  async function link() {
    if (!state.picked && !state.data) {
      const data = await embedded(state.image);
      await choose('', await reopened(data));
      state.data = data;
      address.changed();
    }
    return location.href.split('#')[0] + address;
  }

  const caption = () => `reconstruction, loss ${state.result.loss.toFixed(3)}`;
  const drawn = () => sheet([
    { canvas: $('r-original'), caption: 'original' }, { canvas: $('r-masked'), caption: 'what the model saw' }, { canvas: $('r-result'), caption: caption() },
  ]);
  $('r-link').addEventListener('click', () => app.guard(async () => {
    const text = await link();
    await navigator.clipboard.writeText(text).then(
      () => { $('r-shared').textContent = 'The link is in the clipboard.'; },
      () => { $('r-shared').textContent = text; }, // the browser does not let the page write there
    );
    if (!state.loaded) $('r-shared').textContent += ' Your own model is not in it: whoever opens it sees another one.';
  }));
  $('r-save').addEventListener('click', () => app.guard(async () => state.result && download('rowscan.png', await drawn())));
  $('r-share').hidden = !navigator.share;
  $('r-share').addEventListener('click', () => app.guard(async () => {
    if (state.result) await pass(await drawn(), await link());
  }));

  $('r-form').addEventListener('submit', (event) => event.preventDefault());
  $('r-form').addEventListener('input', (event) => {
    if (event.target.type === 'file' || event.target.id === 'r-pick') return;
    labels();
    if (event.target.name === 'r-strategy') painting();
    address.changed();
    run();
  });
  $('r-pick').addEventListener('change', () => app.guard(async () => {
    state.wish = $('r-pick').value;
    if (!state.wish) return;
    await api.swap(() => reload()).catch((error) => { $('r-pick').value = state.wish = state.loaded; throw error; });
    address.changed();
  }));
  $('r-again').addEventListener('click', run);
  app.picks('r-file', ([file]) => api.image(file));
  app.picks('r-folder', app.take);
  $('r-camera').addEventListener('click', () => app.guard(async () => {
    const source = await photograph($('camera'), $('camera-view'), $('camera-take'), $('camera-close'))
      .catch((error) => { throw new Error(`no camera: ${error.message}`); });
    if (source) await chosen('', source);
  }));

  address.add('reconstruct', 'model', { read: () => state.loaded || state.wish, write: (text) => { state.wish = text; } });
  address.add('reconstruct', 'image', { read: () => state.picked, write: (text) => { state.picked = text; } });
  address.add('reconstruct', 'data', { read: () => state.data, write: (text) => { state.data = text; } });
  address.add('reconstruct', 'mask', {
    read: strategy,
    write(text) {
      const radio = [...document.querySelectorAll('input[name="r-strategy"]')].find(({ value }) => value === text);
      if (radio) radio.checked = true;
      painting();
    },
  });
  address.add('reconstruct', 'hidden', {
    read: () => (strategy() === 'paint' && state.painted ? maskText(state.painted) : ''),
    write: (text) => { state.shared = text; },
  });
  address.control('reconstruct', 'ratio', $('r-ratio'));
  address.control('reconstruct', 'seed', $('r-seed'));
  labels();

  const api = {
    state,
    changed,
    run,
    choose: chosen,
    async connected() {
      await reload();
      await reopen();
      if (!$('r-samples').children.length) await gallery();
    },
    /** Shows what the address says, which has changed. */
    async applied() {
      labels();
      const list = await models;
      if (list.some(({ id }) => id === state.wish) && state.wish !== state.loaded) await api.swap(() => reload());
      state.wish = state.loaded;
      await reopen();
    },
    lost() { state.model = null; },
    async image(file) { await chosen('', await decode(file)); app.notice(); },
    /** Takes another model by `change`, between two pictures. */
    async swap(change) {
      const swap = queue.then(change);
      queue = swap.catch(() => {});
      await swap;
      app.notice();
      state.painted = null;
      await run();
    },
    async open(files) {
      await api.swap(() => load(files, ''));
      app.show('reconstruct');
      address.changed();
    },
  };
  return api;
}
