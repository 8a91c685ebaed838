// A segmentation network: the class of each pixel of an image. And generated scenes, whose classes are known.
import { Scenes as RawScenes, Segmenter as RawSegmenter, cover } from './bindings/rowscan_web.js';
import { Device, turns, watched } from './device.mjs';
import { needed, opened, present } from './files.mjs';
import { imageData, whole } from './images.mjs';

/** Pixels that the shorter side of an image is reduced to, at most, unless a network's windows are larger. */
const SHORT = 256;

/**
 * A class of pixels: its name, and its color, RGB, as `rowscan predict` draws it.
 * @typedef {{ name: string, color: [number, number, number] }} PixelClass
 */

/**
 * @typedef {object} SegmentOptions
 * @property {Uint16Array} [truth] (height, width): the class of each pixel, 65535 where it is not known
 * @property {number} [short] pixels that the shorter side is reduced to, at most: 256, or twice the window if that is
 *   more, unless given
 */

/**
 * How much of an image is right, 0 to 1.
 * @typedef {object} SegmentationScores
 * @property {number} accuracy share of the pixels
 * @property {number} miou mean intersection over union of the classes of the image
 * @property {Float64Array} iou (K): that of each class, NaN of those that are neither there nor seen
 */

/**
 * The classes of an image.
 * @typedef {object} Segmentation
 * @property {ImageData} image as the network got it
 * @property {Uint16Array} classes (height, width): the class of each pixel
 * @property {Uint32Array} counts (K): pixels of each class
 * @property {SegmentationScores | null} scores if `truth` was given and says anything
 */

/** Generated scenes that no network was trained on. */
export class Scenes {
  /** @type {RawScenes} */
  #raw = new RawScenes();

  /** Number of scenes. */
  get length() {
    return this.#raw.length;
  }

  /** Names of their classes. */
  get classes() {
    return this.#raw.classes;
  }

  /**
   * A scene, and the class of each pixel: 65535 on an outline.
   * @param {number} index
   */
  scene(index) {
    const scene = this.#raw.scene(index);
    const [image, truth] = [imageData(scene.pixels, scene.width, scene.height), scene.truth];
    scene.free();
    return { image, truth };
  }
}

/** A segmentation network on the GPU. */
export class Segmenter {
  #device;
  #raw;
  #files;
  #turn;

  /**
   * @param {Device} device
   * @param {RawSegmenter} raw
   * @param {import('./files.mjs').CheckpointFile[]} files
   */
  constructor(device, raw, files) {
    this.#device = device;
    this.#raw = raw;
    this.#files = files;
    this.#turn = turns(device);
  }

  /**
   * @param {import('./files.mjs').CheckpointSource} source
   * @param {import('./model.mjs').LoadOptions} [options]
   */
  static async load(source, { device, progress, signal, wasm } = {}) {
    const [files, on] = await Promise.all([opened(source, { progress, signal }), device ?? Device.shared({ wasm })]);
    const [config, weights] = [needed(files, 'config.json'), needed(files, 'model.safetensors')];
    const raw = await watched(on, () => RawSegmenter.load(on.raw, config, weights, present(files, 'classes.json')));
    return new Segmenter(on, raw, files);
  }

  /** Where it computes. */
  get device() {
    return this.#device;
  }

  /** Side of a window in pixels, which the shorter side of an image is resized to. */
  get side() {
    return this.#raw.side;
  }

  /** Number of weights. */
  get parameters() {
    return this.#raw.parameters;
  }

  /**
   * The classes; that of a pixel is a position in them.
   * @returns {PixelClass[]}
   */
  get classes() {
    const { classes, colors } = this.#raw;
    return classes.map((name, i) => ({ name, color: [colors[i * 3], colors[i * 3 + 1], colors[i * 3 + 2]] }));
  }

  /** Share of a class's color over an image in the pictures of `rowscan predict`. */
  get cover() {
    return cover();
  }

  /**
   * What its `config.json` holds.
   * @returns {any}
   */
  get config() {
    return JSON.parse(this.#raw.config);
  }

  /**
   * What its weights file says of itself.
   * @returns {Record<string, string>}
   */
  get metadata() {
    return JSON.parse(this.#raw.metadata);
  }

  /** The files that it was loaded from. */
  get files() {
    return this.#files;
  }

  /**
   * The class of each pixel of an image of any size, by windows, as `rowscan predict` sees them.
   *
   * @param {import('./images.mjs').ImageSource} source
   * @param {SegmentOptions} [options]
   * @returns {Promise<Segmentation>}
   */
  async segment(source, { truth, short = Math.max(SHORT, 2 * this.side) } = {}) {
    const read = whole(source, short);
    read.catch(() => {}); // an error is for the one who waits, not for the console
    return this.#turn(async () => {
      const { data, width, height } = await read;
      const pixels = new Uint8Array(data);
      const made = await this.#raw.segment(width, height, pixels, truth);
      const { classes, counts, accuracy, miou, iou } = made;
      made.free();
      const scores = accuracy === undefined || miou === undefined ? null : { accuracy, miou, iou };
      return { image: imageData(pixels, width, height), classes, counts, scores };
    });
  }

  /** Frees what it holds on the GPU, once it has done what it was asked for. */
  dispose() {
    return this.#turn(() => this.#raw.free());
  }
}
