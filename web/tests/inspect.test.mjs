import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pixels, settled, shoot, within } from './harness.mjs';

test('inspect: the row-causal mask, attention of every head, and four masks of the decoder', () => within({}, async (page) => {
  await settled(page);
  await page.getByRole('tab', { name: 'Inspect' }).click();
  await page.waitForFunction(() => globalThis.rowscan.modes.inspect.state.maps);
  await page.waitForFunction(() => document.getElementById('i-says').textContent && document.querySelectorAll('#i-masks .result[data-loss]').length === 4);
  const { token, grid, seen, sums, beyond } = await page.evaluate(() => {
    const { model } = globalThis.rowscan.modes.reconstruct.state;
    const { token, seen, maps } = globalThis.rowscan.modes.inspect.state;
    const tokens = model.grid ** 2;
    const rows = Array.from({ length: maps.length / tokens }, (_, i) => maps.subarray(i * tokens, (i + 1) * tokens));
    return {
      token,
      grid: model.grid,
      seen: [...seen.subarray(token * tokens, (token + 1) * tokens)],
      sums: rows.map((row) => row.reduce((a, b) => a + b, 0)),
      beyond: Math.max(...rows.map((row, i) => Math.max(0, ...row.subarray((Math.floor((i % tokens) / model.grid) + 1) * model.grid)))),
    };
  });
  const tokens = grid ** 2;
  const row = Math.floor(token / grid);
  assert.deepEqual(seen, Array.from({ length: tokens }, (_, i) => (Math.floor(i / grid) <= row ? 1 : 0)));
  assert.equal(sums.length, 2 * 4 * tokens, 'two blocks of four heads');
  assert.ok(sums.every((sum) => Math.abs(sum - 1) < 1e-4), 'weights add up to 1');
  assert.equal(beyond, 0, 'no head looks at a row below');

  const attention = await pixels(page, 'i-attention');
  await page.locator('#i-head').selectOption({ label: 'head 2' });
  assert.notDeepEqual(await pixels(page, 'i-attention'), attention, 'another head looks elsewhere');
  const says = await page.textContent('#i-says');
  await page.locator('#i-token').focus();
  await page.keyboard.press('ArrowDown');
  assert.notEqual(await page.textContent('#i-says'), says);
  assert.equal(await page.evaluate(() => globalThis.rowscan.modes.inspect.state.token), token + grid);

  // the state along the scan: nothing of the chosen patch before it, ever less after it
  const left = await page.evaluate((tokens) => {
    const { scan, token } = globalThis.rowscan.modes.inspect.state;
    return [...scan.left.subarray(token * tokens, (token + 1) * tokens)];
  }, tokens);
  const chosen = token + grid;
  assert.ok(left.every((value, i) => (i < chosen ? value === 0 : i === chosen || (value > 0 && value < left[i - 1]))), left.join());
  assert.match(await page.textContent('#i-remembers'), /half/i);
  const drawn = await pixels(page, 'i-left');
  await page.locator('#i-layer').selectOption({ label: 'layer 6' });
  await page.waitForFunction((before) => {
    const canvas = document.getElementById('i-left');
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => value !== before[i]);
  }, drawn);

  // six patches, the most alike first, none of them the patch itself
  await page.waitForFunction(() => document.querySelectorAll('#i-near figure').length === 6);
  const near = await page.evaluate(() => globalThis.rowscan.modes.inspect.state.near.map(({ token, title, alike }) => ({ token, title, alike })));
  assert.ok(near.every(({ alike }, i) => alike < 1 && (i === 0 || alike <= near[i - 1].alike)), JSON.stringify(near));
  assert.ok(!near.some(({ token, title }) => title === 'this image' && token === chosen));
  assert.ok(near.some(({ title }) => title !== 'this image'), 'other samples are among them');
  await shoot(page, 'inspect');
  const cards = await page.evaluate(() => [...document.querySelectorAll('#i-masks figure')].map((figure) => {
    const [pattern, result] = figure.querySelectorAll('canvas');
    const bytes = (canvas) => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
    const seen = bytes(pattern).filter((value, i) => i % 4 === 3 && value === 255).length;
    return { mask: figure.dataset.mask, seen, result: bytes(result).join(), loss: Number(result.dataset.loss) };
  }));
  const seenBy = { ar: (tokens * (tokens + 1)) / 2, mae: tokens ** 2, 'local-mae': tokens * grid, map: (tokens * (tokens + grid)) / 2 };
  assert.deepEqual(cards.map(({ mask, seen }) => [mask, seen]), Object.entries(seenBy));
  assert.equal(new Set(cards.map(({ result }) => result)).size, 4, 'each mask gives its own reconstruction');
  assert.equal(cards[3].result, (await pixels(page, 'r-result')).join(), 'that of MAP is the one of Reconstruct');
  assert.equal(new Set(cards.map(({ loss }) => loss)).size, 4, `and its own loss: ${cards.map(({ loss }) => loss)}`);

  // another model is taken while this page and the lesson read the samples
  const taken = async (id, grid) => {
    await page.evaluate((id) => {
      document.getElementById('lesson').open = true;
      globalThis.rowscan.lesson.go(4);
      document.getElementById('r-pick').value = id;
      document.getElementById('r-pick').dispatchEvent(new Event('change'));
    }, id);
    const length = 2 * 4 * grid ** 4;
    await page.waitForFunction((length) => globalThis.rowscan.modes.inspect.state.maps.length === length, length);
  };
  await taken('photos', 8);
  await taken('photos4', grid);
  await page.waitForFunction(() => {
    const { lesson, modes } = globalThis.rowscan;
    return lesson.state.means?.model === modes.reconstruct.state.model;
  });
  assert.ok(await page.locator('#notice').isHidden(), await page.textContent('#notice'));
}));
