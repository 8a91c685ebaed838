import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pixels, shoot, within } from './harness.mjs';

const rebuilt = (page, loss) => page.waitForFunction((loss) => {
  const { shown, model } = globalThis.rowscan.modes.clouds.state;
  return shown && shown.loss !== loss && Number(document.getElementById('c-rebuilt').dataset.points) === shown.rebuilt.length / 3 && model;
}, loss);
const shown = (page) => page.evaluate(() => {
  const { shown, turn, tilt } = globalThis.rowscan.modes.clouds.state;
  return { loss: shown.loss, turn, tilt, lengths: ['original', 'visible', 'rebuilt'].map((name) => shown[name].length / 3) };
});

test('clouds: a solid is rebuilt and turned by mouse and keyboard', () => within({ reducedMotion: 'reduce' }, async (page) => {
  await page.getByRole('tab', { name: 'Clouds' }).click();
  await rebuilt(page, null);
  const first = await shown(page);
  assert.deepEqual(first.lengths, [256, 128, 128], 'half of 16 patches of 16 points');
  assert.ok(first.loss > 0 && first.loss < 0.1, `Chamfer distance ${first.loss}`);
  assert.equal(await page.locator('#c-kind option').count(), 12);
  assert.match(await page.textContent('#c-model'), /M parameters/);

  const before = await pixels(page, 'c-rebuilt');
  await page.locator('#c-visible').focus();
  await page.keyboard.press('ArrowRight');
  assert.ok((await shown(page)).turn > first.turn);
  assert.notDeepEqual(await pixels(page, 'c-rebuilt'), before, 'all three turn together');
  const box = await page.locator('#c-original').boundingBox();
  await page.mouse.move(box.x + 20, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + 60, box.y + 50);
  await page.mouse.up();
  assert.ok((await shown(page)).tilt > first.tilt);
  await shoot(page, 'clouds');

  await page.locator('#c-ratio').fill('0.75');
  await rebuilt(page, first.loss);
  const more = await shown(page);
  assert.deepEqual(more.lengths, [256, 64, 192]);
  await page.locator('#c-kind').selectOption({ index: 4 });
  await rebuilt(page, more.loss);
  const still = (await shown(page)).turn;
  await page.waitForTimeout(200);
  assert.equal((await shown(page)).turn, still, 'nothing moves by itself where people want less motion');
  await page.locator('#c-turn').click();
  await page.waitForFunction((still) => globalThis.rowscan.modes.clouds.state.turn > still, still);
}));
