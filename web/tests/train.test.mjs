import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { shoot, within } from './harness.mjs';

const small = async (page) => {
  await page.locator('#t-side').selectOption('32');
  await page.locator('#t-batch').fill('3'); // 2³ = 8 images
};
const steps = (page) => page.evaluate(() => globalThis.rowscan.modes.train.state.training?.steps ?? 0);
const losses = (page) => page.evaluate(() => globalThis.rowscan.modes.train.state.losses);
const reached = (page, count) => page.waitForFunction((count) => globalThis.rowscan.modes.train.state.losses.length >= count, count);
const idle = (page) => page.waitForFunction(() => !globalThis.rowscan.modes.train.state.running && !document.getElementById('t-go').disabled);
const pause = async (page) => { await page.evaluate(() => globalThis.rowscan.modes.train.pause()); await idle(page); };
/** The losses of the next `count` steps, without pictures in between. */
const next = (page, count) => page.evaluate(async (count) => {
  const { training } = globalThis.rowscan.modes.train.state;
  const found = [];
  for (let i = 0; i < count; i++) found.push(await training.step());
  return found;
}, count);

test('train: the loss falls, a saved run goes on to the same losses, and the command line reads it', () => within({ hash: '#train' }, async (page) => {
  await small(page);
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 1);
  const shown = () => page.evaluate(() => {
    const canvas = document.querySelector('#t-held canvas:last-child');
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join();
  });
  const before = await shown();
  await reached(page, 30);
  await pause(page);
  const all = await losses(page);
  const mean = (part) => part.reduce((a, b) => a + b) / part.length;
  console.log(`loss of 30 live steps: ${mean(all.slice(0, 5)).toFixed(3)} → ${mean(all.slice(-5)).toFixed(3)}`);
  assert.ok(mean(all.slice(-5)) < 0.85 * mean(all.slice(0, 5)), all.join());
  assert.notEqual(await shown(), before, 'held-out reconstructions change');
  assert.match(await page.textContent('#t-facts'), /images\/s/);
  await shoot(page, 'train');

  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.waitForFunction(() => document.getElementById('t-saved').textContent.startsWith('Saved'));
  const at = await steps(page);
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download' }).click();
  const archive = await (await download).path();
  const onward = await next(page, 3);

  await page.reload();
  await page.waitForFunction(() => document.body.dataset.ready === 'true');
  await page.getByRole('button', { name: 'Load', exact: true }).click();
  await page.waitForFunction(() => document.getElementById('t-saved').textContent.startsWith('Loaded'));
  assert.equal(await steps(page), at);
  assert.deepEqual((await losses(page)).length, all.length);
  assert.deepEqual(await next(page, 3), onward, 'bit for bit');

  const folder = join(process.env.NATIVE, 'downloaded');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [name, bytes] of entries(readFileSync(archive))) writeFileSync(join(folder, name.split('/').pop()), bytes);
  const said = execFileSync(process.env.ROWSCAN, ['--portable', 'reconstruct', '--checkpoint', folder, join(process.env.SITE, 'assets/samples/0.png'), '-o', join(folder, 'grid.png')], { encoding: 'utf8' });
  assert.match(said, /^loss \d/);
}));

/** Name and bytes of each file in a zip without compression. */
function* entries(zip) {
  for (let at = 0; zip.readUInt32LE(at) === 0x04034b50;) {
    const [size, name] = [zip.readUInt32LE(at + 22), zip.readUInt16LE(at + 26)];
    const start = at + 30 + name;
    yield [zip.toString('utf8', at + 30, start), zip.subarray(start, start + size)];
    at = start + size;
  }
}

test('train: pause, resume, adjust', () => within({ hash: '#train' }, async (page) => {
  await small(page);
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 3);
  await page.getByRole('button', { name: 'Pause' }).click();
  await idle(page);
  const at = await steps(page);
  await page.waitForTimeout(500);
  assert.equal(await steps(page), at, 'paused');
  await page.locator('#t-lr').fill('-3.5');
  await page.locator('#t-ratio').fill('0.75');
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.waitForFunction((at) => (globalThis.rowscan.modes.train.state.training?.steps ?? 0) > at, at);
  await pause(page);
  const lr = await page.evaluate(() => globalThis.rowscan.modes.train.state.training.lr);
  const done = await steps(page);
  const expected = 10 ** -3.5 * Math.min(done + 1, 20) / 20;
  assert.ok(Math.abs(lr - expected) < 1e-9, `${lr} is not ${expected}`);
}));

test('train: on own images', () => within({ hash: '#train' }, async (page) => {
  await small(page);
  await page.locator('#t-files').setInputFiles([0, 1, 2, 3, 4, 5].map((i) => join(process.env.SITE, `assets/samples/${i}.png`)));
  await page.waitForFunction(() => document.getElementById('t-data').textContent === '6 own images');
  await page.locator('#t-batch').fill('1');
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 4);
  await pause(page);
  assert.ok((await losses(page)).every(Number.isFinite));
}));

test('a lost device is opened again and training goes on from the last step kept', () => within({ hash: '#train' }, async (page, opened) => {
  await small(page);
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 4);
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.waitForFunction(() => document.getElementById('t-saved').textContent.startsWith('Saved'));
  const saved = Number((await page.textContent('#t-saved')).match(/step (\d+)/)[1]);
  await page.waitForFunction((saved) => (globalThis.rowscan.modes.train.state.training?.steps ?? 0) > saved, saved);
  await page.evaluate(() => globalThis.rowscan.device.destroy());
  await page.waitForFunction(() => document.getElementById('notice').textContent.includes('is back'));
  await idle(page);
  const [, kept] = (await page.textContent('#notice')).match(/stands at step (\d+)/);
  assert.equal(await steps(page), Number(kept));
  assert.ok(kept >= saved, `${kept} was kept, ${saved} saved`);
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.waitForFunction((kept) => globalThis.rowscan.modes.train.state.training.steps > Number(kept), kept);
  await pause(page);
  await page.getByRole('tab', { name: 'Reconstruct' }).click();
  await page.evaluate(() => { document.getElementById('r-result').dataset.rows = 0; });
  await page.locator('#r-again').click();
  await page.waitForFunction(() => Number(document.getElementById('r-result').dataset.rows) === 8);
  opened.complaints.length = 0; // the browser logs errors for work that was under way when the device was lost
}));
