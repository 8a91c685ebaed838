import assert from 'node:assert/strict';
import { test } from 'node:test';
import { within } from './harness.mjs';

test('every operator agrees with its oracle in the browser, forward and every gradient', () => within({ site: process.env.SUITE, ready: false }, async (page) => {
  const ended = await page.waitForFunction(() => globalThis.suiteEnded, null, { timeout: 1_500_000 });
  const tests = await page.evaluate(() => globalThis.suiteTests);
  for (const [i, { test, at }] of tests.entries()) {
    if (process.env.TIMES) console.log(`${((at - (tests[i - 1]?.at ?? 0)) / 1000).toFixed(1)} s  ${test}`);
  }
  assert.equal(await ended.jsonValue(), 'passed');
  const families = new Set(tests.map(({ test }) => test.match(/ops\/(\w+)/)[1]));
  console.log(`${tests.length} tests of ${families.size} families of operators in ${(tests.at(-1).at / 1000).toFixed(0)} s`);
  for (const family of ['activation', 'adamw', 'attention', 'conv1d', 'matmul', 'mse_norm', 'norm', 'patchify', 'reduce', 'selective_scan', 'ssm', 'tokens']) {
    assert.ok(families.has(family), `${family} was tested`);
  }
}));
