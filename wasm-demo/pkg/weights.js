// Reading weights: bytes, a file, or a URL with progress and a cache.

import { MaskRcnnError } from "./errors.js";

const CACHE = "mrcnn-weights";

/** Larger files are refused: a page's memory ends at 4 GB, and reading takes a multiple of the file. */
export const MAX_BYTES = 2 ** 30;

/** Files that the cache keeps; the oldest are removed. */
const MAX_STORED = 4;

/** The response header that stores the SHA-256 of cached weights. */
const HASH = "x-sha256";

/**
 * @param {string | URL | ArrayBuffer | Uint8Array | Blob} source
 * @returns {Promise<{ name: string, bytes: ArrayBuffer }>}
 */
export async function readWeights(source, { name, cache, onProgress }) {
  if (source instanceof ArrayBuffer) return { name: name ?? "weights", bytes: source };
  if (ArrayBuffer.isView(source)) {
    const { buffer, byteOffset, byteLength } = source;
    return { name: name ?? "weights", bytes: buffer.slice(byteOffset, byteOffset + byteLength) };
  }
  if (source instanceof Blob) {
    return { name: name ?? source.name ?? "weights", bytes: await source.arrayBuffer() };
  }
  if (typeof source === "string" || source instanceof URL) {
    const url = new URL(source, globalThis.location?.href);
    const file = fileName(url) || "weights";
    return { name: name ?? file, bytes: await fetchWeights(url.href, cache, onProgress) };
  }
  throw new MaskRcnnError("argument", "the weights have an unsupported type; use a URL, a Blob, an ArrayBuffer or a Uint8Array");
}

async function fetchWeights(url, cache, onProgress) {
  // There is no cache without a secure context (http:// on another machine).
  const store = cache && globalThis.caches ? await caches.open(CACHE).catch(() => null) : null;
  const stored = await store?.match(url);
  if (stored) {
    const bytes = await stored.arrayBuffer();
    if ((await isIntact(bytes, stored)) && (await isCurrent(url, stored))) {
      const all = bytes.byteLength;
      onProgress({ stage: "download", loaded: all, total: all, cached: true });
      return bytes;
    }
  }
  const response = await fetch(url).catch((error) => {
    throw new MaskRcnnError("download", `${url} could not be fetched (${error.message})`);
  });
  if (!response.ok) {
    throw new MaskRcnnError("download", `${url}: the server answered ${response.status}`);
  }
  const bytes = await readAll(response, onProgress);
  if (store) {
    const headers = { "content-type": "application/octet-stream", [HASH]: await sha256(bytes) };
    for (const key of ["etag", "last-modified"]) {
      if (response.headers.get(key)) headers[key] = response.headers.get(key);
    }
    // A full disk does not prevent using the weights.
    await store.put(url, new Response(bytes, { headers })).catch(() => {});
    const keys = await store.keys();
    for (const old of keys.slice(0, Math.max(0, keys.length - MAX_STORED))) await store.delete(old);
  }
  return bytes;
}

/** The last part of a URL; as it is where its escapes are broken. */
function fileName(url) {
  const part = url.pathname.split("/").pop();
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Whether cached weights are what was stored: browsers may lose parts of a full disk. */
async function isIntact(bytes, stored) {
  const hash = stored.headers.get(HASH);
  return hash !== null && hash === (await sha256(bytes));
}

async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function checkSize(bytes) {
  if (bytes <= MAX_BYTES) return;
  throw new MaskRcnnError("download", `the weights have more than ${MAX_BYTES} bytes; use --dtype f16 or a smaller network`);
}

/** Whether the stored weights are those of the server; true if that cannot be determined. */
async function isCurrent(url, stored) {
  const key = ["etag", "last-modified"].find((key) => stored.headers.get(key));
  if (!key) return true;
  const head = await fetch(url, { method: "HEAD", cache: "no-cache" }).catch(() => null);
  return !head?.ok || head.headers.get(key) === stored.headers.get(key);
}

async function readAll(response, onProgress) {
  const length = Number(response.headers.get("content-length"));
  // The length of a compressed response is not the length of the weights.
  const total = response.headers.get("content-encoding") || !length ? undefined : length;
  checkSize(length);
  const reader = response.body.getReader();
  const chunks = [];
  let loaded = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw new MaskRcnnError("download", `the download was interrupted (${error.message})`);
    });
    if (done) break;
    chunks.push(value);
    loaded += value.length;
    checkSize(loaded);
    onProgress({ stage: "download", loaded, total });
  }
  const bytes = new Uint8Array(loaded);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes.buffer;
}

/** Deletes all stored weights. */
export async function clearWeightsCache() {
  await globalThis.caches?.delete(CACHE);
}
