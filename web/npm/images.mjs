// Images from whatever a browser has: addresses, files, canvases, videos, pixels. A model gets the center square of an
// image, resized to its side.

/**
 * RGB or RGBA bytes, row by row.
 * @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} Pixels
 */

/** @typedef {string | URL | Blob | ImageBitmapSource | Pixels} ImageSource */

/** Images that are decoded at once: a photograph of a camera takes 50 MB until it is reduced. */
const AT_ONCE = 4;
/** Free places among them, and who waits for one. */
let free = AT_ONCE;
/** @type {((value?: unknown) => void)[]} */
const waiting = [];

/**
 * Gives `work` an image. What was decoded for it is closed afterwards. The error names its file or address.
 *
 * @template T
 * @param {ImageSource} source
 * @param {(image: ImageBitmap | Exclude<ImageBitmapSource, Blob>) => Promise<T>} work
 * @returns {Promise<T>}
 */
async function holding(source, work) {
  if (typeof source === 'string' || source instanceof URL) {
    const answer = await fetch(source);
    if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
    return decoded(await answer.blob(), String(source), work);
  }
  if (source instanceof Blob) return decoded(source, 'name' in source ? String(source.name) : 'the image', work);
  return work(isPixels(source) ? new ImageData(rgba(source), source.width, source.height) : source);
}

/**
 * @template T
 * @param {Blob} blob
 * @param {string} name
 * @param {(image: ImageBitmap) => Promise<T>} work
 * @returns {Promise<T>}
 */
async function decoded(blob, name, work) {
  if (free) free--;
  else await new Promise((go) => waiting.push(go));
  try {
    const image = await createImageBitmap(blob).catch(() => {
      throw new Error(`${name} is no image that this browser reads`);
    });
    return await work(image).finally(() => image.close());
  } finally {
    const next = waiting.shift(); // gets this place
    if (next) next();
    else free++;
  }
}

/**
 * @param {any} source
 * @returns {source is Pixels}
 */
const isPixels = (source) => ArrayBuffer.isView(source?.data);

/** @param {Pixels} pixels */
function channels({ data, width, height }) {
  const each = data.length / (width * height);
  if (each !== 3 && each !== 4) throw new Error(`an image of ${width} × ${height} pixels has 3 or 4 bytes for each, these are ${data.length}`);
  return each;
}

/**
 * @param {Pixels} pixels
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
function rgba(pixels) {
  if (channels(pixels) === 4) return new Uint8ClampedArray(pixels.data);
  const all = new Uint8ClampedArray(pixels.width * pixels.height * 4).fill(255);
  for (let i = 0, n = pixels.width * pixels.height; i < n; i++) all.set(pixels.data.subarray(i * 3, i * 3 + 3), i * 4);
  return all;
}

/**
 * @param {Uint8ClampedArray} rgba
 * @returns {Uint8Array} RGB
 */
function opaque(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let i = 0, n = rgba.length / 4; i < n; i++) rgb.set(rgba.subarray(i * 4, i * 4 + 3), i * 3);
  return rgb;
}

/**
 * @param {any} source
 * @returns {[number, number]} width and height
 */
const size = (source) => [
  source.videoWidth ?? source.naturalWidth ?? source.displayWidth ?? source.width,
  source.videoHeight ?? source.naturalHeight ?? source.displayHeight ?? source.height,
];

/**
 * The RGB bytes (side, side, 3) of the center square of an image, on white where it is transparent. Pixels of that size
 * stay as they are.
 *
 * @param {ImageSource} source
 * @param {number} side
 * @returns {Promise<Uint8Array>}
 */
export async function square(source, side) {
  if (isPixels(source) && source.width === side && source.height === side && channels(source) === 3) return new Uint8Array(source.data);
  const made = await holding(source, (image) => {
    const [width, height] = size(image);
    const short = Math.min(width, height);
    return drawn(image, [(width - short) / 2, (height - short) / 2, short, short], side, side);
  });
  return made.data;
}

/**
 * The RGB pixels of a whole image, reduced until its shorter side has at most `short` pixels.
 *
 * @param {ImageSource} source
 * @param {number} short
 * @returns {Promise<Pixels>}
 */
export function whole(source, short) {
  return holding(source, (image) => {
    const [width, height] = size(image);
    const scale = Math.min(1, short / Math.min(width, height));
    return drawn(image, [0, 0, width, height], Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  });
}

/**
 * @param {ImageBitmapSource} image
 * @param {[number, number, number, number]} box
 * @param {number} width
 * @param {number} height
 */
async function drawn(image, box, width, height) {
  /** @type {ImageBitmapOptions} */
  const options = box[2] === width && box[3] === height ? {} : { resizeWidth: width, resizeHeight: height, resizeQuality: 'high' };
  const bitmap = await createImageBitmap(image, ...box, options);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('the browser gives no canvas to read pixels from');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: opaque(context.getImageData(0, 0, width, height).data), width, height };
}

/**
 * RGB bytes (height, width, 3) as an image for `putImageData`, square unless a height is given.
 *
 * @param {Uint8Array} rgb
 * @param {number} width
 * @param {number} [height]
 */
export function imageData(rgb, width, height = width) {
  return new ImageData(rgba({ data: rgb, width, height }), width, height);
}
