// Images from files, from the camera and from the samples of the page. A model gets their center square, resized.

/** RGB bytes (side, side, 3) of the center square of a picture. */
export async function square(source, side) {
  const [width, height] = [source.videoWidth ?? source.width, source.videoHeight ?? source.height];
  const short = Math.min(width, height);
  const options = { resizeWidth: side, resizeHeight: side, resizeQuality: 'high' };
  const bitmap = await createImageBitmap(source, (width - short) / 2, (height - short) / 2, short, short, short === side ? {} : options);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = '#fff';
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, side, side).data;
  const rgb = new Uint8Array(side * side * 3);
  for (let i = 0, n = side * side; i < n; i++) rgb.set(rgba.subarray(i * 4, i * 4 + 3), i * 3);
  return rgb;
}

/** Decodes an image file. The error names the file. */
export async function decode(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || 'the file'} is no image that this browser reads`);
  }
}

/** The samples that ship with the page. */
export async function samples() {
  const names = await (await fetch('assets/samples/list.json')).json();
  return Promise.all(names.map(async (name) => createImageBitmap(await (await fetch(`assets/samples/${name}`)).blob())));
}

/** Takes one picture with the camera. Resolves to `null` if the user closes the dialog. */
export async function photograph(dialog, video, take, close) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  try {
    video.srcObject = stream;
    await video.play();
    dialog.showModal();
    return await new Promise((done) => {
      take.onclick = () => done(createImageBitmap(video));
      close.onclick = () => done(null);
      dialog.onclose = () => done(null);
    });
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    dialog.close();
  }
}

/** All files of a drop, including those in dropped folders. */
export async function dropped(transfer) {
  const walk = async (entry) => {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const inner of some) found.push(...(await walk(inner)));
    }
    return found;
  };
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(walk))).flat();
}
