// The files of a checkpoint: fetched from a folder, or in a zip, which unpacks to a folder that the command line reads.

/** @typedef {{ name: string, bytes: Uint8Array }} CheckpointFile a file, its name without folders */

/** @typedef {string | URL | Blob | Iterable<File | CheckpointFile>} CheckpointSource */

/**
 * @typedef {object} Progress
 * @property {string} file the file that is being loaded
 * @property {number} loaded bytes of it that are here
 * @property {number} [total] its size, where the server says it
 */

/**
 * Whether a file may belong to a checkpoint.
 * @param {string} name
 */
const known = (name) => name.endsWith('.safetensors') || ['config.json', 'state.json', 'losses.json', 'classes.json'].includes(name);

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/**
 * The checksum that the zip format requires.
 * @param {Uint8Array} bytes
 */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * Packs files into a zip without compression, where they lie in `folder`.
 *
 * @param {string} folder
 * @param {CheckpointFile[]} files
 * @returns {Blob}
 */
export function zip(folder, files) {
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {(Uint8Array<ArrayBuffer> | DataView<ArrayBuffer>)[]} */
  const central = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(`${folder}/${name}`);
    const common = new DataView(new ArrayBuffer(26));
    common.setUint16(0, 20, true); // version needed
    common.setUint16(8, 0x21, true); // the date 1980-01-01
    common.setUint16(6, 0, true);
    common.setUint32(10, crc32(bytes), true);
    common.setUint32(14, bytes.length, true);
    common.setUint32(18, bytes.length, true);
    common.setUint16(22, path.length, true);
    const signature = (/** @type {number} */ value) => { const v = new DataView(new ArrayBuffer(4)); v.setUint32(0, value, true); return v; };
    parts.push(signature(0x04034b50), common, path, new Uint8Array(bytes));
    const tail = new DataView(new ArrayBuffer(14));
    tail.setUint32(10, offset, true);
    central.push(signature(0x02014b50), new Uint8Array([20, 0]), common, tail, path);
    offset += 30 + path.length + bytes.length;
  }
  const size = central.reduce((sum, part) => sum + part.byteLength, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...central, end], { type: 'application/zip' });
}

/**
 * Unpacks a zip.
 *
 * @param {Blob} blob
 * @returns {Promise<CheckpointFile[]>}
 */
export async function unzip(blob) {
  const buffer = await blob.arrayBuffer();
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error('not a whole zip file');
  const files = [];
  let at = view.getUint32(end + 16, true);
  for (let i = view.getUint16(end + 10, true); i > 0; i--) {
    const [method, size, length] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint16(at + 28, true)];
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, length)).split('/').pop() ?? '';
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (name) files.push({ name, bytes: await inflated(name, method, new Uint8Array(buffer, start, size)) });
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

/**
 * @param {string} name
 * @param {number} method of compression
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
async function inflated(name, method, bytes) {
  if (method === 0) return bytes;
  if (method !== 8) throw new Error(`${name} in the zip file is compressed by method ${method}: unpack it and take the folder`);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * The files of a checkpoint among `files`, or in a zip that is the only one of them; `null` if there is no checkpoint.
 *
 * @param {Iterable<File | CheckpointFile>} files
 * @returns {Promise<CheckpointFile[] | null>}
 */
export async function checkpoint(files) {
  const all = [...files];
  const [only] = all;
  if (all.length === 1 && only instanceof Blob && only.name.endsWith('.zip')) return unzip(only);
  const found = all.filter((file) => known(file.name));
  if (!found.some((file) => file.name === 'model.safetensors' || file.name === 'config.json')) return null;
  return Promise.all(found.map(async (file) => (file instanceof Blob ? { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) } : file)));
}

/**
 * The files of a checkpoint from wherever it is.
 *
 * @param {CheckpointSource} source
 * @param {{ progress?: (progress: Progress) => void, signal?: AbortSignal }} options
 * @returns {Promise<CheckpointFile[]>}
 */
export async function opened(source, options) {
  if (source instanceof Blob) return unzip(source);
  if (typeof source !== 'string' && !(source instanceof URL)) {
    const found = await checkpoint(source);
    if (!found) throw new Error('no checkpoint: neither config.json nor model.safetensors is among the files');
    return found;
  }
  const address = new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (address.pathname.endsWith('.zip')) return unzip(new Blob([await fetched(address, options)]));
  if (!address.pathname.endsWith('/')) address.pathname += '/';
  return Promise.all(['config.json', 'model.safetensors'].map(async (name) => ({ name, bytes: await fetched(new URL(name, address), options) })));
}

/**
 * @param {URL} address
 * @param {{ progress?: (progress: Progress) => void, signal?: AbortSignal }} options
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function fetched(address, { progress, signal }) {
  const answer = await fetch(address, { signal });
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  const file = address.pathname.split('/').pop() ?? '';
  if (!progress || !answer.body) return new Uint8Array(await answer.arrayBuffer());
  // the length of a compressed answer is not that of the file
  const length = answer.headers.get('content-encoding') ? null : answer.headers.get('content-length');
  const total = length === null ? undefined : Number(length);
  let loaded = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.length;
      progress({ file, loaded, total });
      controller.enqueue(chunk);
    },
  });
  progress({ file, loaded, total });
  return new Uint8Array(await new Response(answer.body.pipeThrough(counted)).arrayBuffer());
}

/**
 * The bytes of a file among `files`; `undefined` if it is missing.
 *
 * @param {CheckpointFile[]} files
 * @param {string} name
 */
export const present = (files, name) => files.find((file) => file.name === name)?.bytes;

/**
 * The bytes of a file that has to be among `files`.
 *
 * @param {CheckpointFile[]} files
 * @param {string} name
 */
export function needed(files, name) {
  const bytes = present(files, name);
  if (!bytes) throw new Error(`${name} is missing`);
  return bytes;
}

/**
 * The content of a JSON file among `files`; `undefined` if it is missing.
 *
 * @param {CheckpointFile[]} files
 * @param {string} name
 */
export function json(files, name) {
  const bytes = present(files, name);
  if (!bytes) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new Error(`${name}: ${error instanceof Error ? error.message : error}`);
  }
}
