import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED, SHARE, shoot, within } from './harness.mjs';

// `cargo xtask wgsl-check` puts all variants through the browser's front end; this adds what follows it.
test("kernels pass the browser's compiler", () => within({}, async (page) => {
  const compiled = await page.evaluate(([seed, share]) => globalThis.rowscan.device.compileSample(seed, share), [SEED, SHARE]);
  console.log(`${compiled} variants of one in ${SHARE} kernels compile, ROWSCAN_TEST_SEED=${SEED}`);
  assert.ok(compiled > 100 / SHARE / 3);
}));

test('without WebGPU there is an explanation with a picture', () => within({ flags: ['--disable-features=WebGPUService', '--disable-gpu'], ready: false }, async (page) => {
  await page.waitForSelector('#none:not([hidden])');
  assert.match(await page.textContent('#none'), /no WebGPU/);
  assert.ok((await page.textContent('#why')).length > 20);
  assert.ok(await page.evaluate(() => document.querySelector('#none img').complete && document.querySelector('#none img').naturalWidth > 0));
  assert.equal(await page.locator('.mode:visible').count(), 0);
}));

test('keyboard, phone and both color schemes', async () => {
  for (const colorScheme of ['light', 'dark']) {
    await within({ colorScheme, viewport: { width: 390, height: 844 } }, async (page) => {
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than a phone');
      await page.getByRole('tab', { name: 'Reconstruct' }).focus();
      await page.keyboard.press('ArrowRight');
      assert.ok(await page.locator('#train').isVisible());
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nor in Train');
      await page.keyboard.press('ArrowRight');
      assert.ok(await page.locator('#inspect').isVisible());
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nor in Inspect');
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = ground.match(/\d+/g).slice(0, 3).every((value) => Number(value) > 128);
      assert.equal(light, colorScheme === 'light');
      await shoot(page, `phone-${colorScheme}`);
    });
  }
});
