// A pretraining run.
import { Images, Saved, Training as RawTraining } from './bindings/rowscan_web.js';
import { turns, watched } from './device.mjs';
import { json } from './files.mjs';
import { imageData, whole } from './images.mjs';

/** Steps that are submitted at once: enough that the GPU is never idle, few enough that it stops quickly. */
const IN_FLIGHT = 3;

/**
 * @typedef {object} TrainingOptions
 * @property {number} [batch] images of a step, 8 unless given
 * @property {number} [learningRate] AdamW's, after 20 steps of warm-up; what `Rowscan.learningRate` says unless given
 * @property {number} [maskRatio] share of hidden patches, 0.5 unless given
 * @property {number} [seed] of order, crops and masks
 * @property {boolean} [augment] crops with a fifth or more of an image, half of them mirrored, as `rowscan pretrain` takes
 *   them; without it the whole images. True unless given
 */

/**
 * @typedef {object} RunOptions
 * @property {number} [steps] how many; until `signal` aborts unless given
 * @property {AbortSignal} [signal] ends the run
 * @property {(step: Step) => void} [onStep] called with each loss
 * @property {number} [every] steps between two calls of `onRest`, 10 unless given
 * @property {(training: Training) => unknown} [onRest] called, and waited for, when no step is under way: here pictures,
 *   a save or other settings are in order
 */

/**
 * @typedef {object} Step
 * @property {number} step number of steps done, this one included
 * @property {number} loss
 * @property {number} learningRate of the next step
 * @property {number} imagesPerSecond over the last half second or more; 0 at the beginning
 */

/**
 * Held-out images as the model reconstructs them.
 * @typedef {{ images: { original: ImageData, masked: ImageData, reconstruction: ImageData }[], loss: number }} Shown
 */

/** A pretraining run, which its caller drives. */
export class Training {
  #device;
  #raw;
  #inTurn;

  /**
   * @param {import('./device.mjs').Device} device
   * @param {RawTraining} raw
   */
  constructor(device, raw) {
    this.#device = device;
    this.#raw = raw;
    this.#inTurn = turns(device);
  }

  /**
   * @param {import('./model.mjs').Model} model
   * @param {import('./bindings/rowscan_web.js').Model} raw
   * @param {Iterable<import('./images.mjs').ImageSource> | string} images
   * @param {TrainingOptions} [options]
   */
  static async start(model, raw, images, { batch = 8, learningRate, maskRatio = 0.5, seed = 0, augment = true } = {}) {
    // as large as a crop may need them, and no larger: a photograph of a camera would fill the memory
    const own = typeof images === 'string' ? [] : await Promise.all([...images].map((image) => whole(image, Math.max(256, 2 * model.side))));
    if (typeof images !== 'string' && own.length < 2) throw new Error(`training takes at least two images, got ${own.length}`);
    const data = typeof images === 'string' ? images : `${own.length} own images ${fingerprint(own)}`;
    const held = own.length < 8 ? 1 : Math.min(8, own.length >> 3);
    const fits = own.length ? Math.min(batch, own.length - held) : batch;
    const goingOn = json(model.files, 'state.json')?.settings.data === data;
    const choice = { batch: fits, learningRate, maskRatio, seed, augment, data };
    const given = new Images();
    for (const { width, height, data } of own) given.add(width, height, /** @type {Uint8Array} */ (data));
    const started = await watched(model.device, () => {
      const run = RawTraining.start(raw, JSON.stringify(choice), goingOn, given);
      if (goingOn) goOn(run, model.files);
      return run;
    });
    return new Training(model.device, started);
  }

  /** Steps done. */
  get steps() {
    return this.#raw.steps;
  }

  /** Learning rate of the next step. */
  get learningRate() {
    return this.#raw.lr;
  }

  /** What `adjust` changes. `maskRatio` is NaN where the settings draw it. */
  get settings() {
    return { learningRate: this.#raw.peakLr, maskRatio: this.#raw.maskRatio };
  }

  /** Images of a step. */
  get batch() {
    return this.#raw.batchSize;
  }

  /** Number of weights. */
  get parameters() {
    return this.#raw.parameters;
  }

  /** Side of the square images in pixels. */
  get side() {
    return this.#raw.side;
  }

  /**
   * One step. Resolves to its loss.
   * @returns {Promise<number>}
   */
  step() {
    return this.#turn((raw) => raw.step());
  }

  /**
   * Steps until they are done or `signal` aborts.
   *
   * @param {RunOptions} [options]
   * @returns {Promise<number[]>} the loss of each step
   */
  async run({ steps = Infinity, signal, onStep, every = 10, onRest } = {}) {
    /** @type {Promise<number>[]} */
    const pending = [];
    /** @type {number[]} */
    const losses = [];
    let [submitted, since, done, imagesPerSecond] = [0, performance.now(), 0, 0];
    const collect = async () => {
      const loss = await watched(this.#device, () => /** @type {Promise<number>} */ (pending.shift()));
      losses.push(loss);
      const now = performance.now();
      done++;
      if (now - since > 500) {
        imagesPerSecond = (done * this.batch * 1000) / (now - since);
        [since, done] = [now, 0];
      }
      onStep?.({ step: this.steps - pending.length, loss, learningRate: this.learningRate, imagesPerSecond });
      if (!Number.isFinite(loss)) throw new Error(`the loss of step ${this.steps - pending.length} is ${loss}: lower the learning rate and start with new weights`);
    };
    while (submitted < steps && !signal?.aborted) {
      // in an array, so that it is not waited for here
      const [loss] = await watched(this.#device, () => [this.#raw.step()]);
      loss.catch(() => {}); // an error is for the one who waits, not for the console
      pending.push(loss);
      submitted++;
      if (pending.length >= IN_FLIGHT) await collect();
      if (onRest && submitted < steps && this.steps % every === 0) {
        while (pending.length) await collect();
        await onRest(this);
        [since, done] = [performance.now(), 0];
      }
    }
    while (pending.length) await collect();
    await onRest?.(this);
    return losses;
  }

  /**
   * Changes settings from the next step on.
   * @param {{ learningRate: number, maskRatio: number }} settings
   */
  adjust({ learningRate, maskRatio }) {
    this.#raw.adjust(learningRate, maskRatio);
  }

  /**
   * The held-out images as the model reconstructs them now.
   * @returns {Promise<Shown>}
   */
  pictures() {
    return this.#turn(async (raw) => {
      const shown = await raw.pictures();
      const picture = (/** @type {number} */ i, /** @type {string} */ kind) => imageData(shown.picture(i, kind), raw.side);
      const images = Array.from({ length: shown.length }, (_, i) => (
        { original: picture(i, 'original'), masked: picture(i, 'masked'), reconstruction: picture(i, 'reconstruction') }
      ));
      const { loss } = shown;
      shown.free();
      return { images, loss };
    });
  }

  /**
   * What the features are good for: the share in percent of held-out images whose class a linear classifier tells from
   * them. NaN for own images, whose classes nobody said.
   *
   * @param {{ steps?: number }} [options] steps of the classifier's training
   * @returns {Promise<number>}
   */
  probe({ steps = 100 } = {}) {
    return this.#turn((raw) => raw.probe(steps));
  }

  /**
   * The images of the next step, cropped and mirrored as the network will see them.
   * @returns {ImageData[]}
   */
  batchImages() {
    const [bytes, side] = [this.#raw.batch(), this.side];
    const each = side * side * 3;
    return Array.from({ length: this.batch }, (_, i) => imageData(bytes.subarray(i * each, (i + 1) * each), side));
  }

  /**
   * The files of a checkpoint, which `Rowscan.load` and the command line read.
   * @returns {Promise<import('./files.mjs').CheckpointFile[]>}
   */
  save() {
    return this.#turn(async (raw) => unpacked(await raw.save()));
  }

  /** Frees what it holds on the GPU. */
  dispose() {
    return this.#turn((raw) => raw.free());
  }

  /**
   * @template T
   * @param {(raw: RawTraining) => T | Promise<T>} work
   * @returns {Promise<T>}
   */
  #turn(work) {
    return this.#inTurn(() => work(this.#raw));
  }
}

/**
 * Takes a run to where the files of a checkpoint say. Frees it if they do not fit.
 *
 * @param {RawTraining} raw
 * @param {import('./files.mjs').CheckpointFile[]} checkpoint
 */
function goOn(raw, checkpoint) {
  const files = new Saved();
  for (const { name, bytes } of checkpoint) files.add(name, bytes);
  try {
    raw.load(files);
  } catch (error) {
    raw.free();
    throw error;
  } finally {
    files.free();
  }
}

/**
 * @param {Saved} saved
 * @returns {import('./files.mjs').CheckpointFile[]}
 */
export function unpacked(saved) {
  const files = saved.names.map((name) => ({ name, bytes: saved.bytes(name) }));
  saved.free();
  return files;
}

/**
 * A hash of images, so that a run goes on only with the same ones: FNV-1a, 32 bits.
 * @param {import('./images.mjs').Pixels[]} images
 */
function fingerprint(images) {
  let hash = 0x811c9dc5;
  const eat = (/** @type {number} */ byte) => { hash = Math.imul(hash ^ byte, 0x01000193); };
  for (const { data, width, height } of images) {
    eat(width);
    eat(height);
    for (let i = 0; i < data.length; i++) eat(data[i]);
  }
  return (hash >>> 0).toString(16).padStart(8, '0');
}
