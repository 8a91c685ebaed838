// A lesson in five steps about what a step of training does, with something to touch in each. The picture and the model
// are those of Reconstruct.
import { frame, heat, overlay, patchAt, picture, step } from './draw.mjs';
import { brush } from './paint.mjs';

/** Canvases of a step and what they are called. */
const STEPS = [
  { title: 'What is hidden', canvases: ['picture', 'hidden'] },
  { title: 'What the encoder sees', canvases: ['hidden', 'sequence'], slider: 'Patch' },
  { title: 'What a row may see', canvases: ['may see', 'guess'], slider: 'Row' },
  { title: 'What the loss counts', canvases: ['error', 'true patch', 'guessed patch'] },
  { title: 'What the features are good for', canvases: ['picture'] },
];
const TOUCH = {
  hidden: 'Hidden patches: paint with the mouse, or move with the arrow keys and press space',
  error: 'Error of each patch: choose one with the arrow keys',
};
/** Samples that are shown as alike. */
const NEAREST = 4;

export function attach(app) {
  const { $, samples } = app;
  const state = { at: 0, mask: null, of: null, result: null, token: 0, order: [], means: null, seed: 1 };
  let queue = Promise.resolve();

  const source = () => app.modes.reconstruct.state;
  const open = () => $('lesson').open && source().model && source().result;
  const canvas = (name) => $('l-canvases').querySelector(`[data-name="${name}"] canvas`);

  /** The picture with hidden patches gray, and at `token` a frame. */
  function hidden(on, token = null) {
    const { image, model: { grid, side } } = source();
    picture(on, image);
    const context = on.getContext('2d');
    const each = side / grid;
    context.fillStyle = 'rgb(128 128 128)';
    state.mask.forEach((gone, i) => gone && context.fillRect((i % grid) * each, Math.floor(i / grid) * each, each, each));
    if (token !== null) frame(on, token, grid);
  }

  /** The visible patches one after the other, as the encoder reads them. */
  function sequence(on, at) {
    const { image, model: { grid, side } } = source();
    const each = side / grid;
    const columns = Math.ceil(Math.sqrt(state.order.length));
    const cell = each + 2;
    on.width = on.height = columns * cell;
    const context = on.getContext('2d');
    state.order.forEach((token, i) => {
      const [left, top] = [(i % columns) * cell, Math.floor(i / columns) * cell];
      context.putImageData(image, left - (token % grid) * each, top - Math.floor(token / grid) * each, (token % grid) * each, Math.floor(token / grid) * each, each, each);
      if (i !== at) return;
      context.strokeStyle = '#2dd4bf';
      context.lineWidth = 2;
      context.strokeRect(left, top, each, each);
    });
  }

  /** One patch of an image, large. */
  function patch(on, image) {
    const { model: { grid, side } } = source();
    const each = side / grid;
    on.width = on.height = each;
    on.getContext('2d').putImageData(image, -(state.token % grid) * each, -Math.floor(state.token / grid) * each);
  }

  const DRAW = [
    () => {
      picture(canvas('picture'), source().image);
      hidden(canvas('hidden'), document.activeElement === canvas('hidden') ? pen.cursor : null);
      const gone = state.mask.reduce((sum, value) => sum + value, 0);
      return `${gone} of ${state.mask.length} patches are gone. Paint on the right: hide some, show others. Training draws other patches for each image in each step, so nothing can be learned by heart.`;
    },
    () => {
      const at = Math.min(Number($('l-slider').value), state.order.length - 1);
      hidden(canvas('hidden'), state.order[at]);
      sequence(canvas('sequence'), at);
      return `The encoder gets the ${state.order.length} visible patches and where each belongs, in this order, and no trace of the others. Slide along: patch ${at + 1} of its sequence. Leaving the rest out is what makes training cheap.`;
    },
    () => {
      const { model: { grid } } = source();
      const row = Math.min(Number($('l-slider').value), grid - 1);
      const { reconstruction } = state.result;
      const above = [...state.mask].map((_, i) => (Math.floor(i / grid) <= row ? 0 : null));
      overlay(canvas('may see'), reconstruction, above, grid, 0);
      const partial = new ImageData(new Uint8ClampedArray(reconstruction.data), reconstruction.width);
      const bytes = (partial.data.length / grid) * (row + 1);
      for (let i = bytes; i < partial.data.length; i += 4) partial.data.set([128, 128, 128], i);
      picture(canvas('guess'), partial);
      return `The decoder fills the hidden patches row by row. Row ${row + 1} looks at itself and at the rows above; what lies below is dark to it. So it has to know how pictures go on, and not only how to fill holes.`;
    },
    () => {
      const { model: { grid }, image } = source();
      const { errors, reconstruction, loss } = state.result;
      overlay(canvas('error'), image, [...errors].map((error, i) => (state.mask[i] ? Math.min(error / 2, 1) : 0)), grid);
      frame(canvas('error'), state.token, grid);
      patch(canvas('true patch'), image);
      patch(canvas('guessed patch'), reconstruction);
      const counts = state.mask[state.token] ? `its error is ${errors[state.token].toFixed(2)}` : 'it was visible, so it counts nothing';
      return `Choose a patch: ${counts}. The loss is the mean over the hidden patches, ${loss.toFixed(3)} here. Each patch is brought to the same brightness and contrast first; guessing its mean alone gives 1.`;
    },
    () => {
      picture(canvas('picture'), source().image);
      const told = app.modes.train.state.probes.at(-1);
      return `Nobody said what is in the pictures. Still the encoder's features put some side by side; choose another picture. ${told ? `In this training, a linear classifier of the features now tells ${told[1].toFixed(0)}% of ten shapes.` : 'While you train on generated shapes, the second curve above shows how many of ten shapes a linear classifier of the features tells apart.'}`;
    },
  ];

  /** Sorts the samples by how alike their features are to those of the picture. */
  async function alike() {
    const { model, image } = source();
    if (state.means?.model !== model) {
      const all = [];
      for (const { id } of await samples.list) {
        const sample = await samples.get(id);
        if (source().model !== model) return;
        all.push({ ...sample, features: await model.features(sample.image) });
      }
      state.means = { model, all };
    }
    const { all } = state.means;
    if (source().model !== model) return;
    const own = await model.features(image);
    if (source().model !== model) return;
    const mean = own.map((_, i) => all.reduce((sum, { features }) => sum + features[i], 0) / all.length);
    const centered = (features) => features.map((value, i) => value - mean[i]);
    const wanted = centered(own);
    const cosine = (other) => other.reduce((sum, value, i) => sum + value * wanted[i], 0) / (Math.hypot(...other) * Math.hypot(...wanted) || 1);
    const sorted = all.filter(({ id }) => id !== source().picked)
      .map((sample) => ({ ...sample, cosine: cosine(centered(sample.features)) })).sort((a, b) => b.cosine - a.cosine);
    $('l-alike').replaceChildren(...sorted.slice(0, NEAREST).map(({ image, title, cosine, id }) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.setAttribute('aria-label', `${title}, cosine ${cosine.toFixed(2)}: choose it`);
      const drawn = document.createElement('canvas');
      drawn.width = drawn.height = 144;
      drawn.getContext('2d').drawImage(image, 0, 0, 144, 144);
      const caption = document.createElement('span');
      caption.textContent = cosine.toFixed(2);
      button.append(drawn, caption);
      button.addEventListener('click', () => app.guard(() => app.modes.reconstruct.choose(id)));
      return button;
    }));
  }

  function draw() {
    if (!open() || state.of !== source().result || !state.result) return;
    $('l-says').textContent = DRAW[state.at]();
  }

  /** Reconstructs with the mask of the lesson, which is that of Reconstruct until somebody paints. */
  function refresh() {
    queue = queue.then(() => app.guard(async () => {
      if (!open()) return;
      const { model, image, result } = source();
      if (state.of !== result) Object.assign(state, { of: result, mask: result.predicted.slice(), result: null });
      state.order = [...model.mask({ mask: state.mask }).keys()].filter((token) => !state.mask[token]);
      if (!state.mask[state.token]) state.token = state.mask.indexOf(1);
      const made = await model.reconstruct(image, { mask: state.mask });
      if (source().model !== model) return; // another one was taken meanwhile
      state.result = made;
      if (state.at === 4) await alike();
      draw();
    }));
    return queue;
  }

  /** Shows step number `at`. */
  function go(at) {
    state.at = Math.min(Math.max(at, 0), STEPS.length - 1);
    const { title, canvases, slider } = STEPS[state.at];
    $('l-title').textContent = `${state.at + 1}. ${title}`;
    for (const button of $('l-steps').children) button.setAttribute('aria-current', Number(button.value) === state.at ? 'step' : 'false');
    $('l-back').disabled = state.at === 0;
    $('l-next').disabled = state.at === STEPS.length - 1;
    $('l-canvases').replaceChildren(...canvases.map((name) => {
      const figure = document.createElement('figure');
      figure.dataset.name = name;
      const [drawn, caption] = ['canvas', 'figcaption'].map((tag) => document.createElement(tag));
      const touched = (name === 'hidden' && state.at === 0) || name === 'error';
      drawn.setAttribute('role', touched ? 'application' : 'img');
      drawn.setAttribute('aria-label', touched ? TOUCH[name] : name);
      if (touched) drawn.tabIndex = 0;
      caption.textContent = name;
      figure.append(drawn, caption);
      return figure;
    }));
    $('l-slide').hidden = !slider;
    $('l-slide').firstChild.textContent = `${slider} `;
    const most = slider === 'Row' ? source().model?.grid : state.order.length;
    $('l-slider').max = Math.max((most ?? 1) - 1, 0);
    $('l-slider').value = Math.floor($('l-slider').max / 2);
    $('l-alike').replaceChildren();
    $('l-again').hidden = state.at !== 0;
    if (state.at === 0) pen = painted();
    if (state.at === 3) picks();
    refresh();
  }

  let pen = { cursor: 0 };
  const painted = () => brush(canvas('hidden'), {
    active: () => open(),
    grid: () => source().model.grid,
    get: (token) => state.mask[token],
    set(token, value) {
      const gone = state.mask.reduce((sum, each) => sum + each, 0);
      if (state.mask[token] !== value && (value ? gone + 1 < state.mask.length : gone > 1)) state.mask[token] = value;
    },
    moved: () => { if (canvas('hidden') && state.at === 0) draw(); },
    done: refresh,
  });

  function picks() {
    const on = canvas('error');
    const pick = (token) => { state.token = token; draw(); };
    on.addEventListener('pointerdown', (event) => pick(patchAt(on, event, source().model.grid)));
    on.addEventListener('keydown', (event) => {
      const next = step(event.key, state.token, source().model.grid);
      if (next === null) return;
      event.preventDefault();
      pick(next);
    });
  }

  $('l-steps').append(...STEPS.map(({ title }, i) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.value = i;
    button.textContent = i + 1;
    button.setAttribute('aria-label', `Step ${i + 1}: ${title}`);
    button.addEventListener('click', () => go(i));
    return button;
  }));
  $('l-back').addEventListener('click', () => go(state.at - 1));
  $('l-next').addEventListener('click', () => go(state.at + 1));
  $('l-slider').addEventListener('input', draw);
  $('l-again').addEventListener('click', () => {
    if (!open()) return;
    state.mask = source().model.mask({ seed: state.seed++ });
    refresh();
  });
  $('lesson').addEventListener('toggle', () => $('lesson').open && go(state.at));
  app.modes.reconstruct.changed.addEventListener('result', refresh);
  return { state, go };
}
