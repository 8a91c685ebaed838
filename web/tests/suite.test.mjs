import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED, SHARE, within } from './harness.mjs';

test('operators agree with their oracles in the browser, forward and every gradient', () => within({ site: process.env.SUITE, hash: `#${SEED},${SHARE}`, ready: false }, async (page) => {
  console.log(`one in ${SHARE} tests of operators, ROWSCAN_TEST_SEED=${SEED}`);
  const ended = await page.waitForFunction(() => globalThis.suiteEnded, null, { timeout: 1_500_000 });
  const { tests, leftOut } = await page.evaluate(() => ({ tests: globalThis.suiteTests, leftOut: globalThis.suiteLeftOut }));
  for (const [i, { test, at }] of tests.entries()) {
    if (process.env.TIMES) console.log(`${((at - (tests[i - 1]?.at ?? 0)) / 1000).toFixed(1)} s  ${test}`);
  }
  assert.equal(await ended.jsonValue(), 'passed');
  const all = [...tests.map(({ test }) => test), ...leftOut];
  const families = new Set(all.map((test) => test.match(/ops\/(\w+)/)[1]));
  console.log(`${tests.length} of ${all.length} tests, of ${families.size} families of operators, in ${((tests.at(-1)?.at ?? 0) / 1000).toFixed(0)} s`);
  assert.ok(tests.length > all.length / SHARE / 3, 'the seed chose enough of them');
  for (const family of ['activation', 'adamw', 'attention', 'conv1d', 'matmul', 'mse_norm', 'norm', 'patchify', 'reduce', 'selective_scan', 'ssm', 'tokens']) {
    assert.ok(families.has(family), `${family} has tests`);
  }
}));
