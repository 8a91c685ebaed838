// Makes of the built page a folder that any static host serves: `node release.mjs PAGE FOLDER`.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

/** Most bytes that a visitor loads at first: page, module, samples and the first model of images, as a host stores them. */
const BUDGET = 3 << 20;

const [page, folder] = process.argv.slice(2);
const within = (inner, outer) => !relative(outer, inner).startsWith('..');
if (within(page, folder) || within(folder, page)) {
  console.error(`error: ${folder} is, holds or lies in ${page}, where the page is built; name another folder`);
  process.exit(1);
}
if (existsSync(folder) && readdirSync(folder).length && !existsSync(join(folder, 'sw.js'))) {
  console.error(`error: ${folder} holds other files; name an empty folder, or one that this wrote before`);
  process.exit(1);
}
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
cpSync(page, folder, { recursive: true });

// of the samples only those that the page shows: others are for tests and examples
const samples = join(folder, 'assets/samples');
const listed = JSON.parse(readFileSync(join(samples, 'list.json'))).map(({ file }) => file);
for (const file of readdirSync(samples)) if (file !== 'list.json' && !listed.includes(file)) rmSync(join(samples, file));

const models = JSON.parse(readFileSync(join(folder, 'assets/models.json')));
const later = [...models.images.slice(1), ...models.clouds, ...models.scenes].map((model) => `assets/${model.folder}/`);
const files = readdirSync(folder, { recursive: true }).filter((file) => statSync(join(folder, file)).isFile())
  .map((file) => relative('.', file).replaceAll('\\', '/')).filter((file) => file !== 'sw.js').sort();
const kept = files.filter((file) => !later.some((start) => file.startsWith(start)));

const hash = createHash('sha256');
let [size, sent] = [0, 0];
for (const file of kept) {
  const bytes = readFileSync(join(folder, file));
  hash.update(file).update(bytes);
  size += bytes.length;
  sent += gzipSync(bytes).length;
}

/** Replaces a text that stands in a file once. */
function put(file, from, to) {
  const text = readFileSync(join(folder, file), 'utf8');
  if (text.split(from).length !== 2) throw new Error(`${file}: expected to find ${from} once`);
  writeFileSync(join(folder, file), text.replace(from, () => to));
}
put('sw.js', 'rowscan VERSION', `rowscan ${hash.digest('hex').slice(0, 12)}`);
put('sw.js', 'const FILES = [];', `const FILES = ${JSON.stringify(kept.map((file) => (file === 'index.html' ? './' : file)))};`);
put('index.html', '<html lang="en">', '<html lang="en" data-offline>');

const kB = (bytes) => `${Math.round(bytes / 1000)} kB`;
console.log(`${folder}: ${files.length + 1} files; a visitor loads ${kB(size)} at first, ${kB(sent)} from a host that compresses`);
if (size > BUDGET) {
  console.error(`error: ${kB(BUDGET)} are allowed`);
  process.exit(1);
}
