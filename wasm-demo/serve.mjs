// Serves a folder of static files on localhost: `node serve.mjs FOLDER [PORT]`.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
};

/** The path of a request; null where it is none, as `/%`, which must not end the server. */
function pathOf(url) {
  try {
    const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
    return path.includes("\0") ? null : path;
  } catch {
    return null;
  }
}

/** Starts the server; port 0 selects a free port. Resolves to the server and its address. */
export function serve(folder, port = 0) {
  const server = createServer(async (request, response) => {
    const path = pathOf(request.url);
    if (path === null) {
      response.writeHead(400, { "content-type": "text/plain" }).end("not a path");
      return;
    }
    const file = join(folder, path.endsWith("/") ? `${path}index.html` : path);
    const entry = await stat(file).catch(() => null);
    if (!entry?.isFile() || !["GET", "HEAD"].includes(request.method)) {
      response.writeHead(404, { "content-type": "text/plain" }).end("no such file");
      return;
    }
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "content-length": entry.size,
      "last-modified": entry.mtime.toUTCString(),
      "cache-control": "no-cache",
    });
    if (request.method === "HEAD") response.end();
    // A file may be removed between the two.
    else createReadStream(file).on("error", () => response.destroy()).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "localhost", () => {
      resolve({ server, url: `http://localhost:${server.address().port}/` });
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve(process.argv[2], Number(process.argv[3] ?? 8080));
  console.log(`${url} (Ctrl-C stops the server)`);
}
