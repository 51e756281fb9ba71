// Untrusted input: requests to the server, links to the page, weights. No browser is needed.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MAX_BYTES, readWeights } from "../pkg/weights.js";
import { serve } from "../serve.mjs";

/** Sends a request as it is; clients would repair it. */
function raw(port, path) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "localhost", () => socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`));
    let answer = "";
    socket.on("data", (data) => (answer += data)).on("end", () => resolve(answer)).on("error", reject);
  });
}

test("a request that is no path is answered and does not end the server", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mrcnn-serve-"));
  writeFileSync(join(folder, "index.html"), "here");
  const { server, url } = await serve(folder);
  const port = Number(new URL(url).port);
  for (const path of ["/%", "/%ff", "/a%00b", "//["]) {
    assert.match(await raw(port, path), /^HTTP\/1.1 4/, path);
  }
  assert.match(await raw(port, "/../../../etc/passwd"), /^HTTP\/1.1 404/);
  assert.equal(await (await fetch(url)).text(), "here");
  server.close();
});

test("the page has a policy that allows no script of others", () => {
  const page = readFileSync(join(import.meta.dirname, "../page/index.html"), "utf8");
  const policy = page.match(/Content-Security-Policy" content="([^"]+)"/)[1];
  assert.match(policy, /default-src 'self'; script-src 'self' 'wasm-unsafe-eval';/);
  assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'/);
  assert.doesNotMatch(page, /<script(?![^>]*src=)|\son[a-z]+=|\sstyle=/, "nothing inline that the policy would block");
});

/** Runs with a server that answers `fetch` and a cache. */
async function withFetch(responses, work) {
  const [oldFetch, oldCaches] = [globalThis.fetch, globalThis.caches];
  const stored = new Map();
  const store = {
    match: async (url) => stored.get(url)?.clone(),
    put: async (url, response) => void stored.set(url, response),
    keys: async () => [...stored.keys()],
    delete: async (url) => stored.delete(url),
  };
  globalThis.fetch = async (url) => responses(String(url));
  globalThis.caches = { open: async () => store };
  try {
    return await work(stored);
  } finally {
    [globalThis.fetch, globalThis.caches] = [oldFetch, oldCaches];
  }
}

const read = (url) => readWeights(url, { cache: true, onProgress: () => {} });

test("weights that are too large are refused by their length and while they arrive", async () => {
  const headers = { "content-length": String(MAX_BYTES + 1) };
  await withFetch(() => new Response("x", { headers }), async () => {
    await assert.rejects(read("https://example.org/w.safetensors"), /more than 1073741824 bytes/);
  });
  const chunk = new Uint8Array(2 ** 26);
  const endless = () => new ReadableStream({ pull: (controller) => controller.enqueue(chunk) });
  await withFetch(() => new Response(endless()), async () => {
    await assert.rejects(read("https://example.org/w.safetensors"), /more than 1073741824 bytes/);
  });
});

test("cached weights are compared with their hash, and only a few are kept", async () => {
  let fetched = 0;
  await withFetch(() => { fetched += 1; return new Response("weights"); }, async (stored) => {
    const url = "https://example.org/0.safetensors";
    await read(url);
    await read(url);
    assert.equal(fetched, 1, "the second time from the cache");
    const { headers } = stored.get(url);
    stored.set(url, new Response("damaged", { headers }));
    const { bytes } = await read(url);
    assert.equal(new TextDecoder().decode(bytes), "weights");
    assert.equal(fetched, 2);
    for (let i = 1; i < 8; i += 1) await read(`https://example.org/${i}.safetensors`);
    assert.equal(stored.size, 4);
    assert.equal((await read("https://example.org/%.safetensors")).name, "%.safetensors");
  });
});
