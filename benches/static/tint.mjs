// node tint.mjs PACKAGE FOLDER: puts every .wgsl of FOLDER through Tint, Chrome's shader compiler, and creates its
// pipeline on Dawn's null backend, which needs no adapter. PACKAGE is the folder of npm's `webgpu`.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [from, folder] = process.argv.slice(2);
const { create, globals } = await import(pathToFileURL(join(resolve(from), 'index.js')));
Object.assign(globalThis, globals);
const gpu = create(['backend=null']); // kept: Dawn ends with it
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error('Dawn gives no adapter on its null backend');
const requiredFeatures = ['subgroups'].filter((feature) => adapter.features.has(feature));
if (!requiredFeatures.length) throw new Error('Dawn has no subgroups on its null backend');
const device = await adapter.requestDevice({ requiredFeatures });

/** What Tint says against the shader, or nothing. Its warnings go to `warn`. */
async function refusal(code, entryPoint, warn) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  messages.filter(({ type }) => type === 'warning').forEach(warn);
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint } })
    .catch((error) => error);
  const error = await device.popErrorScope();
  return messages.find(({ type }) => type === 'error') ?? error ?? (pipeline instanceof Error && pipeline);
}

if (!await refusal('not WGSL', 'main', () => {})) throw new Error('Tint accepts what is not WGSL');

const files = readdirSync(folder).filter((file) => file.endsWith('.wgsl')).sort();
const refused = [];
const warnings = new Map();
for (const file of files) {
  const [kernel] = file.split(' ');
  const message = await refusal(readFileSync(join(folder, file), 'utf8'), kernel.split('.').at(-1), ({ message, lineNum }) => {
    warnings.set(`warning: ${message.split('\n')[0]}`, `${file}, line ${lineNum}`);
  });
  if (message) refused.push(`${file}: ${message.lineNum ? `line ${message.lineNum}: ` : ''}${message.message}`);
}
for (const [warning, where] of warnings) console.log(`${warning} (${where})`);
for (const line of refused) console.log(`REFUSED by Tint: ${line.slice(0, 600)}`);
console.log(`${files.length} variants through Tint, ${refused.length} refused`);
process.exit(refused.length || !files.length ? 1 : 0);
