// Train: pretraining that goes on after a reload, and that the command line goes on with.
import { Rowscan, pixels, unzip } from 'rowscan';
import { within } from './address.mjs';
import { curve } from './chart.mjs';
import { facts, picture } from './draw.mjs';
import { archive, curves, keep, keepImages, kept } from './kept.mjs';
import { download } from './share.mjs';

const PATCH = 8;
const GENERATED = 'synthetic:512';
/** Shorter side, in pixels, to which own images are reduced: crops are taken of them. */
const SHORT = 256;
/** Steps between pictures of the held-out images. */
const SHOW_EVERY = 10;
/** Steps between two probes, at least; and how many times as long as a probe took the next one waits. */
const [PROBE_EVERY, PROBE_SHARE] = [30, 8];
/** Milliseconds between two saves while it runs. It is also saved when it pauses. */
const SAVE_EVERY = 10_000;
/** A model below this number of parameters is copied at every picture, a larger one only at every save. The copy is
 * what is left of the run if the device is lost. */
const SMALL = 5e6;

export function attach(app) {
  const { $, address } = app;
  const state = {
    model: null, training: null, running: null, stop: null, // the run; the promise of its loop, and what ends it
    losses: [], probes: [], heldOut: null, rate: 0, // [loss of each step], [[step, percent]]
    images: null, seed: 0, copy: null, saved: 0, probed: { at: 0, took: 0 },
    chosen: false, // whether the user set the rate, or a link
    asked: false, // whether the kept run was brought back, or is not wanted any more
    busy: false, adjusted: false, hidden: false,
  };
  let [last, frame] = [Promise.resolve(), 0];

  /** Runs work that makes or ends a run, after all such work asked for before. */
  function inTurn(work) {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  }

  /** Runs such work while the buttons wait. */
  const waiting = (work) => inTurn(async () => {
    state.busy = true;
    labels();
    try {
      return await work();
    } finally {
      state.busy = false;
      labels();
    }
  });

  const batch = () => 2 ** Number($('t-batch').value);
  const rate = () => 10 ** Number($('t-lr').value);
  const ratio = () => Number($('t-ratio').value);
  const percent = (share) => `${Math.round(share * 100)}%`;

  function labels() {
    $('t-batch-out').textContent = state.training?.batch ?? batch();
    $('t-lr-out').textContent = rate().toExponential(1);
    $('t-ratio-out').textContent = percent(ratio());
    $('t-go').textContent = state.running ? 'Pause' : state.training ? 'Resume' : 'Start';
    for (const id of ['t-model', 't-side', 't-batch', 't-augment']) $(id).disabled = Boolean(state.training);
    for (const id of ['t-restart', 't-download', 't-use']) $(id).disabled = state.busy || !state.training;
    $('t-go').disabled = state.busy || Boolean(state.running && state.stop.signal.aborted);
    $('t-form').setAttribute('aria-busy', state.busy);
    $('t-data').textContent = state.images ? `${state.images.length} own images` : '512 generated images';
  }

  function report() {
    const last = state.losses.slice(-10);
    const mean = last.reduce((sum, loss) => sum + loss, 0) / last.length;
    facts($('t-facts'), {
      loss: last.length ? mean.toFixed(3) : '–', steps: state.training?.steps ?? 0,
      'held-out loss': Number.isFinite(state.heldOut) ? state.heldOut.toFixed(3) : '–',
      'classes told apart': state.probes.length ? `${state.probes.at(-1)[1].toFixed(0)}% (chance 10%)` : '–',
      'images/s': state.rate ? state.rate.toFixed(state.rate < 10 ? 1 : 0) : '–',
      'learning rate': state.training ? state.training.learningRate.toExponential(1) : '–',
      parameters: state.training ? `${(state.training.parameters / 1e6).toFixed(1)} M` : '–', adapter: $('adapter').textContent,
    });
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      curve($('t-curve'), state.losses, state.probes);
    });
  }

  /** Shows the rate that the package takes for the chosen model, unless another one was set. */
  async function follow() {
    const preset = $('t-model').value;
    if (state.chosen || state.training || !app.device) return;
    const found = await app.guard(() => Rowscan.learningRate(preset));
    if (!found || state.chosen || state.training || preset !== $('t-model').value) return;
    $('t-lr').value = Math.log10(found);
    labels();
  }

  /** Takes `model`, whose run it goes on with if there is one. */
  async function make(model) {
    const options = { batch: batch(), learningRate: state.chosen ? rate() : undefined, maskRatio: ratio(), seed: state.seed, augment: $('t-augment').checked };
    const training = await model.training(state.images ?? GENERATED, options);
    drop();
    Object.assign(state, { model, training, probed: { at: training.steps, took: 0 } });
  }

  /** Ends the run. */
  function drop() {
    state.training?.dispose();
    state.model?.dispose();
    Object.assign(state, { training: null, model: null, losses: [], probes: [], heldOut: null, copy: null });
  }

  async function begin() {
    await make(await Rowscan.create($('t-model').value, {
      device: app.device, imageSize: Number($('t-side').value), patchSize: PATCH, seed: state.seed,
    }));
    await keepImages(state.images);
    await show();
  }

  /** Shows the held-out images as the model reconstructs them now. */
  async function show() {
    const { images, loss } = await state.training.pictures();
    const kinds = ['original', 'masked', 'reconstruction'];
    while ($('t-held').children.length < images.length) {
      const row = document.createElement('div');
      row.append(...kinds.map((kind) => {
        const canvas = document.createElement('canvas');
        canvas.setAttribute('role', 'img');
        canvas.setAttribute('aria-label', `Held-out image ${$('t-held').children.length + 1}, ${kind}`);
        return canvas;
      }));
      $('t-held').append(row);
    }
    [...$('t-held').children].forEach((row, i) => {
      row.hidden = i >= images.length;
      if (!row.hidden) kinds.forEach((kind, k) => picture(row.children[k], images[i][kind]));
    });
    state.heldOut = loss;
    report();
  }

  /** Probes the features, where that takes little of the time. */
  async function probe() {
    const now = performance.now();
    const { at, took, ended = 0 } = state.probed;
    if (state.images || state.training.steps - at < PROBE_EVERY || now - ended < took * PROBE_SHARE) return;
    const found = await state.training.probe();
    const end = performance.now();
    state.probed = { at: state.training.steps, took: end - now, ended: end };
    state.probes.push([state.training.steps, found]);
    report();
  }

  /** Trains until it is stopped. */
  async function loop() {
    await state.training.run({
      signal: state.stop.signal,
      every: SHOW_EVERY,
      onStep({ loss, imagesPerSecond }) {
        if (state.adjusted) {
          const { learningRate } = state.training.settings;
          state.training.adjust({ learningRate: state.chosen ? rate() : learningRate, maskRatio: ratio() });
        }
        state.adjusted = false;
        if (Number.isFinite(loss)) state.losses.push(loss);
        state.rate = imagesPerSecond;
        report();
        $('t-curve').dispatchEvent(new CustomEvent('step', { detail: loss }));
      },
      async onRest({ parameters }) {
        await show();
        await probe();
        if (state.stop.signal.aborted || performance.now() - state.saved > SAVE_EVERY) await save();
        else if (parameters < SMALL) state.copy = await pack();
      },
    });
  }

  const pack = () => archive(state.model, state.training, { losses: state.losses, probes: state.probes });

  /** Saves the run in this browser. */
  async function save() {
    state.copy = await pack();
    await keep(state.copy);
    state.saved = performance.now();
    $('t-saved').textContent = `Kept in this browser at step ${state.training.steps}.`;
    $('t-saved').dataset.step = state.training.steps;
  }

  async function go() {
    if (state.running) return pause();
    if (!app.device) return;
    if (!state.asked) await bring();
    await app.guard(() => inTurn(async () => {
      if (state.running || !state.asked) return;
      if (!state.training) await begin();
      state.stop = new AbortController();
      state.saved = performance.now();
      state.running = app.guard(loop).finally(() => {
        state.running = null;
        labels();
      });
    }));
    labels();
  }

  async function pause() {
    if (!state.running) return;
    state.stop.abort();
    labels();
    await state.running;
  }

  /** Shows a choice in a select, also one that it did not offer. */
  function offer(select, value, text) {
    if (![...select.options].some((option) => option.value === value)) select.append(new Option(text, value));
    select.value = value;
  }

  /** Takes the files of a checkpoint: goes on with its run if that was on these images, else starts one from its weights. */
  async function resume(found) {
    const text = found.find(({ name }) => name === 'state.json')?.bytes;
    const settings = text && JSON.parse(new TextDecoder().decode(text)).settings;
    if (settings?.data === GENERATED) state.images = null;
    if (settings) state.seed = settings.seed;
    await make(await Rowscan.load(found, { device: app.device }));
    const { config } = state.model;
    offer($('t-model'), config.name, config.name);
    offer($('t-side'), String(config.image_size), `${config.image_size} px, ${state.model.grid} × ${state.model.grid}`);
    const { learningRate, maskRatio } = state.training.settings;
    $('t-batch').value = Math.log2(state.training.batch);
    $('t-lr').value = Math.log10(learningRate);
    if (Number.isFinite(maskRatio)) $('t-ratio').value = maskRatio;
    state.chosen = false; // the rate is the run's
    const goesOn = state.training.steps > 0;
    if (goesOn) Object.assign(state, curves(found));
    await show();
    labels();
    return goesOn ? '' : `The weights of ${config.name} (${state.model.method}) are here${settings ? `; their run was on ${settings.data}` : ''}. Start trains them on ${$('t-data').textContent}.`;
  }

  /** Brings back the run that this browser keeps, once. */
  const bring = () => app.guard(() => waiting(async () => {
    if (state.asked || !app.device) return;
    state.asked = true;
    const found = state.training ? null : await kept();
    if (!found) return;
    state.images = found.images;
    try {
      await resume(found.files);
    } catch (error) {
      state.asked = error.name !== 'DeviceLost'; // else again, on the next device
      throw error;
    }
    $('t-saved').textContent = `Step ${state.training.steps} was kept in this browser: Resume goes on with it.`;
    $('t-saved').dataset.step = state.training.steps;
  }));

  const paused = (work) => () => app.guard(async () => {
    const was = Boolean(state.running);
    await pause();
    await work();
    labels();
    if (was) await go();
  });

  $('t-go').addEventListener('click', () => { app.notice(); go(); });
  $('t-restart').addEventListener('click', () => app.guard(() => inTurn(async () => {
    await pause();
    state.seed++;
    drop();
    labels();
    follow();
    report();
  })));
  $('t-download').addEventListener('click', paused(async () => download(`${state.model.config.name}-${state.training.steps}.zip`, await pack())));
  $('t-use').addEventListener('click', () => app.guard(async () => { await pause(); await app.modes.reconstruct.open(await state.training.save()); }));
  app.picks('t-files', (files) => api.images(files));
  app.picks('t-open', app.take);
  $('t-form').addEventListener('submit', (event) => event.preventDefault());
  $('t-form').addEventListener('input', ({ target }) => {
    if (target.id === 't-lr') state.chosen = true;
    if (target.id === 't-model') follow();
    labels();
    address.changed();
    state.adjusted = Boolean(state.training);
  });
  addEventListener('resize', () => app.mode === 'train' && report());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => report());
  // a hidden tab gets little time, and a phone would get warm in the pocket
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && state.running) {
      state.hidden = true;
      pause();
    } else if (!document.hidden && state.hidden) {
      state.hidden = false;
      (state.running ?? Promise.resolve()).then(() => !state.running && state.training && go());
    }
  });
  for (const [name, id] of [['preset', 't-model'], ['side', 't-side'], ['batch', 't-batch'], ['hide', 't-ratio']]) {
    address.control('train', name, $(id));
  }
  address.add('train', 'rate', {
    read: () => (state.chosen ? $('t-lr').value : ''),
    write(text) {
      state.chosen = within($('t-lr'), text);
      if (state.chosen) $('t-lr').value = text;
    },
  });
  address.add('train', 'augment', {
    read: () => ($('t-augment').checked ? 'yes' : 'no'),
    write: (text) => { $('t-augment').checked = text !== 'no'; },
  });
  labels();

  const api = {
    state,
    go,
    pause,
    async shown() {
      report();
      await bring();
    },
    applied() {
      labels();
      follow();
    },
    async connected() {
      labels();
      follow();
      report();
      if (state.interrupted) {
        state.interrupted = false;
        const { copy, images } = state;
        await app.guard(() => waiting(async () => resume(await unzip(copy))));
        Object.assign(state, { copy, images });
      } else if (app.mode === 'train') {
        await bring();
      }
    },
    /** A sentence for the user: how much of the run is left after the device was lost. */
    stands() {
      if (state.training) return `Training stands at step ${state.training.steps}, the last one kept.`;
      return state.cut ? 'Training had not been kept yet and has to start over.' : '';
    },
    lost() {
      state.cut = Boolean(state.training);
      state.interrupted = Boolean(state.training && state.copy);
      state.stop?.abort();
      state.training = state.model = null;
    },
    images: (list) => waiting(async () => {
      await pause();
      const found = await Promise.all(list.map((file) => pixels(file, SHORT)));
      if (found.length < 2) throw new Error('training takes at least two images');
      Object.assign(state, { images: found, asked: true });
      drop();
      app.notice();
      report();
    }),
    open: (found) => waiting(async () => {
      await pause();
      app.notice(await resume(found));
      state.asked = true;
    }),
  };
  return api;
}
