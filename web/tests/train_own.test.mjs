import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { within } from './harness.mjs';
import { steps, losses, reached, pause, next, drop } from './training.mjs';

test('train: what the command line pretrained, whatever its method; and own images, which are kept with the run', () => within({ hash: '#train' }, async (page) => {
  const out = join(process.env.NATIVE, 'contrastive');
  rmSync(out, { recursive: true, force: true });
  execFileSync(process.env.ROWSCAN, ['--portable', 'pretrain', '--data', 'synthetic:16', '--model', 'micro', '--image-size', '32', '--epochs', '1',
    '--batch-size', '8', '--method', 'contrastive', '--queue', '64', '--output-dir', out], { stdio: 'ignore' });
  const folder = join(out, 'checkpoint-1');
  await drop(page, readdirSync(folder).map((name) => ({ name, bytes: readFileSync(join(folder, name)) })));
  await page.waitForFunction(() => globalThis.rowscan.modes.train.state.training);
  assert.match(await page.textContent('#notice'), /weights of micro \(contrastive\) are here; their run was on synthetic:16/);
  assert.equal(await page.evaluate(() => document.getElementById('t-side').value), '32');
  await page.locator('#t-go').click();
  await reached(page, 2);
  await pause(page);
  assert.ok((await losses(page)).every((loss) => loss > 0));
  assert.equal(await page.evaluate(() => globalThis.rowscan.modes.train.state.model.method), 'contrastive');

  await page.locator('#t-files').setInputFiles([0, 1, 2, 3, 4, 5].map((i) => join(process.env.SITE, `assets/samples/${i}.png`)));
  await page.waitForFunction(() => document.getElementById('t-data').textContent === '6 own images');
  const chosen = await page.evaluate(() => document.getElementById('t-files').files.length);
  assert.equal(chosen, 0, 'the same may be chosen again');
  await page.locator('#t-batch').fill('1');
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 4);
  await pause(page);
  assert.ok((await losses(page)).every(Number.isFinite));
  const [at, before, onward] = [await steps(page), await losses(page), await next(page, 2)];
  const rate = () => page.evaluate(() => globalThis.rowscan.modes.train.state.training.settings.learningRate);
  const expected = await rate();

  // Start before the kept run is back waits for it; a rate that was set is not that of this run
  await page.evaluate(() => { location.hash = 'train&rate=-3'; location.reload(); });
  await page.waitForFunction(() => {
    const there = globalThis.rowscan?.device;
    if (there) document.getElementById('t-go').click();
    return there;
  });
  await reached(page, at + 2);
  await pause(page);
  assert.equal(await page.textContent('#t-data'), '6 own images');
  assert.deepEqual((await losses(page)).slice(0, at + 2), [...before, ...onward], 'bit for bit');
  await page.locator('#t-ratio').fill('0.75');
  const then = await steps(page);
  await page.locator('#t-go').click();
  await reached(page, then + 2);
  await pause(page);
  assert.equal(await rate(), expected);
}));
