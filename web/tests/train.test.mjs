import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { shoot, within } from './harness.mjs';
import { small, steps, losses, reached, pause, next, keptAt } from './training.mjs';

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
  const held = page.getByRole('group', { name: 'Held-out images' });
  assert.equal(await held.getByRole('img', { name: 'Held-out image 2, reconstruction' }).count(), 1);
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
