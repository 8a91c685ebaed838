import assert from 'node:assert/strict';
import { test } from 'node:test';
import { within } from './harness.mjs';
import { small, steps, reached, idle, pause, keptAt } from './training.mjs';

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
