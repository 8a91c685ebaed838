import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { shoot, within } from './harness.mjs';

const small = async (page) => {
  await page.locator('#t-side').selectOption('32');
  await page.locator('#t-batch').fill('2'); // 2² = 4 images
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

const keptAt = async (page) => Number(await page.evaluate(() => document.getElementById('t-saved').dataset.step));
/** Gives the page files, [{ name, bytes }], as a drop. */
const drop = (page, files) => page.evaluate((files) => {
  const transfer = new DataTransfer();
  for (const { name, text } of files) transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
}, files.map(({ name, bytes }) => ({ name, text: bytes.toString('base64') })));

test('train: the loss falls, the run goes on after a reload to the same losses, and the command line reads it', () => within({ hash: '#train' }, async (page) => {
  await small(page);
  await page.getByRole('button', { name: 'Start' }).click();
  await reached(page, 1);
  const shown = () => page.evaluate(() => {
    const canvas = document.querySelector('#t-held canvas:last-child');
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join();
  });
  const before = await shown();
  await reached(page, 31);
  await pause(page);
  const all = await losses(page);
  const mean = (part) => part.reduce((a, b) => a + b) / part.length;
  console.log(`loss of ${all.length} live steps: ${mean(all.slice(0, 5)).toFixed(3)} → ${mean(all.slice(-10)).toFixed(3)}`);
  assert.ok(mean(all.slice(-10)) < 0.85 * mean(all.slice(0, 5)), all.join());
  assert.notEqual(await shown(), before, 'held-out reconstructions change');
  assert.match(await page.textContent('#t-facts'), /told apart\d+% \(chance 10%\).*images\/s/);
  await shoot(page, 'train');

  const at = await steps(page);
  assert.equal(await keptAt(page), at, 'a pause keeps the run');
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download' }).click();
  const archive = await (await download).path();
  const onward = await next(page, 3);

  await page.reload();
  await page.waitForFunction(() => document.body.dataset.ready === 'true');
  await page.waitForFunction(() => document.getElementById('t-saved').textContent.includes('was kept'));
  assert.equal(await steps(page), at);
  assert.deepEqual(await losses(page), all);
  assert.equal((await page.evaluate(() => globalThis.rowscan.modes.train.state.probes)).length, 1);
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

test('train: pause, resume, adjust; a hidden tab; a lost device', () => within({ hash: '#train' }, async (page, opened) => {
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
  const lr = await page.evaluate(() => globalThis.rowscan.modes.train.state.training.learningRate);
  const done = await steps(page);
  const expected = 10 ** -3.5 * Math.min(done + 1, 20) / 20;
  assert.ok(Math.abs(lr - expected) < 1e-9, `${lr} is not ${expected}`);

  const see = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await page.locator('#t-go').click();
  await reached(page, done + 1);
  await see(true);
  await idle(page);
  const saved = await steps(page);
  assert.equal(await keptAt(page), saved, 'a hidden tab pauses and keeps the run');
  await see(false);
  await reached(page, saved + 1); // and goes on when it is seen again

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
