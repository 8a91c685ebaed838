// Segment: the class of each pixel of a generated scene or of an own image, as a color over it.
import { Rowscan } from 'rowscan';
import { facts, picture } from './draw.mjs';
import { decode } from './images.mjs';
import { catalog } from './models.mjs';

/** Scenes that are shown to choose from. */
const SHOWN = 8;
const percent = (share) => `${(share * 100).toFixed(1)}%`;

/** Colors of classes over an image; of one class if `only` is given. A class without a color leaves the image as it is. */
function colored(image, classes, palette, cover, only) {
  const data = new Uint8ClampedArray(image.data);
  classes.forEach((at, i) => {
    const color = only === null || at === only ? palette[at]?.color : undefined;
    color?.forEach((value, c) => { data[i * 4 + c] = image.data[i * 4 + c] * (1 - cover) + value * cover; });
  });
  return new ImageData(data, image.width, image.height);
}

export function attach(app) {
  const { $, address } = app;
  const state = {
    model: null, files: null, palette: [], scenes: null, // `files`: those of an own network
    index: 0, own: null, // the scene, or else the own image
    ran: false, shown: null, // whether the network has run; what it saw
    pinned: null, touched: null, // the class that was chosen, and the one under pointer or focus
  };
  let [queue, wanted] = [Promise.resolve(), 0];
  const open = () => app.mode === 'segment';
  const only = () => state.touched ?? state.pinned;

  /** Loads a network. What was loaded before stays if that fails. */
  async function load(source) {
    const model = await Rowscan.segmenter(source, {
      device: app.device,
      progress({ file, loaded, total }) {
        if (file === 'model.safetensors' && total) $('s-model').textContent = `loading, ${Math.round((loaded / total) * 100)}%`;
      },
    });
    state.model?.dispose();
    Object.assign(state, { model, palette: model.classes, ran: false, files: typeof source === 'string' ? null : source });
    const { config, metadata } = model;
    $('s-model').textContent = `${config.name}, ${(model.parameters / 1e6).toFixed(2)} M parameters, ${state.palette.length} classes, windows of ${model.side} × ${model.side} pixels`;
    const { format, classes, ...notes } = metadata;
    facts($('s-about'), { layers: config.pattern, width: config.width, ...notes });
  }

  const ready = async () => load(state.files ?? (await catalog('scenes'))[0].address);

  /** Buttons of the first scenes. */
  async function gallery() {
    state.scenes = await Rowscan.scenes();
    $('s-samples').append(...Array.from({ length: SHOWN }, (_, i) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.value = i;
      button.setAttribute('aria-label', `Scene ${i + 1}`);
      const canvas = document.createElement('canvas');
      picture(canvas, state.scenes.scene(i).image);
      button.append(canvas);
      button.addEventListener('click', () => choose(i));
      return button;
    }));
  }

  /** Whether the network's classes are those of the scenes: else their truth says nothing about it. */
  const knows = () => state.scenes.classes.join('\n') === state.palette.map(({ name }) => name).join('\n');

  /** Segments what is chosen. Of several wishes that come while it works, only the last counts. */
  function run() {
    const wish = ++wanted;
    queue = queue.then(() => app.guard(async () => {
      if (wish !== wanted || !open() || !app.device) return;
      if (!state.scenes) await gallery();
      if (!state.model) await ready();
      const scene = state.own ? null : state.scenes.scene(state.index);
      const truth = scene && knows() ? scene.truth : undefined;
      const began = performance.now();
      const made = await state.model.segment(state.own ?? scene.image, { truth });
      const took = performance.now() - began;
      state.shown = { ...made, truth };
      const { width, height } = made.image;
      facts($('s-facts'), {
        ...(made.scores && { 'pixel accuracy': percent(made.scores.accuracy), mIoU: percent(made.scores.miou) }),
        [state.ran ? 'time' : 'time, shaders compiled']: `${took.toFixed(0)} ms`, image: `${width} × ${height} pixels`, adapter: $('adapter').textContent,
      });
      state.ran = true;
      for (const button of $('s-samples').children) button.setAttribute('aria-pressed', !state.own && Number(button.value) === state.index);
      $('s-which').textContent = state.own ? 'your image' : `scene ${state.index + 1}`;
      legend();
      draw();
    }));
    return queue;
  }

  /** A button for each class in the image, the largest first. */
  function legend() {
    const { counts, truth, scores, classes } = state.shown;
    const here = new Set(truth);
    const seen = state.palette.map((entry, i) => ({ ...entry, i, share: counts[i] / classes.length }))
      .filter(({ i }) => counts[i] || here.has(i)).sort((a, b) => b.share - a.share);
    if (!seen.some(({ i }) => i === state.pinned)) state.pinned = null;
    state.touched = null;
    $('s-legend').replaceChildren(...seen.map(({ name, color, i, share }) => {
      const [item, button, swatch, part] = ['li', 'button', 'i', 'span'].map((tag) => document.createElement(tag));
      button.type = 'button';
      button.value = i;
      button.setAttribute('aria-pressed', i === state.pinned);
      swatch.style.background = `rgb(${color.join(' ')})`;
      const iou = scores?.iou[i] ?? NaN; // NaN where only outlines have the class
      part.textContent = percent(share) + (Number.isNaN(iou) ? '' : `, IoU ${percent(iou)}`);
      button.append(swatch, `${name} `, part);
      for (const [event, touched] of [['pointerenter', i], ['focus', i], ['pointerleave', null], ['blur', null]]) {
        button.addEventListener(event, () => { state.touched = touched; draw(); });
      }
      button.addEventListener('click', () => pin(i));
      item.append(button);
      return item;
    }));
    $('s-classes').setAttribute('aria-label', `Classes: ${seen.filter(({ share }) => share).map(({ name, share }) => `${name} ${percent(share)}`).join(', ')}`);
  }

  /** Shows a class alone, or all again if it was. */
  function pin(i) {
    state.pinned = state.pinned === i ? null : i;
    state.touched = null;
    for (const { firstChild } of $('s-legend').children) firstChild.setAttribute('aria-pressed', Number(firstChild.value) === state.pinned);
    address.changed();
    draw();
  }

  function draw() {
    if (!state.shown) return;
    const { image, classes, truth } = state.shown;
    const cover = Number($('s-cover').value);
    picture($('s-image'), image);
    picture($('s-classes'), colored(image, classes, state.palette, cover, only()));
    $('s-known').hidden = !truth;
    if (truth) picture($('s-truth'), colored(image, truth, state.palette, cover, only()));
  }

  function choose(index) {
    Object.assign(state, { index, own: null });
    address.changed();
    return run();
  }

  const labels = () => { $('s-cover-out').textContent = `${Math.round($('s-cover').value * 100)}%`; };
  $('s-next').addEventListener('click', () => choose(state.own ? state.index : (state.index + 1) % (state.scenes?.length ?? SHOWN)));
  app.picks('s-file', ([file]) => api.image(file));
  app.picks('s-folder', app.take);
  $('s-cover').addEventListener('input', () => { labels(); address.changed(); draw(); });
  address.add('segment', 'scene', {
    read: () => (state.own ? '' : String(state.index)),
    write(text) {
      if (!/^\d{1,4}$/.test(text)) return;
      if (state.own || Number(text) !== state.index) state.shown = null;
      Object.assign(state, { index: Number(text), own: null });
    },
  });
  address.add('segment', 'class', {
    read: () => (state.pinned === null ? '' : String(state.pinned)),
    write: (text) => { state.pinned = /^\d{1,4}$/.test(text) ? Number(text) : null; },
  });
  address.control('segment', 'cover', $('s-cover'));

  const api = {
    state,
    connected: () => { labels(); return open() ? run() : undefined; },
    applied() { labels(); return open() ? run() : undefined; },
    lost() { state.model = null; },
    shown: () => (state.shown && state.model ? undefined : run()),
    async image(file) {
      state.own = await decode(file);
      app.notice();
      address.changed();
      await run();
    },
    /** Takes another network, between two images. */
    async open(files) {
      const swap = queue.then(() => load(files));
      queue = swap.catch(() => {});
      await swap;
      app.notice();
      await run();
    },
  };
  return api;
}
