// A picture of a result, and ways to pass it on.

const SIDE = 320;
const GAP = 16;

/** A PNG of canvases in a row, each with its caption. */
export async function sheet(columns) {
  const sheet = document.createElement('canvas');
  sheet.width = columns.length * (SIDE + GAP) + GAP;
  sheet.height = SIDE + GAP + 44;
  const context = sheet.getContext('2d');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.imageSmoothingEnabled = false;
  context.font = '18px system-ui, sans-serif';
  context.fillStyle = '#333';
  columns.forEach(({ canvas, caption }, i) => {
    const left = GAP + i * (SIDE + GAP);
    context.drawImage(canvas, left, GAP, SIDE, SIDE);
    context.fillText(caption, left, SIDE + GAP + 27, SIDE);
  });
  return new Promise((done) => { sheet.toBlob(done, 'image/png'); });
}

/** Saves a file where the browser saves downloads. */
export function download(name, blob) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Gives a picture and a link to another program. Without `navigator.share` there is no button for it. */
export async function pass(picture, link) {
  const files = [new File([picture], 'rowscan.png', { type: 'image/png' })];
  const data = navigator.canShare?.({ files }) ? { files, url: link, title: 'rowscan' } : { url: link, title: 'rowscan' };
  try {
    await navigator.share(data);
  } catch (error) {
    if (error.name !== 'AbortError') throw error; // closed by the user
  }
}
