// Clouds: a solid as points that turns, what is visible of it, and what a model makes of the rest.
import { Rowscan } from 'rowscan';
import { facts } from './draw.mjs';
import { catalog } from './models.mjs';

const VIEWS = ['original', 'visible', 'rebuilt'];
/** Milliseconds in which a rebuilt patch appears. */
const PACE = 120;
/** Radians that a cloud turns in a second, by itself. */
const SPEED = 0.6;
/** Radians of a press of an arrow key. */
const STEP = 0.15;

export function attach(app) {
  const { $ } = app;
  const state = { model: null, solids: null, index: 0, shown: null, turn: 0.6, tilt: 0.35, since: 0 };
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  let [queue, wanted, frame, last] = [Promise.resolve(), 0, 0, 0];

  const turning = () => $('c-turn').getAttribute('aria-pressed') === 'true';
  const open = () => app.mode === 'clouds';

  async function load() {
    state.model = await Rowscan.load((await catalog('clouds'))[0].address, { device: app.device });
    state.solids ??= await Rowscan.solids();
    if (!$('c-kind').options.length) $('c-kind').append(...state.solids.kinds.map((kind, i) => new Option(kind, i)));
    $('c-kind').value = state.index % state.solids.kinds.length;
    const { name } = state.model.config;
    $('c-model').textContent = `${name}, ${(state.model.parameters / 1e6).toFixed(2)} M parameters, trained on other solids of these kinds.`;
  }

  /** Rebuilds the chosen solid. Of several wishes that come while it works, only the last counts. */
  function rebuild() {
    const wish = ++wanted;
    queue = queue.then(() => app.guard(async () => {
      if (wish !== wanted || !open() || !app.device) return;
      if (!state.model) await load();
      const [maskRatio, seed] = ['c-ratio', 'c-seed'].map((id) => Number($(id).value));
      const { original, visible, rebuilt, loss } = await state.model.rebuild(state.solids.points(state.index), { maskRatio, seed });
      Object.assign(state, { shown: { original, visible, rebuilt, loss }, since: performance.now() });
      const patches = rebuilt.length / 3 / state.model.groupSize;
      facts($('c-facts'), { hidden: `${patches} of 16 patches`, 'Chamfer distance': loss.toFixed(4) });
      draw();
      run();
    }));
    return queue;
  }

  /** Rebuilt points that have appeared by now. */
  function appeared(now) {
    const { rebuilt } = state.shown;
    const patches = still.matches ? Infinity : Math.floor((now - state.since) / PACE);
    return Math.min(rebuilt.length, patches * 3 * state.model.groupSize);
  }

  function draw(now = performance.now()) {
    if (!state.shown) return;
    const { original, visible, rebuilt } = state.shown;
    const end = appeared(now);
    paint('original', [[original, original.length, 'text']]);
    paint('visible', [[visible, visible.length, 'text']]);
    paint('rebuilt', [[visible, visible.length, 'text'], [rebuilt, end, 'accent']]);
    $('c-rebuilt').dataset.points = end / 3;
    $('c-count').textContent = `${end / 3} points`;
  }

  /** Draws points, the nearer the larger and darker. */
  function paint(view, clouds) {
    const canvas = $(`c-${view}`);
    const side = Math.max(1, Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext('2d');
    context.clearRect(0, 0, side, side);
    const style = getComputedStyle(canvas);
    const colors = { text: style.color, accent: getComputedStyle($('c-next')).backgroundColor };
    const [sin, cos, up, on] = [Math.sin(state.turn), Math.cos(state.turn), Math.sin(state.tilt), Math.cos(state.tilt)];
    for (const [points, length, color] of clouds) {
      context.fillStyle = colors[color];
      for (let i = 0; i < length; i += 3) {
        const [x, y, z] = [points[i], points[i + 1], points[i + 2]];
        const [across, deep] = [x * cos + z * sin, z * cos - x * sin];
        const [high, near] = [y * on - deep * up, y * up + deep * on];
        const grow = 1 / (1 - near * 0.25);
        context.globalAlpha = 0.35 + 0.6 * Math.min(1, Math.max(0, (near + 1) / 2));
        context.beginPath();
        context.arc(side * (0.5 + 0.4 * across * grow), side * (0.5 - 0.4 * high * grow), side * 0.008 * grow, 0, 7);
        context.fill();
      }
    }
    context.globalAlpha = 1;
  }

  /** Draws until nothing moves any more. */
  function run() {
    if (frame || !open() || document.hidden) return;
    last = performance.now();
    const tick = (now) => {
      frame = 0;
      if (!open() || !state.shown || document.hidden) return;
      const moves = turning() && !held;
      if (moves) state.turn += ((now - last) / 1000) * SPEED;
      last = now;
      draw(now);
      if (moves || appeared(now) < state.shown.rebuilt.length) frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
  }

  let held = null;
  for (const view of VIEWS) {
    const canvas = $(`c-${view}`);
    canvas.addEventListener('pointerdown', (event) => {
      held = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!held) return;
      const scale = 3 / canvas.clientWidth;
      state.turn += (event.clientX - held.x) * scale;
      state.tilt = Math.min(1.4, Math.max(-1.4, state.tilt + (event.clientY - held.y) * scale));
      held = { x: event.clientX, y: event.clientY };
      draw();
    });
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { held = null; run(); });
    canvas.addEventListener('keydown', (event) => {
      const [turn, tilt] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (!turn && !tilt) return;
      event.preventDefault();
      state.turn += turn * STEP;
      state.tilt = Math.min(1.4, Math.max(-1.4, state.tilt + tilt * STEP));
      draw();
    });
  }

  const turn = (on) => {
    $('c-turn').setAttribute('aria-pressed', on);
    $('c-turn').textContent = on ? 'Turning' : 'Turn';
    run();
  };
  turn(!still.matches);
  $('c-turn').addEventListener('click', () => turn(!turning()));
  const labels = () => {
    $('c-ratio-out').textContent = `${Math.round($('c-ratio').value * 100)}%`;
    $('c-seed-out').textContent = $('c-seed').value;
  };
  const set = () => { app.address.changed(); rebuild(); };
  $('c-kind').addEventListener('change', () => { state.index = Number($('c-kind').value); set(); });
  $('c-next').addEventListener('click', () => { state.index += state.solids?.kinds.length ?? 0; set(); });
  for (const id of ['c-ratio', 'c-seed']) $(id).addEventListener('input', () => { labels(); set(); });
  document.addEventListener('visibilitychange', run);
  addEventListener('resize', () => draw());
  app.address.add('clouds', 'solid', {
    read: () => String(state.index),
    write: (text) => { if (/^\d{1,4}$/.test(text)) state.index = Number(text); },
  });
  app.address.control('clouds', 'share', $('c-ratio'));
  app.address.control('clouds', 'draw', $('c-seed'));

  return {
    state,
    connected: () => { labels(); return open() ? rebuild() : undefined; },
    applied() {
      labels();
      if (state.solids) $('c-kind').value = state.index % state.solids.kinds.length;
      return open() ? rebuild() : undefined;
    },
    lost() { state.model = null; },
    shown: () => (state.shown ? run() : rebuild()),
  };
}
