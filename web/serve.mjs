// Serves a folder on 127.0.0.1: `node serve.mjs FOLDER [PORT]`. The tests import it. `hear` gets what a page says by
// asking for `/said?…`.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve } from 'node:path';

const TYPES = {
  '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript',
  '.json': 'application/json', '.wasm': 'application/wasm', '.png': 'image/png', '.jpg': 'image/jpeg', '.webp': 'image/webp', '.svg': 'image/svg+xml',
};

export function serve(folder, port = 0, hear) {
  const root = resolve(folder);
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    let file = join(root, path);
    if (hear && path === '/said') {
      hear(decodeURIComponent(new URL(request.url, 'http://localhost').search.slice(1)));
      response.writeHead(204).end();
      return;
    }
    try {
      if (!file.startsWith(root)) throw new Error('outside');
      if (statSync(file).isDirectory()) file = join(file, 'index.html');
      const { size } = statSync(file);
      const type = TYPES[extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-length': size, 'cache-control': 'no-cache' });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404).end('not found');
    }
  });
  return new Promise((ready, failed) => {
    server.on('error', failed);
    server.listen(port, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() }));
  });
}

if (process.argv[1] && import.meta.url.endsWith('/serve.mjs') && process.argv[1].endsWith('serve.mjs')) {
  const { url } = await serve(process.argv[2] ?? '.', Number(process.argv[3] ?? 0));
  console.log(`the page is at ${url} (Ctrl-C ends)`);
}
