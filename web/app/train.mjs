// Train: pretraining from random weights, which can be paused, saved, loaded and downloaded.
import { Saved, Training, preset } from './pkg/rowscan_web.js';
import { curve } from './chart.mjs';
import { facts, picture } from './draw.mjs';
import { recall, store, unzip, zip } from './files.mjs';
import { decode, square } from './images.mjs';

const PATCH = 8;
const GENERATED = 'synthetic:512';
/** Steps that are submitted at once: enough that the GPU is never idle, few enough that a pause is quick. */
const IN_FLIGHT = 3;
/** Steps between pictures of the held-out images. */
const SHOW_EVERY = 10;
/** Steps between automatic saves. */
const SAVE_EVERY = 100;
/** A model below this number of parameters is copied at every picture, a larger one only at every save. The copy is
 * what is left of the run if the device is lost. */
const SMALL = 5e6;
const FILE = 'run.zip';

export function attach(app) {
  const { $ } = app;
  const state = { training: null, running: null, losses: [], rate: 0, sources: null, kept: null, stop: false, busy: false, adjusted: false };

  const batch = () => 2 ** Number($('t-batch').value);
  const rate = () => 10 ** Number($('t-lr').value);
  const ratio = () => Number($('t-ratio').value);
  /** The learning rate per 256 images, as settings have it. */
  const blr = () => (rate() * 256) / (state.training ? state.batch : batch());

  function labels() {
    $('t-batch-out').textContent = batch();
    $('t-lr-out').textContent = rate().toExponential(1);
    $('t-ratio-out').textContent = `${Math.round(ratio() * 100)}%`;
    $('t-go').textContent = state.running ? 'Pause' : state.training ? 'Resume' : 'Start';
    for (const id of ['t-model', 't-side', 't-batch']) $(id).disabled = Boolean(state.training);
    for (const id of ['t-restart', 't-save', 't-download', 't-use']) $(id).disabled = !state.training;
    $('t-data').textContent = state.sources ? `${state.sources.length} own images` : '512 generated images';
  }

  function report() {
    const last = state.losses.slice(-10);
    const mean = last.reduce((sum, loss) => sum + loss, 0) / last.length;
    facts($('t-facts'), {
      loss: last.length ? mean.toFixed(3) : '–', steps: state.training?.steps ?? 0,
      'images/s': state.rate ? state.rate.toFixed(state.rate < 10 ? 1 : 0) : '–',
      'learning rate': state.training ? state.training.lr.toExponential(1) : '–',
      'held-out loss': state.heldOut?.toFixed(3) ?? '–',
      parameters: state.training ? `${(state.training.parameters / 1e6).toFixed(1)} M` : '–', adapter: $('adapter').textContent,
    });
    curve($('t-curve'), state.losses);
  }

  async function make(config) {
    const { image_size: side } = config;
    const images = state.sources ? await Promise.all(state.sources.map((source) => square(source, side))) : [];
    const bytes = new Uint8Array(images.length * side * side * 3);
    images.forEach((image, i) => bytes.set(image, i * image.length));
    const data = state.sources ? `${images.length} own images` : GENERATED;
    state.batch = Math.min(batch(), state.sources ? Math.max(1, images.length - Math.max(1, Math.min(8, images.length >> 3))) : 256);
    state.training?.free();
    state.training = null;
    const choice = { model: config, batch: state.batch, blr: (rate() * 256) / state.batch, ratio: ratio(), seed: state.seed ?? 0, data };
    state.training = Training.start(app.device, JSON.stringify(choice), bytes);
    state.config = config;
    state.losses = [];
    state.heldOut = null;
    state.kept = null;
  }

  async function begin() {
    await make(JSON.parse(preset($('t-model').value, Number($('t-side').value), PATCH)));
    await show();
  }

  /** Shows the held-out images as the model reconstructs them now. */
  async function show() {
    const shown = await state.training.pictures();
    const { side } = state.training;
    const kinds = ['original', 'masked', 'reconstruction'];
    while ($('t-held').children.length < shown.length) {
      const row = document.createElement('div');
      row.append(...kinds.map(() => document.createElement('canvas')));
      $('t-held').append(row);
    }
    [...$('t-held').children].forEach((row, i) => {
      row.hidden = i >= shown.length;
      if (!row.hidden) kinds.forEach((kind, k) => picture(row.children[k], shown.picture(i, kind), side));
    });
    state.heldOut = shown.loss;
    shown.free();
    report();
  }

  /** Applies the sliders between two steps. */
  function adjust() {
    if (state.adjusted) state.training.adjust(blr(), ratio());
    state.adjusted = false;
  }

  async function loop() {
    const pending = [];
    let [since, done] = [performance.now(), 0];
    const collect = async () => {
      const loss = await pending.shift();
      if (!Number.isFinite(loss)) throw new Error(`the loss of step ${state.losses.length} is ${loss}: lower the learning rate and start with new weights`);
      state.losses.push(loss);
      done++;
      const now = performance.now();
      if (now - since > 500) {
        state.rate = (done * state.batch * 1000) / (now - since);
        [since, done] = [now, 0];
      }
      report();
      $('t-curve').dispatchEvent(new CustomEvent('step', { detail: loss }));
    };
    while (!state.stop) {
      adjust();
      pending.push(state.training.step());
      if (pending.length >= IN_FLIGHT) await collect();
      const { steps } = state.training;
      if (steps % SHOW_EVERY === 0) {
        while (pending.length) await collect();
        await show();
        if (state.training.parameters < SMALL) state.kept = await archive();
        [since, done] = [performance.now(), 0];
      }
      if (steps % SAVE_EVERY === 0) await save();
    }
    while (pending.length) await collect();
    await show();
  }

  async function go() {
    if (state.running) {
      state.stop = true;
      $('t-go').disabled = true;
      return state.running;
    }
    if (state.busy || !app.device) return;
    state.busy = true;
    await app.guard(async () => { if (!state.training) await begin(); });
    state.busy = false;
    if (!state.training) return labels();
    state.stop = false;
    state.running = app.guard(loop).finally(() => {
      state.running = null;
      $('t-go').disabled = false;
      labels();
    });
    labels();
  }

  async function pause() {
    if (!state.running) return;
    state.stop = true;
    await state.running;
  }

  /** The files of a checkpoint of the run: [{ name, bytes }]. */
  async function files() {
    const saved = await state.training.save();
    const all = saved.names.map((name) => ({ name, bytes: saved.bytes(name) }));
    saved.free();
    return all;
  }

  async function archive() {
    const losses = new TextEncoder().encode(JSON.stringify(state.losses));
    return zip(`${state.config.name}-${state.training.steps}`, [...(await files()), { name: 'losses.json', bytes: losses }]);
  }

  async function save() {
    const blob = await archive();
    state.kept = blob;
    await store(FILE, blob);
    $('t-saved').textContent = `Saved in this browser at step ${state.training.steps}.`;
  }

  /** Continues from the files of a checkpoint. */
  async function resume(found) {
    const json = (name) => JSON.parse(new TextDecoder().decode(found.find((file) => file.name === name)?.bytes ?? new Uint8Array()));
    let config, at;
    try {
      [config, at] = [json('config.json'), json('state.json')];
    } catch {
      throw new Error('no training to go on with: config.json and state.json are needed');
    }
    const { settings } = at;
    if (settings.data !== GENERATED && state.sources?.length !== parseInt(settings.data)) {
      throw new Error(`that run was on ${settings.data}: choose the same images first`);
    }
    if (settings.data === GENERATED) state.sources = null;
    for (const select of ['t-model', 't-side']) $(select).value = select === 't-model' ? config.name : String(config.image_size);
    $('t-batch').value = Math.log2(settings.batch_size);
    $('t-lr').value = Math.log10((settings.blr * settings.batch_size) / 256);
    if (settings.mask_ratio !== null) $('t-ratio').value = settings.mask_ratio;
    state.seed = settings.seed;
    await make(config);
    state.training.adjust(settings.blr, settings.mask_ratio ?? ratio());
    const files = new Saved();
    for (const { name, bytes } of found) files.add(name, bytes);
    try {
      state.training.load(files);
    } catch (error) {
      state.training.free();
      state.training = null;
      throw error;
    } finally {
      files.free();
    }
    try { state.losses = json('losses.json'); } catch { state.losses = []; }
    await show();
    labels();
  }

  async function restore(blob) {
    await resume(await unzip(blob));
    state.kept = blob;
  }

  async function load() {
    const blob = await recall(FILE);
    if (!blob) throw new Error('nothing was saved in this browser yet');
    await restore(blob);
    $('t-saved').textContent = `Loaded step ${state.training.steps}.`;
  }

  const paused = (work) => () => app.guard(async () => {
    const was = Boolean(state.running);
    await pause();
    await work();
    labels();
    if (was) await go();
  });

  $('t-go').addEventListener('click', () => { app.notice(); go(); });
  $('t-restart').addEventListener('click', () => app.guard(async () => {
    await pause();
    state.seed = (state.seed ?? 0) + 1;
    state.training?.free();
    state.training = null;
    state.losses = [];
    state.heldOut = null;
    labels();
    report();
  }));
  $('t-save').addEventListener('click', paused(save));
  $('t-load').addEventListener('click', () => app.guard(async () => { await pause(); await load(); }));
  $('t-download').addEventListener('click', paused(async () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await archive());
    link.download = `${state.config.name}-${state.training.steps}.zip`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }));
  $('t-use').addEventListener('click', () => app.guard(async () => { await pause(); await app.modes.reconstruct.open(await files()); }));
  $('t-files').addEventListener('change', ({ target }) => target.files.length && app.guard(() => api.images([...target.files])));
  $('t-form').addEventListener('submit', (event) => event.preventDefault());
  $('t-form').addEventListener('input', () => {
    labels();
    state.adjusted = Boolean(state.training);
  });
  addEventListener('resize', () => app.mode === 'train' && report());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => report());
  labels();

  const api = {
    state,
    go,
    pause,
    shown: report,
    async connected() {
      report();
      if (state.interrupted) {
        state.interrupted = false;
        await app.guard(async () => restore(state.kept));
      }
    },
    /** A sentence for the user: how much of the run is left after the device was lost. */
    stands() {
      if (state.training) return `Training stands at step ${state.training.steps}, the last one kept.`;
      return state.cut ? 'Training had not been kept yet and has to start over.' : '';
    },
    lost() {
      state.cut = Boolean(state.training);
      state.interrupted = Boolean(state.training && state.kept);
      state.stop = true;
      state.training = null;
    },
    async images(list) {
      await pause();
      const found = await Promise.all(list.map(decode));
      if (found.length < 2) throw new Error('training takes at least two images');
      state.sources = found;
      state.training?.free();
      state.training = null;
      app.notice();
      labels();
    },
    async open(found) {
      await pause();
      await resume(found);
      app.notice();
    },
  };
  return api;
}
