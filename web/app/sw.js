// The service worker of a released page: keeps its files, so that it opens without a network. `cargo xtask web
// --release` writes what is kept, and a version that changes with it.
/* global self, caches, clients */
const VERSION = 'rowscan VERSION';
const FILES = [];

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  const old = (names) => names.filter((name) => name.startsWith('rowscan ') && name !== VERSION);
  event.waitUntil(caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name)))).then(() => clients.claim()));
});

/** A file from the cache, or else from the network; what came from there is kept: models that were chosen. */
async function answer(event) {
  const { request } = event;
  const cache = await caches.open(VERSION);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return kept;
  const fetched = await fetch(request);
  // without room to keep it, it is still an answer
  if (fetched.ok && fetched.type === 'basic') event.waitUntil(cache.put(request, fetched.clone()).catch(() => {}));
  return fetched;
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && request.url.startsWith(self.registration.scope)) event.respondWith(answer(event));
});
