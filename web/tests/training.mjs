// What the tests of Train have in common. They are several files, because files run side by side.

export const small = async (page) => {
  await page.locator('#t-side').selectOption('32');
  await page.locator('#t-batch').fill('2'); // 2² = 4 images
};
export const steps = (page) => page.evaluate(() => globalThis.rowscan.modes.train.state.training?.steps ?? 0);
export const losses = (page) => page.evaluate(() => globalThis.rowscan.modes.train.state.losses);
export const reached = (page, count) => page.waitForFunction((count) => globalThis.rowscan.modes.train.state.losses.length >= count, count);
export const idle = (page) => page.waitForFunction(() => !globalThis.rowscan.modes.train.state.running && !document.getElementById('t-go').disabled);
export const pause = async (page) => { await page.evaluate(() => globalThis.rowscan.modes.train.pause()); await idle(page); };
/** The losses of the next `count` steps, without pictures in between. */
export const next = (page, count) => page.evaluate(async (count) => {
  const { training } = globalThis.rowscan.modes.train.state;
  const found = [];
  for (let i = 0; i < count; i++) found.push(await training.step());
  return found;
}, count);

export const keptAt = async (page) => Number(await page.evaluate(() => document.getElementById('t-saved').dataset.step));
/** Gives the page files, [{ name, bytes }], as a drop. */
export const drop = (page, files) => page.evaluate((files) => {
  const transfer = new DataTransfer();
  for (const { name, text } of files) transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }));
}, files.map(({ name, bytes }) => ({ name, text: bytes.toString('base64') })));
