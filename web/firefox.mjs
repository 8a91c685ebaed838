// Opens the page in Firefox, as Debian ships it: without WebGPU, which is off there, it has to show a picture and say why;
// with it turned on it has to reconstruct. `node firefox.mjs PAGE`. No driver of Playwright's fits this Firefox, so the
// page itself says what it shows.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from './serve.mjs';

const WAIT = 120_000;
const SAYS = `<script>
  const say = (what) => fetch('said?' + encodeURIComponent(JSON.stringify(what)));
  const trouble = [];
  addEventListener('error', (event) => trouble.push(event.message));
  addEventListener('unhandledrejection', (event) => trouble.push(String(event.reason)));
  const log = console.error;
  console.error = (...words) => { trouble.push(words.join(' ')); log(...words); };
  const text = (id) => document.getElementById(id).textContent;
  setInterval(() => say({
    agent: navigator.userAgent, gpu: Boolean(navigator.gpu), why: text('why'), notice: text('notice'), facts: text('r-facts'),
    still: document.querySelector('#none img').naturalWidth, trouble, rows: Number(document.getElementById('r-result').dataset.rows),
  }), 1000);
</script></body>`;

/** What the page shows in a fresh profile with these preferences, when `enough` of it is there. */
async function shown(page, preferences, enough) {
  const folder = mkdtempSync(join(tmpdir(), 'rowscan-firefox-'));
  const [site, profile] = ['site', 'profile'].map((name) => join(folder, name));
  cpSync(page, site, { recursive: true });
  const index = join(site, 'index.html');
  writeFileSync(index, readFileSync(index, 'utf8').replace('</body>', SAYS));
  cpSync(join(page, 'icon.svg'), join(profile, 'empty'));
  writeFileSync(join(profile, 'user.js'), Object.entries(preferences).map(([name, value]) => `user_pref("${name}", ${value});\n`).join(''));
  let last = {};
  let heard;
  const done = new Promise((good) => { heard = (text) => { last = JSON.parse(text); if (enough(last)) good(); }; });
  const server = await serve(site, 0, (text) => heard(text));
  const browser = spawn('firefox-esr', ['--headless', '--no-remote', '--profile', profile, server.url], { stdio: 'ignore' });
  const failed = new Promise((_, bad) => { browser.on('error', bad); });
  const late = new Promise((good) => { setTimeout(good, WAIT).unref(); });
  await Promise.race([done, failed, late]);
  browser.kill();
  await new Promise((ended) => { browser.on('exit', ended); });
  server.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  return last;
}

const page = process.argv[2];
const off = await shown(page, { 'dom.webgpu.enabled': false }, ({ why, still }) => why && still);
console.log(off.agent);
assert.equal(off.gpu, false);
assert.ok(off.why.length > 20 && off.still > 100, JSON.stringify(off));
console.log(`without WebGPU: a still picture, and "${off.why}"`);
const on = await shown(page, { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true }, ({ rows, notice, why }) => rows === 8 || notice || why);
assert.equal(on.rows, 8, JSON.stringify(on));
assert.deepEqual(on.trouble, []);
console.log(`with WebGPU turned on: ${on.facts.replace(/(\d)([a-z])/g, '$1 $2')}`);
process.exit(0);
