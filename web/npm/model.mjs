// A model: reconstruction, features and attention of images, and training.
import { Model as RawModel, learningRate, preset } from './bindings/rowscan_web.js';
import { Device, turns, watched } from './device.mjs';
import { json, needed, opened, present } from './files.mjs';
import { imageData, square } from './images.mjs';
import { Training, unpacked } from './training.mjs';

/**
 * @typedef {import('./device.mjs').OpenOptions & {
 *   device?: Device,
 *   progress?: (progress: import('./files.mjs').Progress) => void,
 *   signal?: AbortSignal,
 * }} LoadOptions
 */

/**
 * @typedef {import('./device.mjs').OpenOptions & {
 *   device?: Device,
 *   imageSize?: number,
 *   patchSize?: number,
 *   seed?: number,
 * }} CreateOptions The sizes are for presets: 64 pixels in patches of 8 unless given.
 */

/**
 * What is hidden.
 * @typedef {object} MaskOptions
 * @property {number} [maskRatio] share of hidden patches, 0.5 unless given
 * @property {number} [seed] of the draw; the command line draws the same mask from the same seed
 * @property {'random' | 'sequential' | 'diagonal'} [strategy]
 * @property {ArrayLike<number>} [mask] (L): 1 for a hidden patch, in place of a draw
 */

/** @typedef {'map' | 'ar' | 'mae' | 'local-mae'} DecoderMask what a predicted patch may look at */

/**
 * @typedef {object} Reconstruction
 * @property {ImageData} original the image as the model sees it
 * @property {ImageData} masked the same with predicted patches gray
 * @property {ImageData} reconstruction the same with predictions in these places
 * @property {Float32Array} mask (L): 1 for a hidden patch
 * @property {Float32Array} predicted (L): 1 for each patch that is predicted, which some methods do whatever is hidden
 * @property {Float32Array} errors (L): the mean squared error of each predicted patch, 0 for the others
 * @property {Float32Array} predictions (L, P·P·3): in units of the target
 * @property {number} loss the mean of the errors
 */

/**
 * The text of a `config.json`.
 * @param {string | object} config
 */
const configuration = (config, side = 64, patch = 8) => (typeof config === 'string' ? preset(config, side, patch) : JSON.stringify(config));

/** A model on the GPU. */
export class Model {
  #device;
  #raw;
  /** @type {import('./files.mjs').CheckpointFile[]} */
  #files;
  #inTurn;

  /**
   * @param {Device} device
   * @param {RawModel} raw
   * @param {import('./files.mjs').CheckpointFile[]} files
   */
  constructor(device, raw, files) {
    this.#device = device;
    this.#raw = raw;
    this.#inTurn = turns(device);
    this.#files = files;
  }

  /**
   * @param {import('./files.mjs').CheckpointSource} source
   * @param {LoadOptions} [options]
   */
  static async load(source, { device, progress, signal, wasm } = {}) {
    const [files, on] = await Promise.all([opened(source, { progress, signal }), device ?? Device.shared({ wasm })]);
    return new Model(on, await watched(on, () => loaded(on, files)), files);
  }

  /**
   * @param {string | object} config
   * @param {CreateOptions} [options]
   */
  static async create(config, { device, wasm, imageSize = 64, patchSize = 8, seed = 0 } = {}) {
    const on = await (device ?? Device.shared({ wasm }));
    const raw = await watched(on, () => RawModel.random(on.raw, configuration(config, imageSize, patchSize), seed));
    return new Model(on, raw, unpacked(raw.save()));
  }

  /**
   * @param {string | object} config
   * @param {import('./device.mjs').OpenOptions} [options]
   */
  static async learningRate(config, options) {
    await Device.ready(options);
    return learningRate(configuration(config));
  }

  /** Where it computes. */
  get device() {
    return this.#device;
  }

  /** Side of the square images in pixels. */
  get side() {
    return this.#raw.side;
  }

  /** Patches along a side. */
  get grid() {
    return this.#raw.grid;
  }

  /** Number of weights. */
  get parameters() {
    return this.#raw.parameters;
  }

  /** The method that pretrained it, such as `map`. */
  get method() {
    return this.#raw.method;
  }

  /**
   * What its `config.json` holds.
   * @returns {any}
   */
  get config() {
    return JSON.parse(this.#raw.config);
  }

  /**
   * What its weights file says of itself, such as license and training command.
   * @returns {Record<string, string>}
   */
  get metadata() {
    return JSON.parse(this.#raw.metadata);
  }

  /** Blocks of the decoder. */
  get blocks() {
    return this.#raw.blocks;
  }

  /** Attention heads of a block of the decoder. */
  get heads() {
    return this.#raw.heads;
  }

  /** Points of a patch; 0 for a model of images. */
  get groupSize() {
    return this.#raw.groupSize;
  }

  /** The files of a checkpoint: the weights, and where training stands if it was trained here. */
  get files() {
    return this.#files;
  }

  /**
   * (L): the mask that the options draw, 1 for a hidden patch.
   * @param {MaskOptions} [options]
   */
  mask({ maskRatio = 0.5, seed = 0, strategy = 'random', mask } = {}) {
    return mask ? Float32Array.from(mask) : this.#raw.mask(strategy, maskRatio, seed);
  }

  /**
   * Hides patches of an image and predicts them.
   *
   * @param {import('./images.mjs').ImageSource} image
   * @param {MaskOptions & { decoder?: DecoderMask }} [options] `decoder`: another mask of the decoder than the one that
   *   the model was trained with
   * @returns {Promise<Reconstruction>}
   */
  async reconstruct(image, options = {}) {
    return this.#pixels(image, async (raw, pixels) => {
      const mask = this.mask(options);
      const { decoder } = options;
      const made = await (decoder ? raw.under(decoder, pixels, mask) : raw.reconstruct(pixels, mask));
      const { predicted, errors, predictions, loss } = made;
      const picture = (/** @type {Uint8Array} */ rgb) => imageData(rgb, raw.side);
      const [masked, reconstruction] = [picture(made.masked), picture(made.reconstruction)];
      made.free();
      return { original: picture(pixels), masked, reconstruction, mask, predicted, errors, predictions, loss };
    });
  }

  /**
   * What the encoder makes of a whole image: (D), the mean of its patch tokens, as `rowscan features` writes them; or
   * the tokens of all patches (L, D).
   *
   * @param {import('./images.mjs').ImageSource} image
   * @param {{ patches?: boolean }} [options]
   * @returns {Promise<Float32Array>}
   */
  async features(image, { patches = false } = {}) {
    return this.#pixels(image, (raw, pixels) => (patches ? raw.patchFeatures(pixels) : raw.features(pixels)));
  }

  /**
   * The attention weights of MAP's decoder while it reconstructs: (blocks, heads, L, L). A row is a patch that looks, a
   * column one that it looks at.
   *
   * @param {import('./images.mjs').ImageSource} image
   * @param {MaskOptions} [options]
   * @returns {Promise<Float32Array>}
   */
  async attention(image, options = {}) {
    return this.#pixels(image, (raw, pixels) => raw.attention(pixels, this.mask(options)));
  }

  /** Mamba layers of the encoder, for `scan`. */
  get scanLayers() {
    return this.#raw.scanLayers;
  }

  /**
   * The state of a Mamba layer of the encoder along the path of its scan over a whole image. `size` (S, L) is how large
   * it is after each patch, in each of the S directions; `left` (S, L, L) how much of what the patch of the row wrote
   * into it is left after the patch of the column.
   *
   * @param {import('./images.mjs').ImageSource} image
   * @param {{ layer?: number }} [options]
   */
  async scan(image, { layer = 0 } = {}) {
    return this.#pixels(image, async (raw, pixels) => {
      const states = await raw.scan(pixels, layer);
      const { directions, size, left } = states;
      states.free();
      return { directions, size, left };
    });
  }

  /**
   * (L, L): 1 where the patch of the row may look at the patch of the column.
   * @param {DecoderMask} decoder
   */
  seen(decoder) {
    return this.#raw.seen(decoder);
  }

  /**
   * Hides patches of a point cloud (N, 3) and rebuilds them; for a model of point clouds.
   *
   * @param {Float32Array} points
   * @param {{ maskRatio?: number, seed?: number }} [options]
   */
  async rebuild(points, { maskRatio = 0.5, seed = 0 } = {}) {
    return this.#turn(async (raw) => {
      const made = await raw.rebuild(points, maskRatio, seed);
      const { original, visible, rebuilt, loss } = made;
      made.free();
      return { original, visible, rebuilt, loss };
    });
  }

  /**
   * A pretraining run from this model's weights, driven step by step. The model itself does not change: `adopt` takes
   * over what was learned. If the model was trained before on the same images, the run goes on exactly where that
   * ended.
   *
   * @param {Iterable<import('./images.mjs').ImageSource> | string} images at least two of your own, or `synthetic:N`
   *   for N generated ones
   * @param {import('./training.mjs').TrainingOptions} [options]
   */
  async training(images, options) {
    return Training.start(this, this.#raw, images, options);
  }

  /**
   * Takes over weights and state of a run.
   * @param {Training} training
   */
  async adopt(training) {
    const files = await training.save();
    await this.#turn(() => {
      const raw = loaded(this.#device, files);
      this.#raw.free();
      [this.#raw, this.#files] = [raw, files];
    });
  }

  /**
   * Pretrains the model on images. Resolves when the steps are done, or soon after `signal` aborts: what was learned by
   * then stays.
   *
   * @param {Iterable<import('./images.mjs').ImageSource> | string} images as for `training`
   * @param {import('./training.mjs').TrainingOptions & import('./training.mjs').RunOptions} [options]
   * @returns {Promise<{ steps: number, losses: number[] }>} all steps of its life, and the losses of this call
   */
  async train(images, options = {}) {
    const training = await this.training(images, options);
    try {
      const losses = await training.run(options);
      await this.adopt(training);
      return { steps: training.steps, losses };
    } finally {
      training.dispose();
    }
  }

  /** Frees what it holds on the GPU, once it has done what it was asked for. */
  dispose() {
    return this.#turn((raw) => raw.free());
  }

  /**
   * Runs `work` on the pixels of an image, which is read meanwhile, after all work asked for before.
   *
   * @template T
   * @param {import('./images.mjs').ImageSource} image
   * @param {(raw: RawModel, pixels: Uint8Array) => T | Promise<T>} work
   * @returns {Promise<T>}
   */
  #pixels(image, work) {
    const pixels = square(image, this.side);
    pixels.catch(() => {}); // an error is for the one who waits, not for the console
    return this.#turn(async (raw) => work(raw, await pixels));
  }

  /**
   * Runs `work` after all work asked for before.
   *
   * @template T
   * @param {(raw: RawModel) => T | Promise<T>} work
   * @returns {Promise<T>}
   */
  #turn(work) {
    return this.#inTurn(() => work(this.#raw));
  }
}

/**
 * @param {Device} device
 * @param {import('./files.mjs').CheckpointFile[]} files
 */
function loaded(device, files) {
  json(files, 'state.json');
  return RawModel.load(device.raw, needed(files, 'config.json'), needed(files, 'model.safetensors'), present(files, 'state.json'));
}
