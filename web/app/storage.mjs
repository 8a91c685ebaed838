// Files in the browser's private storage. What is kept there stays in this browser.

async function folder() {
  if (!navigator.storage?.getDirectory) throw new Error('this browser offers no private file system to save to');
  return (await navigator.storage.getDirectory()).getDirectoryHandle('rowscan', { create: true });
}

/** Writes a file. The old file stays until the new one is complete. */
export async function store(name, blob) {
  const file = await (await folder()).getFileHandle(name, { create: true });
  const writer = await file.createWritable();
  await writer.write(blob);
  await writer.close();
}

/** Reads a file, or gives `null` if there is none. */
export async function recall(name) {
  try {
    const file = await (await (await folder()).getFileHandle(name)).getFile();
    return file.size ? file : null;
  } catch (error) {
    if (error.name === 'NotFoundError') return null;
    throw error;
  }
}

/** Deletes a file, if it is there. */
export async function forget(name) {
  await (await folder()).removeEntry(name).catch((error) => { if (error.name !== 'NotFoundError') throw error; });
}
