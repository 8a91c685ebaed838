// The curves of a run: the loss of every step as a faint line and its running mean as a bold one; with an axis of its
// own, the share of images whose class a probe of the features tells.

/**
 * The points [i, value] of a line that is `columns` pixels wide: of each column the least value and the largest, so that
 * spikes stay.
 */
export function thinned(values, columns) {
  if (values.length <= 2 * columns) return values.map((value, i) => [i, value]);
  const points = [];
  for (let column = 0; column < columns; column++) {
    const [from, to] = [column, column + 1].map((at) => Math.floor((at * values.length) / columns));
    let [least, most] = [from, from];
    for (let i = from; i < to; i++) {
      if (values[i] < values[least]) least = i;
      if (values[i] > values[most]) most = i;
    }
    const [first, second] = least < most ? [least, most] : [most, least];
    points.push([first, values[first]], [second, values[second]]);
  }
  return points;
}

export function curve(canvas, losses, probes = []) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(name);
  const resolve = (value) => { context.canvas.style.color = value; const found = getComputedStyle(canvas).color; context.canvas.style.color = ''; return found; };
  const [dim, line, accent, second] = ['--dim', '--line', '--accent', '--warn'].map((name) => resolve(color(name)));
  const [left, right, top, bottom] = [44, width - (probes.length ? 46 : 14), 14, height - 28];
  let [least, most] = [Infinity, 0.5];
  for (const loss of losses) {
    least = Math.min(least, loss);
    most = Math.max(most, loss);
  }
  const [low, high] = losses.length ? [Math.max(0, least * 0.9), most * 1.05] : [0, 1.6];
  const columns = Math.max(1, Math.round((right - left) * scale));
  const x = (i) => left + ((right - left) * i) / Math.max(losses.length - 1, 1);
  const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low || 1);
  context.font = '12px system-ui, sans-serif';
  context.fillStyle = dim;
  context.strokeStyle = line;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(right, y(value));
    context.stroke();
    context.fillText(value.toFixed(2), left - 8, y(value));
  }
  context.textBaseline = 'alphabetic';
  if (losses.length) context.fillText(`step ${losses.length}`, right, height - 9);
  context.textAlign = 'left';
  context.fillText(losses.length ? 'loss' : 'The loss will appear here.', left, height - 9);
  if (!losses.length) return;
  const path = (values) => {
    context.beginPath();
    for (const [i, value] of thinned(values, columns)) context.lineTo(x(i), y(value));
    context.stroke();
  };
  context.strokeStyle = accent;
  context.lineJoin = 'round';
  context.globalAlpha = 0.35;
  path(losses);
  context.globalAlpha = 1;
  context.lineWidth = 2.2;
  let mean = losses[0];
  path(losses.map((loss, i) => (mean += (loss - mean) * Math.max(0.2, 1 / (i + 1)))));
  if (!probes.length) return;
  const up = (percent) => bottom - ((bottom - top) * percent) / 100;
  context.strokeStyle = context.fillStyle = second;
  context.beginPath();
  probes.forEach(([step, percent], i) => (i ? context.lineTo(x(step - 1), up(percent)) : context.moveTo(x(step - 1), up(percent))));
  context.stroke();
  for (const [step, percent] of probes) {
    context.beginPath();
    context.arc(x(step - 1), up(percent), 3, 0, 7);
    context.fill();
  }
  context.textAlign = 'center';
  context.fillText('● classes told apart', (left + right) / 2, height - 9);
  context.textAlign = 'left';
  context.textBaseline = 'middle';
  for (let percent = 0; percent <= 100; percent += 25) context.fillText(`${percent}%`, right + 8, up(percent));
}
