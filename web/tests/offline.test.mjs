// A released page on a plain static host, under a path of its own, and without a network.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pixels, settled, within } from './harness.mjs';

/** Serves `folder` by Python, as people do. */
async function python(folder) {
  const server = spawn('python3', ['-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', folder]);
  const port = await new Promise((done, failed) => {
    server.on('error', failed);
    server.stdout.on('data', (said) => { const port = /port (\d+)/.exec(said)?.[1]; if (port) done(port); });
  });
  return { url: `http://127.0.0.1:${port}/`, close: () => server.kill() };
}

const web = join(import.meta.dirname, '..');

test('a page is not released onto itself', () => {
  const site = process.env.SITE;
  for (const folder of [site, join(site, 'inner'), join(site, '..')]) {
    const options = { cwd: web, encoding: 'utf8', stdio: 'pipe' };
    assert.throws(() => execFileSync('node', ['release.mjs', site, folder], options), /name another folder/);
    assert.ok(existsSync(join(site, 'index.html')));
  }
});

test('a released page works under a sub-path of a static host, and without a network', async () => {
  const host = join(process.env.NATIVE, 'host');
  rmSync(host, { recursive: true, force: true });
  const said = execFileSync('node', ['release.mjs', process.env.SITE, join(host, 'some/path')], { cwd: web, encoding: 'utf8' });
  console.log(said.trim());
  const server = await python(host);
  await within({ server, path: 'some/path/', reducedMotion: 'reduce' }, async (page) => {
    await settled(page);
    const seen = await pixels(page, 'r-result');
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForFunction(() => navigator.serviceWorker.controller);
    const rebuilt = () => page.waitForFunction(() => document.getElementById('c-rebuilt').dataset.points > 0);
    const [worker] = page.context().serviceWorkers();
    await worker.evaluate(() => {
      globalThis.put = Cache.prototype.put;
      Cache.prototype.put = async () => { throw new DOMException('', 'QuotaExceededError'); };
    });
    const status = await page.evaluate(async () => (await fetch('assets/map_micro/config.json')).status);
    assert.equal(status, 200, 'without room to keep it');
    await worker.evaluate(() => { Cache.prototype.put = globalThis.put; });
    await page.getByRole('tab', { name: 'Clouds' }).click(); // a model that loads when it is wanted is kept then
    await rebuilt();
    await page.getByRole('tab', { name: 'Reconstruct' }).click();
    server.close();
    await page.reload();
    await page.waitForFunction(() => document.body.dataset.ready === 'true');
    await settled(page);
    assert.deepEqual(await pixels(page, 'r-result'), seen);
    await page.getByRole('tab', { name: 'Clouds' }).click();
    await rebuilt();
  });
});
