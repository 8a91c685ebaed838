// A Chromium with the page and WebGPU in software. Without an adapter tests fail; none is skipped.
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from '../serve.mjs';

export const SOFTWARE = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** What a sampled test leaves out depends on this number, which a failed run can be given again. */
export const SEED = Number(process.env.ROWSCAN_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** One in so many of a sampled test's cases runs; ROWSCAN_TEST_SHARE=1 runs all. */
export const SHARE = Number(process.env.ROWSCAN_TEST_SHARE ?? 24);

/** Opens the page, of `server` if that is given, and waits until it is ready. `init` runs in it before its own scripts.
 * `close` throws if the page logged an error. */
export async function open({ site: folder = process.env.SITE, server, path = '', hash = '', flags = SOFTWARE, ready = true, init, ...options } = {}) {
  const site = server ?? await serve(folder);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_PATH,
    args: ['--no-sandbox', '--disable-background-timer-throttling', '--disable-renderer-backgrounding', ...flags],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  if (init) await context.addInitScript(init);
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.setDefaultTimeout(120_000);
  await page.goto(site.url + path + hash);
  if (ready) {
    await page.waitForFunction(() => document.body.dataset.ready === 'true' || !document.getElementById('none').hidden
      || !document.getElementById('notice').hidden);
    const trouble = await page.evaluate(() => (document.body.dataset.ready ? '' : document.getElementById('why').textContent || document.getElementById('notice').textContent));
    if (trouble) throw new Error(`the page did not start: ${trouble} ${complaints.join('; ')}`);
  }
  return {
    page,
    complaints,
    async close() {
      await browser.close();
      site.close();
      if (complaints.length) throw new Error(`the page complained: ${complaints.join('; ')}`);
    },
  };
}

/** Runs `body` with an open page and closes the page, also if `body` throws. */
export async function within(options, body) {
  const opened = await open(options);
  try {
    await body(opened.page, opened);
  } catch (error) {
    opened.complaints.length && console.error(opened.complaints.join('\n'));
    await opened.close().catch(() => {});
    throw error;
  }
  await opened.close();
}

/** The pixels of a canvas as an array of bytes (RGBA). */
export const pixels = (page, id) => page.evaluate((id) => {
  const canvas = document.getElementById(id);
  return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
}, id);

/** Waits until Reconstruct has shown all rows of patches. */
export const settled = (page) => page.waitForFunction(() => {
  const { model } = globalThis.rowscan.modes.reconstruct.state;
  return model && Number(document.getElementById('r-result').dataset.rows) === model.grid;
});

/** Patches on a side of the model that is shown. */
export const gridOf = (page) => page.evaluate(() => globalThis.rowscan.modes.reconstruct.state.model.grid);
/** Saves a screenshot next to the other results, for people to look at. */
export const shoot = (page, name) => page.screenshot({ path: join(process.env.NATIVE, `${name}.png`), fullPage: true });
