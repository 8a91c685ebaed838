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
  await page.locator('#t-batch').fill('1');
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 4);
  await pause(page);
  assert.ok((await losses(page)).every(Number.isFinite));
  const [at, onward] = [await steps(page), await next(page, 2)];
  await page.reload();
  await page.waitForFunction(() => document.getElementById('t-saved').textContent.includes('was kept'));
  assert.equal(await page.textContent('#t-data'), '6 own images');
  assert.equal(await steps(page), at);
  assert.deepEqual(await next(page, 2), onward, 'bit for bit');
}));
