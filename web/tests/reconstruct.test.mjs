import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gridOf, pixels, settled, shoot, within } from './harness.mjs';
import { tensors } from './safetensors.mjs';

test('reconstruct: hidden patches come back row by row, in decoding order', () => within({}, async (page) => {
  await settled(page);
  const [loaded, first] = await page.evaluate(() => ['model loaded', 'picture'].map((name) => performance.getEntriesByName(name)[0].startTime));
  console.log(`the model is loaded ${Math.round(loaded)} ms after the page was opened, the first picture is there ${Math.round(first - loaded)} ms later (software adapter)`);
  await page.evaluate(() => {
    const canvas = document.getElementById('r-result');
    globalThis.rows = [];
    const keep = () => globalThis.rows.push([...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]);
    canvas.addEventListener('row', keep);
    document.getElementById('r-again').click();
  });
  await page.waitForFunction(() => globalThis.rows.length === globalThis.rowscan.modes.reconstruct.state.model.grid);
  const { rows, grid, mask } = await page.evaluate(() => {
    const { model, mask } = globalThis.rowscan.modes.reconstruct.state;
    return { rows: globalThis.rows, grid: model.grid, mask: [...mask] };
  });
  const masked = await pixels(page, 'r-masked');
  const final = rows.at(-1);
  const band = (image, row) => image.slice((row * image.length) / grid, ((row + 1) * image.length) / grid).join();
  for (let at = 0; at < grid; at++) {
    for (let row = 0; row < grid; row++) {
      assert.equal(band(rows[at], row), band(row <= at ? final : masked, row), `row ${row} after ${at + 1} rows`);
    }
    const hidden = mask.slice(at * grid, (at + 1) * grid).some(Boolean);
    if (hidden) assert.notEqual(band(final, at), band(masked, at), `row ${at} has changed`);
  }
  const original = await pixels(page, 'r-original');
  const off = (image) => image.reduce((sum, value, i) => sum + (value - original[i]) ** 2, 0);
  assert.ok(off(final) < off(masked), 'closer to the original than grey is');
  assert.match(await page.textContent('#r-facts'), new RegExp(`loss.*hidden.*${grid ** 2 / 2} of ${grid ** 2}.*ms`, 's'));
  assert.notEqual(await page.textContent('#adapter'), 'Looking for a GPU …');
  await shoot(page, 'reconstruct');
}));

test('reconstruct: strategies, seed and ratio change the mask, and it is painted with mouse and keyboard', () => within({ reducedMotion: 'reduce' }, async (page) => {
  await settled(page);
  const mask = () => page.evaluate(() => [...globalThis.rowscan.modes.reconstruct.state.mask]);
  const change = async (act) => {
    await page.evaluate(() => { document.getElementById('r-result').dataset.rows = 0; });
    await act();
    await settled(page);
    return mask();
  };
  const [grid, before] = [await gridOf(page), await mask()];
  const half = grid ** 2 / 2;
  const seeded = await change(() => page.locator('#r-seed').fill('7'));
  assert.notDeepEqual(seeded, before);
  assert.deepEqual(await change(() => page.locator('#r-seed').fill('0')), before);
  const sequential = await change(() => page.getByText('sequential', { exact: true }).click());
  assert.deepEqual(sequential, [...Array(half).fill(0), ...Array(half).fill(1)]);
  const fewer = await change(() => page.locator('#r-ratio').fill('0.25'));
  assert.equal(fewer.reduce((a, b) => a + b), half / 2);
  const diagonal = await change(() => page.getByText('diagonal', { exact: true }).click());
  assert.ok(diagonal.at(-1) && !diagonal[0] && diagonal.at(-grid / 2));

  const plain = await change(() => page.getByText('paint', { exact: true }).click());
  const box = await page.locator('#r-masked').boundingBox();
  const at = (column, row) => [box.x + ((column + 0.5) * box.width) / grid, box.y + ((row + 0.5) * box.height) / grid];
  const wanted = plain[0] ? 0 : 1; // the first patch decides whether the stroke hides or shows patches
  await page.mouse.move(...at(0, 0));
  await page.mouse.down();
  for (let column = 1; column < grid; column++) await page.mouse.move(...at(column, 0), { steps: 4 });
  const painted = await change(() => page.mouse.up());
  assert.deepEqual(painted.slice(0, grid), Array(grid).fill(wanted));
  assert.deepEqual(painted.slice(grid), plain.slice(grid));
  await page.locator('#r-masked').focus();
  await page.keyboard.press('ArrowDown');
  assert.equal((await change(() => page.keyboard.press('Space')))[2 * grid - 1], plain[2 * grid - 1] ? 0 : 1);
}));

test('reconstruct: an image and a checkpoint can be dropped', () => within({ reducedMotion: 'reduce' }, async (page) => {
  await settled(page);
  const before = await pixels(page, 'r-original');
  const drop = (files) => page.evaluate(async (files) => {
    const transfer = new DataTransfer();
    for (const { name, type, url, bytes } of files) {
      const content = url ? await (await fetch(url)).arrayBuffer() : new Uint8Array(bytes);
      transfer.items.add(new File([content], name, { type }));
    }
    dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
  }, files);
  await drop([{ name: 'photo.png', type: 'image/png', url: 'assets/samples/3.png' }]);
  await page.waitForFunction((before) => {
    const canvas = document.getElementById('r-original');
    return canvas.getContext('2d').getImageData(0, 0, 64, 64).data.some((value, i) => value !== before[i]);
  }, before);
  await settled(page);
  await drop([{ name: 'notes.txt', type: 'text/plain', bytes: [1, 2] }]);
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(await page.textContent('#notice'), /neither an image nor a checkpoint/);
  const [config, weights] = ['config.json', 'model.safetensors'].map((name) => ({ name, type: '', url: `assets/map_micro/${name}` }));
  await drop([config, { name: 'model.safetensors', type: '', bytes: [1, 2, 3] }]);
  await page.waitForFunction(() => document.getElementById('notice').textContent.includes('not a whole safetensors file'));
  await drop([config, weights]);
  await page.waitForSelector('#notice[hidden]', { state: 'attached' });
  await settled(page);
}));

test('reconstruct: predictions are within 1e-3 of the native ones', () => within({}, async (page) => {
  await settled(page);
  const native = tensors(readFileSync(join(process.env.NATIVE, 'native.safetensors')));
  const found = await page.evaluate(async ({ image, mask }) => {
    const { model } = globalThis.rowscan.modes.reconstruct.state;
    const drawn = model.mask({ maskRatio: 0.5, seed: 5 });
    const result = await model.reconstruct({ data: Uint8Array.from(image), width: model.side, height: model.side }, { mask });
    return { drawn: [...drawn], predictions: [...result.predictions] };
  }, { image: native.images, mask: native.mask });
  assert.deepEqual(found.drawn, native.mask, 'the same mask from the same seed');
  assert.equal(found.predictions.length, native.predictions.length);
  const off = found.predictions.map((value, i) => Math.abs(value - native.predictions[i]));
  const worst = Math.max(...off);
  const spread = Math.max(...native.predictions.map(Math.abs));
  console.log(`largest difference to the native predictions ${worst.toExponential(1)} (they reach ${spread.toFixed(2)})`);
  assert.ok(spread > 0.5 && worst < 1e-3);
}));
