// The compiled module and the GPU device. Both are opened once and shared by all models.
import init, { Device as RawDevice } from './bindings/rowscan_web.js';

/** @typedef {RequestInfo | URL | Response | BufferSource | WebAssembly.Module} Wasm */

/**
 * @typedef {object} OpenOptions
 * @property {Wasm | Promise<Wasm>} [wasm] The compiled module, or where it is. Without it the file beside this script: `new URL('bindings/rowscan_web_bg.wasm', import.meta.url)`. Read once.
 */

/** WebGPU's entry, of a page and of a worker alike. */
const gpu = () => /** @type {any} */ (globalThis.navigator)?.gpu;

/**
 * Why WebGPU cannot be used here, as a sentence for a person; `null` if it can.
 * @returns {Promise<string | null>}
 */
export async function unavailable() {
  if (!gpu()) return globalThis.isSecureContext
    ? 'The browser does not offer WebGPU at all.'
    : 'WebGPU needs a secure page: https, or localhost.';
  if (!(await gpu().requestAdapter())) return 'The browser offers WebGPU, but no adapter: the graphics driver may be blocked or too old.';
  return null;
}

/** @type {Promise<unknown> | undefined} */
let module;
/** The device that models share, and the promise of it. @type {Device | undefined} */
let current;
/** @type {Promise<Device> | undefined} */
let opening;

/** An open GPU device. Most programs need none of this: models open and share one. */
export class Device {
  /** The bindings' device. */
  raw;
  /** What the browser says of the adapter. */
  name;
  /** Whether the adapter is a CPU. */
  software;
  /** Whether it was lost: nothing runs on it any more. */
  lost = false;

  /**
   * @param {RawDevice} raw
   * @param {string} name
   * @param {boolean} software
   */
  constructor(raw, name, software) {
    this.raw = raw;
    this.name = name;
    this.software = software;
  }

  /**
   * Compiles the module, unless it is.
   * @param {OpenOptions} [options]
   */
  static async ready({ wasm } = {}) {
    module ??= init(wasm === undefined ? undefined : { module_or_path: wasm });
    try {
      await module;
    } catch (error) {
      module = undefined; // the next call may find the file
      throw error;
    }
  }

  /**
   * The device that all models share. After it was lost, a new one: models on the old one are gone and have to be
   * loaded again.
   * @param {OpenOptions} [options]
   * @returns {Promise<Device>}
   */
  static shared(options) {
    if (current?.lost) current = opening = undefined;
    opening ??= Device.open(options).then((device) => (current = device), (error) => {
      opening = undefined;
      throw error;
    });
    return opening;
  }

  /**
   * Opens another device.
   * @param {OpenOptions} [options]
   */
  static async open(options) {
    const why = await unavailable();
    if (why) throw Object.assign(new Error(why), { name: 'NoAdapter' });
    await Device.ready(options);
    const adapter = await gpu().requestAdapter();
    const { vendor = '', architecture = '', description = '', isFallbackAdapter = false } = adapter?.info ?? {};
    const software = isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${description}`);
    const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'WebGPU adapter';
    return new Device(await RawDevice.open(software), name, software);
  }

  /** Bytes of GPU memory in use. */
  get bytes() {
    return this.raw.bytes();
  }

  /** Destroys the device, as the reset of a driver does. What runs on it fails with an error named `DeviceLost`. */
  destroy() {
    this.raw.destroy();
  }
}

/**
 * Runs `work`, which uses `device`, and notices if that was lost.
 *
 * @template T
 * @param {Device} device
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function watched(device, work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && error.name === 'DeviceLost') device.lost = true;
    throw error;
  }
}

/**
 * Runs work on `device` piece by piece, in the order in which it was asked for: the module runs one call at a time.
 *
 * @param {Device} device
 */
export function turns(device) {
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();
  /**
   * @template T
   * @param {() => T | Promise<T>} work
   * @returns {Promise<T>}
   */
  return (work) => {
    const turn = last.then(() => watched(device, work));
    last = turn.catch(() => {});
    return turn;
  };
}
