import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gridOf, settled, shoot, within } from './harness.mjs';

const says = (page) => page.textContent('#l-says');
const drawn = (page, name) => page.evaluate((name) => {
  const canvas = document.querySelector(`#l-canvases [data-name="${name}"] canvas`);
  return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join();
}, name);
/** What `act` changes in a text of the lesson. */
async function changes(page, act) {
  const before = await says(page);
  await act();
  await page.waitForFunction((before) => document.getElementById('l-says').textContent !== before, before);
  return says(page);
}

test('lesson: five steps, each with something to touch, by keyboard too', () => within({ hash: '#train', reducedMotion: 'reduce' }, async (page) => {
  await settled(page);
  await changes(page, () => page.getByText('A lesson:').click());
  const grid = await gridOf(page);
  const [all, half] = [grid ** 2, grid ** 2 / 2];
  assert.match(await says(page), new RegExp(`^${half} of ${all} patches are gone`));
  await page.locator('#l-canvases [data-name="hidden"] canvas').focus();
  assert.match(await changes(page, () => page.keyboard.press('Space')), new RegExp(`^(${half - 1}|${half + 1}) of ${all}`));
  await changes(page, () => page.getByRole('button', { name: 'Draw another mask' }).click());

  await changes(page, () => page.getByRole('button', { name: 'Next' }).click());
  assert.match(await says(page), new RegExp(`gets the ${half} visible patches`));
  const before = await drawn(page, 'sequence');
  assert.match(await changes(page, () => page.locator('#l-slider').fill('3')), /patch 4 of its sequence/);
  assert.notEqual(await drawn(page, 'sequence'), before);

  await changes(page, () => page.getByRole('button', { name: 'Next' }).click());
  await page.locator('#l-slider').focus();
  await changes(page, () => page.keyboard.press('End'));
  assert.match(await says(page), new RegExp(`Row ${grid} looks at itself`));

  await changes(page, () => page.getByRole('button', { name: 'Step 4' }).click());
  assert.match(await says(page), /its error is \d\.\d\d/);
  await shoot(page, 'lesson');
  const patch = await drawn(page, 'true patch');
  await page.locator('#l-canvases [data-name="error"] canvas').focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowRight');
  assert.notEqual(await drawn(page, 'true patch'), patch);

  await changes(page, () => page.getByRole('button', { name: 'Next' }).click());
  await page.waitForFunction(() => document.querySelectorAll('#l-alike button').length === 4);
  const picked = await page.evaluate(() => globalThis.rowscan.modes.reconstruct.state.picked);
  await page.locator('#l-alike button').first().click();
  await page.waitForFunction((picked) => globalThis.rowscan.modes.reconstruct.state.picked !== picked, picked);
  assert.equal(await page.locator('#l-next').isDisabled(), true);
}));
