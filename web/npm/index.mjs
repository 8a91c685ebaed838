// The package: what it exports, and the ways in: `Rowscan.load`, `Rowscan.create` and `Rowscan.segmenter`.
import { Solids as RawSolids } from './bindings/rowscan_web.js';
import { Device, unavailable } from './device.mjs';
import { checkpoint, unzip, zip } from './files.mjs';
import { whole as pixels } from './images.mjs';
import { Model } from './model.mjs';
import { Scenes, Segmenter } from './segment.mjs';
import { Training } from './training.mjs';

/** Generated point clouds: solids that no model was trained on, four of each kind. */
class Solids {
  /** @type {RawSolids} */
  #raw = new RawSolids();

  /** The kinds by name. Solid i is of kind i mod their number. */
  get kinds() {
    return this.#raw.kinds;
  }

  /**
   * (N, 3): the points of a solid.
   * @param {number} index
   */
  points(index) {
    return this.#raw.points(index);
  }
}

export const Rowscan = {
  /**
   * Loads a model: `config.json` and `model.safetensors`, as `rowscan pretrain` and `rowscan export` write them. If
   * `optimizer.safetensors` and `state.json` are among given files, training goes on where it stood.
   *
   * @param {import('./files.mjs').CheckpointSource} source the address of the folder or of a zip of it, a zip as a
   *   Blob, or the files
   * @param {import('./model.mjs').LoadOptions} [options]
   */
  load: (source, options) => Model.load(source, options),

  /**
   * A model with random weights, to train.
   *
   * @param {string | object} config the name of a preset such as `micro`, or what a `config.json` holds
   * @param {import('./model.mjs').CreateOptions} [options]
   */
  create: (config, options) => Model.create(config, options),

  /**
   * AdamW's rate in training, unless given: 0.004 for networks of up to 64 channels, of wider ones less.
   *
   * @param {string | object} config as for `create`
   * @param {import('./device.mjs').OpenOptions} [options]
   * @returns {Promise<number>}
   */
  learningRate: (config, options) => Model.learningRate(config, options),

  /**
   * Loads a segmentation network, as `rowscan segment` trains it.
   *
   * @param {import('./files.mjs').CheckpointSource} source as for `load`
   * @param {import('./model.mjs').LoadOptions} [options]
   */
  segmenter: (source, options) => Segmenter.load(source, options),

  /** Why WebGPU cannot be used here, as a sentence for a person; `null` if it can. */
  unavailable,

  /**
   * Generated point clouds, for models of point clouds.
   *
   * @param {import('./device.mjs').OpenOptions} [options]
   */
  async solids(options) {
    await Device.ready(options);
    return new Solids();
  },

  /**
   * Generated scenes, for segmentation networks.
   *
   * @param {import('./device.mjs').OpenOptions} [options]
   */
  async scenes(options) {
    await Device.ready(options);
    return new Scenes();
  },
};

export { Device, Model, Scenes, Segmenter, Solids, Training, checkpoint, pixels, unavailable, unzip, zip };
