import assert from 'node:assert/strict';
import { test } from 'node:test';
import { curve, thinned } from '../app/chart.mjs';

test('chart: a long run is drawn with few points, and its spikes stay', () => {
  const losses = Array.from({ length: 200_000 }, (_, i) => 1 + Math.sin(i) / 10);
  losses[123_456] = 9;
  const points = thinned(losses, 500);
  assert.equal(points.length, 1000);
  assert.ok(points.every(([i, value], at) => value === losses[i] && (at === 0 || i >= points[at - 1][0])));
  assert.ok(points.some(([i]) => i === 123_456));
  assert.deepEqual(thinned([3, 1, 2], 2), [[0, 3], [1, 1], [2, 2]], 'a short one with all of them');

  let drawn = 0;
  const canvas = { clientWidth: 600, clientHeight: 200, style: {} };
  canvas.getContext = () => new Proxy({ canvas, lineTo: () => drawn++ }, { get: (own, name) => own[name] ?? (() => {}) });
  Object.assign(globalThis, { devicePixelRatio: 1, getComputedStyle: () => ({ color: '', getPropertyValue: () => '' }) });
  curve(canvas, losses, [[1, 10], [200_000, 90]]);
  assert.ok(drawn < 5000, `${drawn} lines`);
});
