import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pixels, shoot, within } from './harness.mjs';

const { NATIVE, ROWSCAN, SITE } = process.env;
const MODEL = join(SITE, 'assets/scenes_micro');

/** What `act` asks for has been segmented. */
const change = async (page, act) => {
  await page.evaluate(() => { globalThis.before = globalThis.rowscan.modes.segment.state.shown; });
  await act();
  await page.waitForFunction(() => {
    const { shown } = globalThis.rowscan.modes.segment.state;
    return shown && shown !== globalThis.before;
  });
};
const shown = (page) => page.evaluate(() => {
  const { shown, palette } = globalThis.rowscan.modes.segment.state;
  const { image, counts, scores } = shown;
  const shares = palette.map(({ name }, i) => [name, counts[i] / (image.width * image.height)]).filter(([, share]) => share);
  return { size: [image.width, image.height], shares: Object.fromEntries(shares), scores: scores && { accuracy: scores.accuracy, miou: scores.miou } };
});
/** Pixels of the canvas that differ from the image below. */
const covered = async (page, id) => {
  const [image, over] = [await pixels(page, 's-image'), await pixels(page, id)];
  return over.filter((value, i) => i % 4 === 0 && [0, 1, 2].some((c) => over[i + c] !== image[i + c])).length;
};
const drop = (page, files) => page.evaluate(async (files) => {
  const transfer = new DataTransfer();
  for (const { name, type, url } of files) transfer.items.add(new File([await (await fetch(url)).arrayBuffer()], name, { type }));
  dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
}, files);
const folder = (name) => ['config.json', 'model.safetensors'].map((file) => ({ name: file, type: '', url: `assets/${name}/${file}` }));

test('segment: scenes as the command line sees them, their truth, and own images', () => within({ reducedMotion: 'reduce' }, async (page) => {
  const fetched = [];
  page.on('request', (request) => fetched.push(request.url()));
  await change(page, () => page.getByRole('tab', { name: 'Segment' }).click());
  assert.ok(fetched.some((url) => url.endsWith('scenes_micro/model.safetensors')), 'the network loads when the tab is opened');

  const native = (...args) => execFileSync(ROWSCAN, ['--portable', ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const tested = join(NATIVE, 'segment.json');
  native('eval', '--checkpoint', MODEL, '--data', 'synthetic:4', '--json', tested); // a test split of one scene, the first
  const { miou, aacc } = JSON.parse(readFileSync(tested));
  const first = await shown(page);
  console.log(`scene 1: pixel accuracy ${first.scores.accuracy.toFixed(4)}, natively ${aacc.toFixed(4)}; mIoU ${first.scores.miou.toFixed(4)}, natively ${miou.toFixed(4)}`);
  assert.ok(Math.abs(first.scores.accuracy - aacc) < 2e-3 && Math.abs(first.scores.miou - miou) < 5e-3);
  const predicted = JSON.parse(native('predict', '--checkpoint', MODEL, '--data', 'synthetic:8', '--json'));
  for (const [i, scene] of predicted.entries()) {
    if (i) await change(page, () => page.getByRole('button', { name: 'Another scene' }).click());
    const { size, shares } = await shown(page);
    assert.deepEqual(size, [scene.width, scene.height], 'whole scenes of any shape');
    for (const { name, share } of scene.classes) assert.ok(Math.abs((shares[name] ?? 0) - share) < 2e-3, `scene ${i + 1}, ${name}: ${shares[name]}, natively ${share}`);
  }
  assert.match(await page.textContent('#s-facts'), /pixel accuracy.*mIoU.*ms/s);
  assert.equal(await page.locator('#s-samples button[aria-pressed="true"]').getAttribute('aria-label'), 'Scene 2');

  const cat = { name: 'cat.jpg', type: 'image/jpeg', url: 'assets/samples/cat.jpg' };
  await change(page, () => drop(page, [cat]));
  assert.equal((await shown(page)).scores, null, 'nobody knows the classes of an own image');
  assert.ok(await page.locator('#s-known').isHidden());
  assert.equal(await page.textContent('#s-which'), 'your image');
  await shoot(page, 'segment-own');
  await change(page, () => page.getByRole('button', { name: 'Scene 3' }).click());
  await change(page, () => page.locator('#s-file').setInputFiles(join(SITE, 'assets/samples/astronaut.jpg')));
  await change(page, () => page.getByRole('button', { name: 'Another scene' }).click());
  await change(page, () => page.evaluate(async ({ name, type, url }) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([await (await fetch(url)).arrayBuffer()], name, { type }));
    dispatchEvent(new ClipboardEvent('paste', { clipboardData }));
  }, cat));
  assert.equal(await page.textContent('#s-which'), 'your image');

  await drop(page, folder('map_micro'));
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(await page.textContent('#notice'), /an encoder with MAP's decoder, expected a segmentation network/);
  await change(page, () => drop(page, folder('scenes_micro')));
  assert.ok(await page.locator('#notice').isHidden());
  await page.getByRole('tab', { name: 'Reconstruct' }).click();
  await drop(page, folder('scenes_micro'));
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(await page.textContent('#notice'), /the tab Segment/);
}));

test('segment: a class alone by mouse and keyboard, and all of it in the address', async () => {
  let seen;
  await within({ hash: '#segment&scene=4&cover=0.7', reducedMotion: 'reduce' }, async (page) => {
    await shoot(page, 'segment');
    const all = await covered(page, 's-classes');
    const { size } = await shown(page);
    assert.ok(all > 0.9 * size[0] * size[1], 'every pixel has a class');
    assert.ok(await covered(page, 's-truth') > 0.5 * size[0] * size[1]);
    const entry = page.locator('#s-legend button').nth(1);
    const count = await page.evaluate(() => globalThis.rowscan.modes.segment.state.shown.counts[document.querySelectorAll('#s-legend button')[1].value]);
    await entry.hover();
    const alone = await covered(page, 's-classes');
    assert.ok(alone <= count && alone > 0.9 * count && alone < all);
    await page.mouse.move(0, 0);
    assert.equal(await covered(page, 's-classes'), all);
    await page.locator('#s-legend button').first().focus();
    await page.keyboard.press('Tab');
    assert.equal(await covered(page, 's-classes'), alone, 'the focus shows it too');
    await page.keyboard.press('Enter');
    assert.equal(await entry.getAttribute('aria-pressed'), 'true');
    await page.evaluate(() => document.activeElement.blur());
    assert.equal(await covered(page, 's-classes'), alone, 'chosen, it stays');
    await page.waitForFunction(() => /^#segment&.*scene=4&class=\d+&cover=0.7$/.test(location.hash));
    seen = [await page.evaluate(() => location.hash), await pixels(page, 's-classes')];
  });
  await within({ hash: seen[0], reducedMotion: 'reduce', colorScheme: 'dark', viewport: { width: 360, height: 740 } }, async (page) => {
    assert.deepEqual(await pixels(page, 's-classes'), seen[1], 'whoever opens the address sees the same');
    assert.ok(await page.evaluate(() => {
      const [tabs, last] = ['nav', '#tab-segment'].map((at) => document.querySelector(at).getBoundingClientRect().right);
      return last <= tabs && document.documentElement.scrollWidth <= innerWidth;
    }), 'nothing is wider than a phone');
    await shoot(page, 'segment-phone-dark');
  });
});

test('segment: a device that was lost is opened again', () => within({ hash: '#segment&scene=2', reducedMotion: 'reduce' }, async (page) => {
  await change(page, async () => {
    await page.evaluate(() => globalThis.rowscan.device.destroy());
    await page.getByRole('button', { name: 'Another scene' }).click();
  });
  await page.waitForFunction(() => document.getElementById('notice').textContent.includes('is back'));
  assert.equal(await page.textContent('#s-which'), 'scene 4');
}));
