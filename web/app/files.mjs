// Checkpoints as files: in a zip without compression, which unpacks to a folder that the command line reads, and in
// the browser's private storage.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** The checksum that the zip format requires. */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Packs files, [{ name, bytes }], into a zip, where they lie in `folder`. */
export function zip(folder, files) {
  const parts = [];
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
    const signature = (value) => { const v = new DataView(new ArrayBuffer(4)); v.setUint32(0, value, true); return v; };
    parts.push(signature(0x04034b50), common, path, bytes);
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

/** Unpacks a zip without compression: [{ name, bytes }], names without folders. */
export async function unzip(blob) {
  const buffer = await blob.arrayBuffer();
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error('not a whole zip file');
  const files = [];
  let at = view.getUint32(end + 16, true);
  for (let i = view.getUint16(end + 10, true); i > 0; i--) {
    const [method, size, length] = [view.getUint16(at + 10, true), view.getUint32(at + 24, true), view.getUint16(at + 28, true)];
    if (method !== 0) throw new Error('a compressed zip file: unpack it and drop the folder');
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, length)).split('/').pop();
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (name) files.push({ name, bytes: new Uint8Array(buffer, start, size) });
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

/** The files of a checkpoint among dropped files, or in a dropped zip: [{ name, bytes }]. `null` if there is none. */
export async function checkpoint(files) {
  const archive = files.find((file) => file.name.endsWith('.zip'));
  if (archive && files.length === 1) return unzip(archive);
  const known = ['config.json', 'model.safetensors', 'optimizer.safetensors', 'state.json'];
  const found = files.filter((file) => known.includes(file.name));
  if (!found.some((file) => file.name === 'model.safetensors' || file.name === 'config.json')) return null;
  return Promise.all(found.map(async (file) => ({ name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) })));
}

async function folder() {
  if (!navigator.storage?.getDirectory) throw new Error('this browser offers no private file system to save to');
  return (await navigator.storage.getDirectory()).getDirectoryHandle('rowscan', { create: true });
}

/** Writes a file to the browser's private storage. The old file stays until the new one is complete. */
export async function store(name, blob) {
  const file = await (await folder()).getFileHandle(name, { create: true });
  const writer = await file.createWritable();
  await writer.write(blob);
  await writer.close();
}

/** Reads a file from the browser's private storage, or gives `null` if there is none. */
export async function recall(name) {
  try {
    const file = await (await (await folder()).getFileHandle(name)).getFile();
    return file.size ? file : null;
  } catch (error) {
    if (error.name === 'NotFoundError') return null;
    throw error;
  }
}

/** The files of a checkpoint that the page brings along: [{ name, bytes }]. */
export async function fetched(folder) {
  const get = async (name) => {
    const answer = await fetch(`${folder}/${name}`);
    if (!answer.ok) throw new Error(`${folder}/${name}: ${answer.status}`);
    return { name, bytes: new Uint8Array(await answer.arrayBuffer()) };
  };
  return Promise.all(['config.json', 'model.safetensors'].map(get));
}
