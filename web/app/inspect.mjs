// Inspect: the patches that a patch may attend to, its attention weights, and reconstructions under other masks.
import { frame, heat, patchAt, picture, squares, step } from './draw.mjs';

const MASKS = [
  ['ar', 'AR', 'itself and every patch before it'],
  ['mae', 'MAE', 'every patch'],
  ['local-mae', 'local MAE', 'its own row'],
  ['map', 'MAP', 'its own row and the rows above'],
];

export function attach(app) {
  const { $ } = app;
  const state = { token: null, maps: null, seen: null };
  let queue = Promise.resolve();

  const source = () => app.modes.reconstruct.state;

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

  /** Computes anew what depends on image, mask and model. All three are those of Reconstruct. */
  function refresh() {
    queue = queue.then(() => app.guard(async () => {
      const { model, image, mask } = source();
      if (!model || !image || !mask || app.mode !== 'inspect') return;
      cards();
      const { side, grid } = model;
      const tokens = grid * grid;
      for (const [kind, name] of MASKS) {
        const figure = $('i-masks').querySelector(`[data-mask="${kind}"]`);
        const [pattern, result, caption] = figure.children;
        const seen = model.seen(kind);
        const canvas = pattern;
        canvas.width = canvas.height = tokens;
        const pixels = new ImageData(tokens, tokens);
        seen.forEach((on, i) => pixels.data.set(on ? [45, 212, 191, 255] : [120, 124, 130, 60], i * 4));
        canvas.getContext('2d').putImageData(pixels, 0, 0);
        const made = await model.under(kind, image, mask);
        picture(result, made.reconstruction, side);
        result.dataset.loss = made.loss;
        caption.innerHTML = `<b>${name}</b> loss ${made.loss.toFixed(3)}`;
        made.free();
      }
      state.seen = model.seen('map');
      state.maps = await model.attention(image, mask);
      const choices = (select, count, label) => {
        if (select.options.length === count) return;
        select.replaceChildren(...Array.from({ length: count }, (_, i) => new Option(`${label} ${i + 1}`, i)));
      };
      choices($('i-block'), model.blocks, 'block');
      choices($('i-head'), model.heads, 'head');
      if (state.token === null || state.token >= tokens) state.token = Math.floor(tokens * 0.62);
      draw();
    }));
    return queue;
  }

  function draw() {
    const { model, image, mask } = source();
    if (!model || !state.maps) return;
    const { side, grid } = model;
    const tokens = grid * grid;
    const { token } = state;
    picture($('i-token'), source().result?.reconstruction ?? image, side);
    frame($('i-token'), token, grid);
    const seen = state.seen.subarray(token * tokens, (token + 1) * tokens);
    squares($('i-mask'), [...seen], grid, (on) => (on ? [45, 212, 191] : [120, 124, 130]));
    frame($('i-mask'), token, grid);
    const at = (Number($('i-block').value) * model.heads + Number($('i-head').value)) * tokens * tokens + token * tokens;
    const weights = state.maps.subarray(at, at + tokens);
    const most = Math.max(...weights);
    squares($('i-attention'), [...weights].map((weight, i) => (seen[i] ? weight / most : null)), grid, heat);
    frame($('i-attention'), token, grid);
    $('i-attention').dataset.sum = weights.reduce((sum, weight) => sum + weight, 0);
    const best = weights.indexOf(most);
    const place = (token) => `row ${Math.floor(token / grid) + 1}, column ${(token % grid) + 1}`;
    $('i-says').textContent = `Patch at ${place(token)}${mask[token] ? ', hidden' : ''}: sees ${seen.reduce((sum, on) => sum + on, 0)} of ${tokens}; looks most at ${place(best)} (${(most * 100).toFixed(1)}%).`;
  }

  $('i-token').addEventListener('pointerdown', (event) => {
    if (!source().model) return;
    state.token = patchAt($('i-token'), event, source().model.grid);
    draw();
  });
  $('i-token').addEventListener('keydown', (event) => {
    const next = source().model && step(event.key, state.token ?? 0, source().model.grid);
    if (next === null || next === undefined) return;
    event.preventDefault();
    state.token = next;
    draw();
  });
  for (const id of ['i-block', 'i-head']) $(id).addEventListener('input', draw);

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
    lost() { state.maps = null; },
  };
}
