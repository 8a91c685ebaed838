// The address says everything that was set: whoever opens it sees the same pixels.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pixels, settled, within } from './harness.mjs';

const CANVASES = ['r-original', 'r-masked', 'r-result', 'r-error'];
const all = async (page) => Promise.all(CANVASES.map((id) => pixels(page, id)));
/** What `act` does has been shown, and is in the address. */
const change = async (page, act) => {
  await page.evaluate(() => { document.getElementById('r-result').dataset.rows = 0; });
  await act();
  await settled(page);
  await page.waitForFunction(() => location.hash === globalThis.rowscan.address.toString());
};
const hash = (page) => page.evaluate(() => location.hash);
/** Opens the page with this address in a fresh profile: the same pictures? */
const again = (hash, seen) => within({ hash, reducedMotion: 'reduce' }, async (page) => {
  await settled(page);
  assert.deepEqual(await all(page), seen, hash);
});

test('links: a painted mask on a sample, and an own image, look the same in a fresh profile', async () => {
  const links = [];
  // a browser that shares: Chromium on Linux does not
  const init = () => {
    navigator.canShare = () => true;
    navigator.share = async (data) => { globalThis.handedOver = data; };
  };
  await within({ reducedMotion: 'reduce', permissions: ['clipboard-read', 'clipboard-write'], init }, async (page) => {
    await settled(page);
    assert.equal(await hash(page), '', 'nothing was set yet');
    await change(page, () => page.getByRole('button', { name: 'A rocket' }).click());
    await change(page, () => page.locator('#r-ratio').fill('0.75'));
    await change(page, () => page.locator('#r-seed').fill('9'));
    assert.match(await hash(page), /^#reconstruct&model=photos4&image=rocket&mask=random&ratio=0.75&seed=9$/);
    await change(page, () => page.getByText('paint', { exact: true }).click());
    await page.locator('#r-masked').focus();
    await change(page, () => page.keyboard.press('Space'));
    assert.match(await hash(page), /&hidden=[0-9a-f]{16}/);
    await page.locator('#r-seed').focus().catch(() => {});
    await page.evaluate(() => document.activeElement.blur());
    links.push([await hash(page), await all(page)]);

    await change(page, () => page.getByText('diagonal', { exact: true }).click());
    await change(page, () => page.locator('#r-file').setInputFiles(join(process.env.SITE, 'assets/samples/4.png')));
    assert.doesNotMatch(await hash(page), /image=|data=/, 'an own image is in no address before it is asked for');
    await change(page, () => page.getByRole('button', { name: 'Copy link' }).click());
    await page.waitForFunction(() => document.getElementById('r-shared').textContent.includes('clipboard'));
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /data=[\w-]{500,8000}/);
    links.push([new URL(copied).hash, await all(page)]);
    await page.getByRole('button', { name: 'Share' }).click();
    await page.waitForFunction(() => globalThis.handedOver);
    const given = await page.evaluate(async () => {
      const { url, files } = globalThis.handedOver;
      return { url, type: files[0].type, size: (await files[0].arrayBuffer()).byteLength };
    });
    assert.equal(given.url, copied, 'the link is that of the other button');
    assert.ok(given.type === 'image/png' && given.size > 10_000, JSON.stringify(given));

    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save picture' }).click();
    const saved = readFileSync(await (await download).path());
    assert.equal(saved.toString('latin1', 1, 4), 'PNG');
    assert.ok(saved.readUInt32BE(16) > 900, 'three pictures beside each other');

    await change(page, () => page.evaluate((hash) => { location.hash = hash; }, links[0][0]));
    assert.deepEqual(await all(page), links[0][1], 'the same in the page that is open');
  });
  for (const [link, seen] of links) await again(link, seen);
});

test('links: those that make no sense do no harm, and those into other tabs lead there', () => within({ hash: '#reconstruct&model=none&image=%zz&mask=x&ratio=abc&seed=-5&hidden=xyz&what=1', reducedMotion: 'reduce' }, async (page) => {
  await settled(page);
  assert.deepEqual(await page.evaluate(() => {
    const { state } = globalThis.rowscan.modes.reconstruct;
    return [state.wish, state.picked, document.getElementById('r-seed').value];
  }), ['photos4', 'cat', '0']);

  const go = (hash) => page.evaluate((hash) => { location.hash = hash; }, hash);
  await go('#inspect&image=coffee&patch=5&layer=2&way=1&head=1');
  await page.waitForFunction(() => globalThis.rowscan.modes.inspect.state.near.length === 6);
  assert.deepEqual(await page.evaluate(() => [
    globalThis.rowscan.modes.reconstruct.state.picked, globalThis.rowscan.modes.inspect.state.token,
    ...['i-layer', 'i-way', 'i-head'].map((id) => document.getElementById(id).selectedOptions[0].text),
  ]), ['coffee', 5, 'layer 3', 'up, last patch to first', 'head 2']);
  await go('#clouds&solid=16&share=0.75&draw=3');
  await page.waitForFunction(() => globalThis.rowscan.modes.clouds.state.shown?.rebuilt.length === 192 * 3);
  assert.equal(await page.evaluate(() => document.getElementById('c-kind').value), '4');
  await go('#train&preset=tiny&side=32&augment=no&batch=99&rate=abc');
  assert.ok(await page.locator('#train').isVisible());
  assert.deepEqual(await page.evaluate(() => [
    document.getElementById('t-model').value, document.getElementById('t-augment').checked,
    document.getElementById('t-batch').value,
  ]), ['tiny', false, '3']);

  const rate = (text) => page.waitForFunction((text) => document.getElementById('t-lr-out').textContent === text, text);
  await rate('1.3e-3'); // 192 channels; `micro` has 64
  assert.doesNotMatch(await page.evaluate(() => globalThis.rowscan.address.toString()), /rate=/, 'it was not set');
  await page.locator('#t-model').selectOption('micro');
  await rate('4.0e-3');
  await page.locator('#t-lr').fill('-3');
  await page.locator('#t-model').selectOption('tiny');
  await rate('1.0e-3');
  assert.match(await page.evaluate(() => globalThis.rowscan.address.toString()), /&rate=-3(&|$)/);
}));
