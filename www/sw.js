// Keeps the whole page for offline use. `precache.json`, written by the build,
// lists every file with its hash and gives the version of them all.

const LIST = "./precache.json";

async function install() {
  const { version, files } = await (await fetch(LIST, { cache: "no-store" })).json();
  const cache = await caches.open(`plume-${version}`);
  const kept = new Set((await cache.keys()).map((request) => request.url));
  const urls = files.map(({ path }) => new URL(path, self.registration.scope).href);
  await cache.addAll(urls.filter((url) => !kept.has(url)));
  await cache.put(new URL("./", self.registration.scope).href, await fetch("./index.html"));
  for (const name of await caches.keys()) {
    if (name.startsWith("plume-") && name !== `plume-${version}`) await caches.delete(name);
  }
}

self.addEventListener("install", (event) => {
  event.waitUntil(install().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The network first for the page itself, so that a new version is seen; what is
// named after its content comes from the cache.
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  event.respondWith(
    (async () => {
      const key = event.request.mode === "navigate" ? new URL("./", self.registration.scope).href : url.href.split("?")[0];
      if (event.request.mode === "navigate") {
        try {
          return await fetch(event.request);
        } catch {
          return (await caches.match(key)) ?? Response.error();
        }
      }
      return (await caches.match(key)) ?? fetch(event.request);
    })(),
  );
});
