// Keeps the whole page for offline use. `precache.json`, written by the build,
// lists every file with its hash and gives the version of them all. Files of
// different versions never meet: a page and its worker speak one protocol.

const SCOPE = self.registration.scope;
const META = "plume-meta";
const CURRENT = new URL("./current-version", SCOPE).href;
const PENDING = new URL("./pending-version", SCOPE).href;
const PREFIX = `plume-files-${new URL(SCOPE).pathname}-`;

async function version(key) {
  const kept = await (await caches.open(META)).match(key);
  return kept ? kept.text() : null;
}

async function use(newest) {
  const meta = await caches.open(META);
  await meta.put(CURRENT, new Response(newest));
  await meta.delete(PENDING);
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== PREFIX + newest) await caches.delete(name);
  }
}

// Fetches the files of the newest version; tells that version once it is whole.
async function fill() {
  const answer = await fetch(new URL("./precache.json", SCOPE), { cache: "no-store" });
  if (!answer.ok) return null;
  const { version, files } = await answer.json();
  const cache = await caches.open(PREFIX + version);
  const kept = new Set((await cache.keys()).map(({ url }) => url));
  const wanted = files.map(({ path }) => new URL(path, SCOPE).href).filter((url) => !kept.has(url));
  await Promise.all(
    wanted.map(async (url) => {
      const response = await fetch(url, { cache: "no-cache" });
      if (!response.ok) throw new Error(`${url}: ${response.status}`);
      await cache.put(url, response);
    }),
  );
  return version;
}

// A new version waits until a page is opened while no other is.
async function update() {
  const newest = await fill();
  const now = await version(CURRENT);
  if (!newest || newest === now) return;
  if (now === null) await use(newest);
  else await (await caches.open(META)).put(PENDING, new Response(newest));
}

self.addEventListener("install", (event) => {
  event.waitUntil(update().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

const PAGE = new URL("./index.html", SCOPE).href;

async function answer(event, address) {
  const page = address === SCOPE || address === PAGE;
  if (page && event.request.mode === "navigate") {
    const pending = await version(PENDING);
    const pages = await self.clients.matchAll({ type: "window" });
    if (pending && pages.length <= 1) await use(pending);
  }
  const now = await version(CURRENT);
  const kept = now && (await (await caches.open(PREFIX + now)).match(page ? PAGE : address));
  return kept || fetch(event.request);
}

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const address = origin + pathname;
  if (event.request.method !== "GET" || !address.startsWith(SCOPE)) return;
  event.respondWith(answer(event, address));
  // Without a network the version of now stays.
  if (event.request.mode === "navigate") event.waitUntil(update().catch(() => {}));
});
