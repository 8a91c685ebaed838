import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED, SHARE, settled, shoot, within } from './harness.mjs';

// `cargo xtask wgsl-check` puts all variants through the browser's front end; this adds what follows it.
test("kernels pass the browser's compiler", () => within({ site: process.env.SUITE, hash: '#compile', ready: false }, async (page) => {
  await page.waitForFunction(() => globalThis.suiteEnded);
  const compiled = await page.evaluate(([seed, share]) => globalThis.compileSample(seed, share), [SEED, SHARE]);
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

/** What a visitor with a screen reader, or without a mouse, would miss: controls without a name, pictures without one. */
const nameless = (page) => page.evaluate(() => {
  const shown = (element) => element.offsetParent !== null;
  const name = (element) => element.getAttribute('aria-label') || element.labels?.[0]?.textContent.trim() || element.textContent.trim() || element.title || element.alt;
  const controls = [...document.querySelectorAll('button, input, select, a, canvas[role], [tabindex="0"]')].filter(shown);
  return controls.filter((element) => !name(element)).map((element) => element.outerHTML.slice(0, 120));
});

/** Canvases that take keys, which a screen reader keeps for itself unless they are applications. */
const keyless = (page) => page.evaluate(() => {
  const found = document.querySelectorAll('canvas[tabindex="0"]:not([role="application"])');
  return [...found].map(({ id }) => id);
});

/** Text that is too faint for its ground, by WCAG's contrast of 4.5. */
const faint = (page) => page.evaluate(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter((element) => element.offsetParent && !element.disabled && !element.closest(':disabled')
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return texts.filter((element) => {
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5 && getComputedStyle(element).opacity === '1';
  }).map((element) => element.outerHTML.slice(0, 100));
});

test('keyboard, phone, screen reader and both color schemes', () => within({ viewport: { width: 360, height: 780 }, reducedMotion: 'reduce' }, async (page) => {
  const fits = async (tab) => {
    const wide = await page.evaluate(() => [...document.querySelectorAll('body *')].filter((element) => element.offsetParent && element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.away, .skip'))
      .map((element) => element.outerHTML.slice(0, 100)));
    assert.deepEqual(wide, [], `wider than a phone in ${tab}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${tab} scrolls sideways`);
    assert.deepEqual(await nameless(page), [], `without a name in ${tab}`);
    assert.deepEqual(await keyless(page), [], `without keys in ${tab}`);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = ground.match(/\d+/g).slice(0, 3).every((value) => Number(value) > 128);
      assert.equal(light, colorScheme === 'light');
      assert.deepEqual(await faint(page), [], `too faint in ${tab}, ${colorScheme}`);
      await shoot(page, `phone-${tab}-${colorScheme}`);
    }
  };
  const next = async (from, to) => {
    await page.getByRole('tab', { name: from }).focus();
    await page.keyboard.press('ArrowRight');
    assert.ok(await page.locator(to).isVisible());
  };
  await settled(page);
  await fits('reconstruct');
  await next('Reconstruct', '#train');
  await page.getByText('A lesson:').click();
  await page.waitForFunction(() => document.getElementById('l-says').textContent);
  await fits('train');
  await next('Train', '#inspect');
  await page.waitForFunction(() => document.querySelectorAll('#i-near figure').length === 6);
  await fits('inspect');
  await next('Inspect', '#clouds');
  await page.waitForFunction(() => document.getElementById('c-rebuilt').dataset.points > 0);
  await fits('clouds');
}));
