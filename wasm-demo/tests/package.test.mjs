// The package as npm packs it, in a new Vite project: the example runs, built and in development.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { DEMO, nativeDetections, openBrowser, openPage, render, temporary, WEIGHTS } from "./setup.mjs";

const npm = (folder, ...args) =>
  execFileSync("npm", args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

describe("the npm package", () => {
  const folder = temporary();
  const project = join(folder, "project");
  const image = render(folder, { count: 1, objects: 5 })[0];
  const expected = nativeDetections(folder, [image], { score: 0.5 })[0].length;
  let contents;

  before(() => {
    const [packed] = JSON.parse(npm(join(DEMO, "pkg"), "pack", "--json", "--pack-destination", folder));
    contents = packed.files.map(({ path }) => path);
    cpSync(join(DEMO, "example-vite"), project, { recursive: true });
    mkdirSync(join(project, "public"));
    copyFileSync(WEIGHTS, join(project, "public/shapes.safetensors"));
    npm(project, "install", "--no-audit", "--no-fund", join(folder, packed.filename));
  });

  test("contains the required files only", () => {
    const listed = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "backend.js", "errors.js", "images.js", "index.d.ts", "index.js",
      "mrcnn_web.d.ts", "mrcnn_web.js", "mrcnn_web_bg.wasm", "mrcnn_web_bg.wasm.d.ts", "package.json",
      "weights.js", "worker.js"];
    assert.deepEqual(contents.sort(), listed.sort());
  });

  async function run(browser, url) {
    const page = await openPage(browser);
    await page.goto(url);
    await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("ready"), null, { timeout: 120_000 });
    await page.setInputFiles("#photo", image);
    await page.waitForFunction(() => document.getElementById("status").textContent.includes("objects"));
    assert.equal(await page.locator("#objects li").count(), expected);
    assert.deepEqual(page.errors.filter((error) => !error.includes("404")), []);
  }

  test("runs in the built example", async () => {
    npm(project, "run", "build");
    const chromium = await openBrowser({ webgpu: false, folder: join(project, "dist") });
    try {
      await run(chromium.browser, chromium.url);
    } finally {
      await chromium.close();
    }
  });

  test("runs in development", async () => {
    const vite = spawn(join(project, "node_modules/.bin/vite"), ["--port", "0", "--strictPort", "false"], { cwd: project });
    const chromium = await openBrowser({ webgpu: false });
    try {
      const url = await new Promise((resolve, reject) => {
        vite.on("exit", () => reject(new Error("vite ended")));
        vite.stdout.on("data", (data) => {
          // Color codes interrupt the address.
          const plain = String(data).replace(/\x1b\[\d+m/g, "");
          const address = plain.match(/http:\/\/localhost:\d+\//);
          if (address) resolve(address[0]);
        });
      });
      await run(chromium.browser, url);
    } finally {
      vite.kill();
      await chromium.close();
    }
  });
});
