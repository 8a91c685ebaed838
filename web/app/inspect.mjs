// Inspect: what a patch may look at and looks at, what a scan remembers of it, patches like it, other decoder masks.
import { frame, heat, overlay, patchAt, picture, squares, step } from './draw.mjs';
import { Library } from './neighbors.mjs';

const MASKS = [
  ['ar', 'AR', 'itself and every patch before it'],
  ['mae', 'MAE', 'every patch'],
  ['local-mae', 'local MAE', 'its own row'],
  ['map', 'MAP', 'its own row and the rows above'],
];
const DIRECTIONS = ['down, first patch to last', 'up, last patch to first'];
/** Patches that are shown as alike. */
const NEAREST = 6;

export function attach(app) {
  const { $, address } = app;
  const state = {
    token: null, near: [], linked: '',
    of: null, maps: null, seen: null, scan: null, // a model, and what was read of it
  };
  const library = new Library(app.samples);
  let queue = Promise.resolve();

  const source = () => app.modes.reconstruct.state;
  const ready = () => source().model && source().image && source().result && app.mode === 'inspect';
  /** Whether a model is still the one in use: another one may have been taken while something was waited for. */
  const current = (model) => source().model === model;

  function cards() {
    if ($('i-masks').children.length) return;
    for (const [mask, name, says] of MASKS) {
      const figure = document.createElement('figure');
      figure.dataset.mask = mask;
      const [pattern, result, caption] = ['canvas', 'canvas', 'figcaption'].map((tag) => document.createElement(tag));
      pattern.setAttribute('role', 'img');
      pattern.setAttribute('aria-label', `${name}: a patch may look at ${says}`);
      pattern.className = 'pattern';
      result.setAttribute('role', 'img');
      result.setAttribute('aria-label', `Reconstruction under the mask of ${name}`);
      result.className = 'result';
      figure.append(pattern, result, caption);
      $('i-masks').append(figure);
    }
  }

  /** Fills a select with numbered choices, or hides its label if there are none. */
  function choices(select, names) {
    select.parentElement.hidden = !names.length;
    if ([...select.options].map(({ text }) => text).join() === names.join()) return;
    const before = select.value;
    select.replaceChildren(...names.map((name, i) => new Option(name, i)));
    if (before in names) select.value = before;
  }
  const numbered = (count, label) => Array.from({ length: count }, (_, i) => `${label} ${i + 1}`);

  /** Computes anew what depends on image, mask and model. All three are those of Reconstruct. */
  function refresh() {
    queue = queue.then(() => app.guard(async () => {
      if (!ready()) return;
      const { model, image, result: { mask } } = source();
      const tokens = model.grid ** 2;
      const decodes = model.method !== 'contrastive' && model.config.decoder.kind === 'map';
      $('i-attending').hidden = $('i-others').hidden = !decodes;
      if (state.token === null || state.token >= tokens) state.token = Math.floor(tokens * 0.62);
      if (/^\d+$/.test(state.linked) && Number(state.linked) < tokens) state.token = Number(state.linked);
      state.linked = '';
      choices($('i-layer'), numbered(model.scanLayers, 'layer'));
      choices($('i-way'), model.scanLayers ? DIRECTIONS : []);
      $('i-scan').hidden = !model.scanLayers;
      choices($('i-block'), decodes ? numbered(model.blocks, 'block') : []);
      choices($('i-head'), decodes ? numbered(model.heads, 'head') : []);
      if (decodes) {
        const [seen, maps] = [model.seen('map'), await model.attention(image, { mask })];
        Object.assign(state, { seen, maps });
      }
      if (!current(model)) return;
      await scan(model, image);
      if (!current(model)) return;
      state.of = model;
      draw();
      if (decodes) await masks(model, image, mask);
      if (!current(model)) return;
      await library.read(model, image, () => current(model));
      if (current(model)) near();
    }));
    return queue;
  }

  /** The states of the chosen layer. */
  async function scan(model, image) {
    state.scan = model.scanLayers ? await model.scan(image, { layer: Number($('i-layer').value) }) : null;
    if (state.scan?.directions === 1) choices($('i-way'), DIRECTIONS.slice(0, 1));
  }

  async function masks(model, image, mask) {
    const tokens = model.grid ** 2;
    cards();
    for (const [kind, name] of MASKS) {
      const [pattern, drawn, caption] = $('i-masks').querySelector(`[data-mask="${kind}"]`).children;
      pattern.width = pattern.height = tokens;
      const pixels = new ImageData(tokens, tokens);
      model.seen(kind).forEach((on, i) => pixels.data.set(on ? [45, 212, 191, 255] : [120, 124, 130, 60], i * 4));
      pattern.getContext('2d').putImageData(pixels, 0, 0);
      const made = await model.reconstruct(image, { mask, decoder: kind });
      if (!current(model)) return;
      picture(drawn, made.reconstruction);
      drawn.dataset.loss = made.loss;
      caption.innerHTML = `<b>${name}</b> loss ${made.loss.toFixed(3)}`;
    }
  }

  const place = (token) => {
    const { grid } = source().model;
    return `row ${Math.floor(token / grid) + 1}, column ${(token % grid) + 1}`;
  };

  function draw() {
    const { model, image, mask, result } = source();
    if (!model || state.of !== model || !image || state.token === null) return;
    const { grid } = model;
    const tokens = grid * grid;
    const { token } = state;
    picture($('i-token'), result?.reconstruction ?? image);
    frame($('i-token'), token, grid);
    const says = [`Patch at ${place(token)}${mask[token] ? ', hidden' : ''}`];
    if (state.maps && !$('i-attending').hidden) {
      const seen = state.seen.subarray(token * tokens, (token + 1) * tokens);
      squares($('i-mask'), [...seen], grid, (on) => (on ? [45, 212, 191] : [120, 124, 130]));
      frame($('i-mask'), token, grid);
      const at = (Number($('i-block').value) * model.heads + Number($('i-head').value)) * tokens * tokens + token * tokens;
      const weights = state.maps.subarray(at, at + tokens);
      const most = Math.max(...weights);
      overlay($('i-attention'), result?.reconstruction ?? image, [...weights].map((weight, i) => (seen[i] ? weight / most : null)), grid);
      frame($('i-attention'), token, grid);
      $('i-attention').dataset.sum = weights.reduce((sum, weight) => sum + weight, 0);
      says.push(`sees ${seen.reduce((sum, on) => sum + on, 0)} of ${tokens}; looks most at ${place(weights.indexOf(most))} (${(most * 100).toFixed(1)}%)`);
    }
    if (state.scan) {
      const way = Math.min(Number($('i-way').value), state.scan.directions - 1);
      const size = state.scan.size.subarray(way * tokens, (way + 1) * tokens);
      const left = state.scan.left.subarray((way * tokens + token) * tokens, (way * tokens + token + 1) * tokens);
      const [largest, wrote] = [Math.max(...size), Math.max(...left)];
      overlay($('i-size'), image, [...size].map((value) => value / largest), grid);
      overlay($('i-left'), image, [...left].map((value) => (value > 0 ? value / wrote : null)), grid);
      for (const id of ['i-size', 'i-left']) frame($(id), token, grid);
      const half = [...left].filter((value) => value >= wrote / 2).length - 1;
      $('i-remembers').textContent = half > 0 ? `Half of what it wrote is left ${half} ${half === 1 ? 'patch' : 'patches'} later.` : 'Not half of what it wrote is left at the next patch.';
    }
    $('i-says').textContent = `${says.join(': ')}.`;
  }

  /** Shows the patches most like the chosen one. */
  function near() {
    const { model } = source();
    state.near = library.nearest(model, state.token, NEAREST);
    $('i-near').replaceChildren(...state.near.map(({ image, token, title, alike }) => {
      const figure = document.createElement('figure');
      const [canvas, caption] = ['canvas', 'figcaption'].map((tag) => document.createElement(tag));
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', `${title}, ${place(token)}`);
      canvas.width = canvas.height = 96;
      const [side, grid] = [Math.min(image.width, image.height), model.grid];
      const [each, row, column] = [side / grid, Math.floor(token / grid), token % grid];
      const context = canvas.getContext('2d');
      // the patch in the middle third, and around it what is there
      context.drawImage(image, (column - 1) * each, (row - 1) * each, each * 3, each * 3, 0, 0, 96, 96);
      context.strokeStyle = '#fff';
      context.lineWidth = 2;
      context.strokeRect(33, 33, 30, 30);
      caption.textContent = `${alike.toFixed(2)} ${title}`;
      figure.append(canvas, caption);
      return figure;
    }));
  }

  function pick(token) {
    state.token = token;
    address.changed();
    draw();
    near();
  }
  $('i-token').addEventListener('pointerdown', (event) => {
    if (source().model) pick(patchAt($('i-token'), event, source().model.grid));
  });
  $('i-token').addEventListener('keydown', (event) => {
    const next = source().model && step(event.key, state.token ?? 0, source().model.grid);
    if (next === null || next === undefined) return;
    event.preventDefault();
    pick(next);
  });
  for (const id of ['i-block', 'i-head', 'i-way']) $(id).addEventListener('input', () => { address.changed(); draw(); });
  $('i-layer').addEventListener('input', () => {
    address.changed();
    queue = queue.then(() => app.guard(async () => {
      if (!ready() || state.of !== source().model) return; // else all of it is computed anew
      await scan(source().model, source().image);
      draw();
    }));
  });
  address.add('inspect', 'patch', {
    read: () => (state.token === null ? '' : String(state.token)),
    write(text) { state.linked = text; },
  });
  for (const [name, id] of [['block', 'i-block'], ['head', 'i-head'], ['layer', 'i-layer'], ['way', 'i-way']]) {
    address.add('inspect', name, {
      read: () => $(id).value,
      // the choices come with the model: until then the one that is wanted stands alone
      write(text) {
        if (/^\d{1,2}$/.test(text) && ![...$(id).options].some(({ value }) => value === text)) $(id).replaceChildren(new Option('', text));
        if (text) $(id).value = text;
      },
    });
  }

  let listening = false;
  return {
    state,
    refresh,
    shown() {
      if (!listening) app.modes.reconstruct.changed.addEventListener('result', refresh);
      listening = true;
      refresh();
    },
    async connected() { await refresh(); },
    applied: () => (app.mode === 'inspect' ? refresh() : undefined),
    lost() { state.maps = state.scan = null; },
  };
}
