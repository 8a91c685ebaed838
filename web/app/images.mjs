// Images from the samples of the page, from the camera and from drops.

/** The samples that ship with the page, each fetched when it is asked for. */
export class Samples {
  /** [{ id, file, title, by, license }], of generated images without the last two. */
  list = fetch('assets/samples/list.json').then((answer) => answer.json());
  #images = new Map();

  /** A sample and its `image`. */
  async get(id) {
    const sample = (await this.list).find((sample) => sample.id === id);
    if (!this.#images.has(id)) {
      this.#images.set(id, fetch(`assets/samples/${sample.file}`).then((answer) => answer.blob()).then((blob) => createImageBitmap(blob)));
    }
    return { ...sample, image: await this.#images.get(id) };
  }
}

/** The text of an image, small enough for an address: a JPEG of about three kilobytes. */
export async function embedded(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext('2d').putImageData(image, 0, 0);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.85 })).arrayBuffer());
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** The image of such a text. */
export async function reopened(text) {
  try {
    const letters = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
    return await createImageBitmap(new Blob([Uint8Array.from(letters, (letter) => letter.charCodeAt(0))]));
  } catch {
    throw new Error('the image in this link is not whole: ask for the link again');
  }
}

/** Decodes an image file. The error names the file. */
export async function decode(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || 'the file'} is no image that this browser reads`);
  }
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
