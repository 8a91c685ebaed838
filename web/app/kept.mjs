// The run that this browser keeps: a checkpoint with its curves, and the images that it is on.
import { unzip, zip } from 'rowscan';
import { forget, recall, store } from './storage.mjs';

const [RUN, IMAGES] = ['run.zip', 'images.zip'];

/** The archive of a run: a checkpoint folder, which the command line reads, and the curves. */
export async function archive(model, training, curves) {
  const text = new TextEncoder().encode(JSON.stringify(curves));
  return zip(`${model.config.name}-${training.steps}`, [...(await training.save()), { name: 'losses.json', bytes: text }]);
}

/** What an archive or a folder holds besides the checkpoint: { losses, probes }. */
export function curves(files) {
  const bytes = files.find(({ name }) => name === 'losses.json')?.bytes;
  if (!bytes) return { losses: [], probes: [] };
  const found = JSON.parse(new TextDecoder().decode(bytes));
  return Array.isArray(found) ? { losses: found, probes: [] } : found;
}

/** Keeps a run. */
export const keep = (blob) => store(RUN, blob);

/** Keeps the images of a run, pixels by pixels, or forgets those kept if there are none. */
export async function keepImages(images) {
  if (!images) return forget(IMAGES);
  return store(IMAGES, zip('images', images.map(({ data, width, height }, i) => ({ name: `${i}-${width}x${height}.rgb`, bytes: data }))));
}

/** The files of the kept run and its images, or `null`. */
export async function kept() {
  const [run, images] = [await recall(RUN), await recall(IMAGES)];
  if (!run) return null;
  const pixels = images && (await unzip(images)).map(({ name, bytes }) => {
    const [, width, height] = /-(\d+)x(\d+)\.rgb$/.exec(name);
    return { data: bytes, width: Number(width), height: Number(height) };
  });
  return { files: await unzip(run), images: pixels };
}
