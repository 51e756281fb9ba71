// Shared by the tests: the native program, images, the browser.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { serve } from "../serve.mjs";

export const DEMO = resolve(import.meta.dirname, "..");
export const DIST = join(DEMO, "dist");

/** The default weights of the page, created by `web build`; the native program reads the same file. */
export const WEIGHTS = join(DIST, "model/shapes.safetensors");

const target = process.env.CARGO_TARGET_DIR ?? join(DEMO, "../target");

/** A native program of the workspace. */
export function program(name) {
  const path = join(target, "release", name);
  if (!existsSync(path)) throw new Error(`${path}: build it (cargo build --release --workspace --bins)`);
  return path;
}

const CLI = process.env.MRCNN_CLI ?? program("mrcnn-cli");

export function cli(...args) {
  return execFileSync(CLI, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 28 });
}

export const temporary = () => mkdtempSync(join(tmpdir(), "mrcnn-web-"));

/** Rendered scenes with up to `objects` shapes, as paths. */
export function render(folder, { count, objects, size = [128, 192], seed = 7 }) {
  mkdirSync(folder, { recursive: true });
  const out = join(folder, `shapes-${objects}-${size[0]}`);
  const options = { "--train": 1, "--val": count, "--objects": objects, "--seed": seed };
  cli("dataset", "shapes", "--out", out, "--size", ...size.map(String), ...Object.entries(options).flat().map(String));
  return readdirSync(join(out, "val")).sort().map((name) => join(out, "val", name));
}

/** Detections of the native program per image, best first: `{ box, label, score, rle }`. */
export function nativeDetections(folder, images, { score, weights = WEIGHTS, set = [] }) {
  const out = join(folder, `native-${Math.random().toString(36).slice(2)}`);
  const settings = set.flatMap((text) => ["--set", text]);
  const text = cli("predict", ...images, "--weights", weights, "--out", out, "--backend", "cpu",
    "--score", String(score), "--format", "json", ...settings);
  const detections = images.map(() => []);
  for (const record of JSON.parse(text)) {
    const [x, y, w, h] = record.bbox;
    detections[record.image_id - 1].push({
      box: [x, y, x + w, y + h],
      label: record.category_id,
      score: record.score,
      rle: record.segmentation,
    });
  }
  return detections;
}

const FLAGS = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

/** Chromium with a server of `folder`; with `webgpu` it has the adapter of SwiftShader, otherwise none. */
export async function openBrowser({ webgpu, folder = DIST }) {
  const executablePath = process.env.MRCNN_CHROMIUM ?? "/usr/bin/chromium";
  const args = webgpu ? [...FLAGS, "--enable-unsafe-webgpu"] : FLAGS;
  const browser = await chromium.launch({ executablePath, args });
  const { server, url } = await serve(folder);
  const close = async () => {
    await browser.close();
    server.close();
  };
  return { browser, url, close };
}

/** A page that records its console errors. */
export async function openPage(browser, options = {}) {
  const page = await browser.newPage(options);
  page.errors = [];
  page.on("console", (message) => message.type() === "error" && page.errors.push(message.text()));
  page.on("pageerror", (error) => page.errors.push(error.message));
  return page;
}

/** Loads a model with the package in an empty page, as `globalThis.model`. */
export async function loadModel(page, url, options) {
  await page.goto(`${url}bare`);
  return page.evaluate(async ({ url, weights, options }) => {
    const library = await import(`${url}mrcnn-web/index.js`);
    const stages = [];
    const onProgress = ({ stage }) => stages.at(-1) !== stage && stages.push(stage);
    const started = performance.now();
    globalThis.library = library;
    globalThis.model = await library.MaskRcnn.load(weights ?? `${url}model/shapes.safetensors`, { ...options, onProgress });
    const { backend, reason, adapter } = globalThis.model;
    return { backend, reason, adapter, stages, ms: performance.now() - started };
  }, { url, weights: options.weights, options });
}

/** Detections of the browser for an image file. */
export async function predict(page, image, options) {
  const base64 = readFileSync(image).toString("base64");
  return page.evaluate(async ({ base64, options }) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const image = await library.toImageData(new Blob([bytes]));
    const { detections: all, timings } = await model.predict(image, options);
    const detections = all.map(({ box, label, score, mask }) => ({
      box, label, score, rle: mask.rle,
      bitmap: { ...mask.bitmap, data: [...mask.bitmap.data] },
    }));
    return { detections, timings };
  }, { base64, options });
}
