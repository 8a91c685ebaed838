// Tabs, notices, the device and its recovery. A mode is a module with `attach(app)`, which returns an object whose
// `connected` and `lost` are called when there is a device and when it was lost.
import { Device, checkpoint, unavailable } from 'rowscan';
import { Address } from './address.mjs';
import { attach as lesson } from './lesson.mjs';
import { Samples, dropped } from './images.mjs';
import { wasm } from './module.mjs';
import { attach as reconstruct } from './reconstruct.mjs';
import { attach as train } from './train.mjs';
import { attach as inspect } from './inspect.mjs';
import { attach as clouds } from './clouds.mjs';
import { attach as segment } from './segment.mjs';

const $ = (id) => document.getElementById(id);
const MODES = ['reconstruct', 'train', 'inspect', 'clouds', 'segment'];

const app = {
  $,
  address: new Address({
    read: () => app.mode ?? MODES[0],
    write: (mode) => app.show(MODES.includes(mode) ? mode : MODES[0]),
  }),
  samples: new Samples(),
  device: null,
  mode: null,
  modes: {},

  /** Shows a message above the page, or hides it if `text` is missing. */
  notice(text) {
    $('notice').textContent = text ?? '';
    $('notice').hidden = !text;
  },

  /** Runs `work` and shows an error of it as a notice. If the device was lost, opens it again. */
  async guard(work) {
    try {
      return await work();
    } catch (error) {
      if (error?.name === 'DeviceLost') app.recover(error); // not waited for: it runs what may queue behind `work`
      else app.notice(error?.message ?? String(error));
    }
  },

  async connect() {
    const device = await Device.shared({ wasm });
    const { name, software } = device;
    app.device = device;
    $('adapter').textContent = software ? `${name} (software)` : name;
    $('adapter').dataset.name = name;
    for (const mode of Object.values(app.modes)) await mode.connected(device);
  },

  recovering: null,
  recover(error) {
    app.recovering ??= (async () => {
      app.notice(`The GPU was lost (${error.message}). Opening it again …`);
      for (const mode of Object.values(app.modes)) mode.lost();
      try {
        await app.connect();
        app.notice(`The GPU was lost and is back. ${app.modes.train.stands()}`);
      } catch (again) {
        app.notice(`The GPU was lost and could not be opened again: ${again.message}\nReload the page to try once more; saved training is kept.`);
      } finally {
        app.recovering = null;
      }
    })();
    return app.recovering;
  },

  show(mode) {
    app.mode = mode;
    for (const other of MODES) {
      $(other).hidden = other !== mode;
      $(`tab-${other}`).setAttribute('aria-selected', other === mode);
      $(`tab-${other}`).tabIndex = other === mode ? 0 : -1;
    }
    app.modes[mode]?.shown?.();
  },
};

function tabs() {
  for (const mode of MODES) {
    const choose = (mode) => { app.show(mode); app.address.changed(); };
    $(`tab-${mode}`).addEventListener('click', () => choose(mode));
    $(`tab-${mode}`).addEventListener('keydown', ({ key }) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!by) return;
      const next = MODES[(MODES.indexOf(mode) + by + MODES.length) % MODES.length];
      choose(next);
      $(`tab-${next}`).focus();
    });
  }
}

/** Gives files that were dropped, pasted or chosen to the open tab, or to Reconstruct if that takes none. */
async function take(files) {
  const found = await checkpoint(files);
  const tab = app.modes[app.mode].open ? app.modes[app.mode] : app.modes.reconstruct;
  if (found) return tab.open(found);
  const images = files.filter((file) => file.type.startsWith('image/'));
  if (!images.length) throw new Error('neither an image nor a checkpoint folder (config.json and model.safetensors)');
  return tab.images ? tab.images(images) : tab.image(images[0]);
}
app.take = take;

/** Gives `work` the files that people choose by an input. */
app.picks = (id, work) => $(id).addEventListener('change', ({ target }) => {
  const files = [...target.files];
  target.value = ''; // else the same files, chosen again, would be no change
  if (files.length) app.guard(() => work(files));
});

/** Leads past the header. Not by an address: that is for settings. */
function skips() {
  $('stage').tabIndex = -1;
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    $('stage').focus();
  });
}

function drops() {
  let depth = 0;
  const over = (by) => { depth = Math.max(depth + by, 0); $('drop').hidden = depth === 0; };
  addEventListener('dragenter', (event) => { event.preventDefault(); over(1); });
  addEventListener('dragleave', () => over(-1));
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    app.guard(async () => take(await dropped(event.dataTransfer)));
  });
  addEventListener('paste', ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])];
    if (files.length) app.guard(() => take(files));
  });
}

async function start() {
  const why = await unavailable();
  if (why) {
    $('why').textContent = why;
    $('none').hidden = false;
    $('reconstruct').hidden = true;
    $('adapter').textContent = 'no WebGPU';
    document.querySelector('nav').hidden = true;
    return;
  }
  app.modes = { reconstruct: reconstruct(app), train: train(app), inspect: inspect(app), clouds: clouds(app), segment: segment(app) };
  app.lesson = lesson(app);
  tabs();
  skips();
  drops();
  app.address.apply();
  addEventListener('hashchange', () => app.guard(async () => {
    app.address.apply();
    for (const mode of Object.values(app.modes)) await mode.applied?.();
  }));
  await app.guard(() => app.connect());
  document.body.dataset.ready = 'true';
}

globalThis.rowscan = app; // for the console and the tests
// a released page opens without a network once it was visited
if (document.documentElement.dataset.offline !== undefined) navigator.serviceWorker?.register('sw.js').catch(() => {});
start().catch((error) => app.notice(error?.message ?? String(error)));
