// The package as others use it: the example of its README, a worker, a bundler.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'vite';
import { within } from './harness.mjs';

const { PACKAGE, SITE, NATIVE } = process.env;
const README = readFileSync(join(PACKAGE, 'README.md'), 'utf8');

/** A folder with a model and a photograph, as the example has them, and these files. */
function folder(name, files) {
  const at = join(NATIVE, name);
  rmSync(at, { recursive: true, force: true });
  mkdirSync(join(at, 'public/model'), { recursive: true });
  for (const file of ['config.json', 'model.safetensors']) cpSync(join(SITE, 'assets/map_micro', file), join(at, 'public/model', file));
  cpSync(join(SITE, 'assets/samples/0.png'), join(at, 'public/photo.jpg'));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(at, file), text);
  return at;
}

const example = /```html\n(.*?)```/s.exec(README)[1];

test('package: the example of the README, and the same in a worker', () => {
  const worker = `import { Rowscan } from './rowscan/index.mjs';
    const model = await Rowscan.load('model/');
    const { loss, reconstruction } = await model.reconstruct('photo.jpg', { maskRatio: 0.5, seed: 3 });
    const before = loss;
    const steps = [];
    await model.train('synthetic:32', { steps: 2, batch: 4, onStep: ({ step }) => steps.push(step) });
    const training = await model.training('synthetic:32', { batch: 4 });
    const rates = [training.settings.learningRate, await Rowscan.learningRate(model.config), await Rowscan.learningRate('tiny')];
    training.dispose();
    postMessage({ loss, width: reconstruction.width, steps, rates, other: (await model.reconstruct('photo.jpg', { seed: 3 })).loss });`;
  const at = join(folder('example', {}), 'public');
  writeFileSync(join(at, 'index.html'), `<link rel="icon" href="data:,">${example}`);
  writeFileSync(join(at, 'worker.mjs'), worker);
  cpSync(PACKAGE, join(at, 'rowscan'), { recursive: true });
  return within({ site: at, ready: false }, async (page, opened) => {
    const said = [];
    page.on('console', (message) => said.push(message.text()));
    await page.waitForFunction(() => document.title.startsWith('loss'));
    const loss = await page.title();
    const worked = await page.evaluate(() => new Promise((done, failed) => {
      const worker = new Worker('worker.mjs', { type: 'module' });
      worker.onmessage = ({ data }) => done(data);
      worker.onerror = ({ message }) => failed(new Error(message));
    }));
    assert.equal(`loss ${worked.loss.toFixed(3)}`, loss, 'the same in a worker');
    assert.deepEqual([worked.width, worked.steps], [64, [1, 2]]);
    assert.deepEqual(worked.rates, [96, 96, 192].map((width) => 4e-3 * 64 / width), 'by width');
    assert.notEqual(worked.other, worked.loss, 'what was learned stays in the model');
    const drawn = await page.evaluate(() => ['masked', 'guessed'].map((id) => {
      const canvas = document.getElementById(id);
      return [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data].filter((value) => value === 128).length;
    }));
    assert.ok(drawn[0] >= 32 * 64 * 3 && drawn[1] < drawn[0] / 4, 'gray where patches are hidden, and no longer');
    assert.ok(said.some((text) => text.startsWith('model.safetensors')), 'progress');
    assert.ok(said.includes('96 features'));

    const memory = await page.evaluate(async () => {
      const { pixels } = await import('rowscan');
      const blob = await (await fetch('photo.jpg')).blob();
      const own = await createImageBitmap(blob);
      const [open, made] = [new Set(), globalThis.createImageBitmap];
      let most = 0;
      globalThis.createImageBitmap = async (...given) => {
        const bitmap = await made(...given);
        open.add(bitmap);
        most = Math.max(most, open.size);
        bitmap.close = () => { open.delete(bitmap); ImageBitmap.prototype.close.call(bitmap); };
        return bitmap;
      };
      await Promise.all([own, ...Array(20).fill(blob)].map((image) => pixels(image, 32)));
      const wrong = await pixels(new File(['x'], 'notes.txt'), 32).catch(({ message }) => message);
      const after = await pixels(blob, 32);
      globalThis.createImageBitmap = made;
      return { most, left: open.size, own: own.width, wrong, after: after.width };
    });
    const { most, left, ...others } = memory;
    assert.ok(most <= 9 && left === 0, `of 21 images ${most} were decoded at once, ${left} stayed`);
    assert.deepEqual(others, { own: 128, wrong: 'notes.txt is no image that this browser reads', after: 32 });

    const lost = await page.evaluate(async () => {
      const { Device, Rowscan } = await import('rowscan');
      /** What `work` on a lost device throws, and whether that is noticed. */
      const noticed = async (prepare, work) => {
        const device = await Device.shared();
        const prepared = await prepare();
        device.destroy();
        const { name } = await work(prepared).catch((error) => error);
        return [name, device.lost, (await Device.shared()) !== device];
      };
      const training = async () => (await Rowscan.load('model/')).training('synthetic:16', { batch: 2 });
      return [
        await noticed(() => {}, () => Rowscan.load('model/')),
        await noticed(training, (run) => run.run({ steps: 1 })),
      ];
    });
    assert.deepEqual(lost, [['DeviceLost', true, true], ['DeviceLost', true, true]]);
    opened.complaints.length = 0; // the browser logs errors of a device that was lost
  });
});

test('package: bundled by Vite', async () => {
  const main = `import { Rowscan, zip } from 'rowscan';
    const model = await Rowscan.load('model');
    const { loss } = await model.reconstruct('photo.jpg', { seed: 3 });
    globalThis.ended = { loss, zipped: zip('m', model.files).size, method: model.method };`;
  const root = folder('vite', { 'index.html': '<link rel="icon" href="data:,"><script type="module" src="/main.mjs"></script>', 'main.mjs': main });
  cpSync(PACKAGE, join(root, 'node_modules/rowscan'), { recursive: true });
  await build({ root, base: './', logLevel: 'error', configFile: false });
  await within({ site: join(root, 'dist'), ready: false }, async (page) => {
    const ended = await (await page.waitForFunction(() => globalThis.ended)).jsonValue();
    assert.ok(ended.loss > 0 && ended.loss < 1.5, `${ended.loss}`);
    assert.equal(ended.method, 'map');
    assert.ok(ended.zipped > 900_000);
  });
});

test('package: nothing in it names a host, and its types are there', () => {
  for (const file of ['index.mjs', 'device.mjs', 'model.mjs', 'segment.mjs', 'training.mjs', 'files.mjs', 'images.mjs', 'bindings/rowscan_web.js', 'package.json', 'README.md']) {
    assert.ok(!/['"`]https?:/.test(readFileSync(join(PACKAGE, file), 'utf8')), file);
  }
  assert.ok(/reconstruct\(image: import\('\.\/images\.mjs'\)\.ImageSource/.test(readFileSync(join(PACKAGE, 'model.d.mts'), 'utf8')));
});
