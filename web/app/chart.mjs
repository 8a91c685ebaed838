// The loss curve: the loss of every step as a faint line, its running mean as a bold one.

export function curve(canvas, losses) {
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
  const [dim, line, accent] = ['--dim', '--line', '--accent'].map((name) => resolve(color(name)));
  const [left, right, top, bottom] = [44, width - 14, 14, height - 28];
  const most = Math.max(0.5, ...losses) * 1.05;
  const [low, high] = [Math.max(0, Math.min(...losses, most) * 0.9), most];
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
  context.fillText(losses.length ? `step ${losses.length}` : 'steps', right, height - 9);
  context.textAlign = 'left';
  context.fillText(losses.length ? 'loss (1 = the mean of each patch)' : 'The loss will appear here: 1 is what the mean of each patch gives.', left, height - 9);
  if (!losses.length) return;
  const path = (values) => {
    context.beginPath();
    values.forEach((value, i) => (i ? context.lineTo(x(i), y(value)) : context.moveTo(x(i), y(value))));
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
}
