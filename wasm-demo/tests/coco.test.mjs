// A model with torchvision's layout and COCO's classes, converted by one command and loaded from a URL in the page. A narrow
// network with generated weights stands in for `maskrcnn_resnet50_fpn`; `r50` has the full size.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assertEqual } from "./compare.mjs";
import { cli, DIST, nativeDetections, openBrowser, openPage, program, render, temporary } from "./setup.mjs";

/** The smallest value of the slider. */
const SCORE = 0.05;
const folder = temporary();
const served = join(DIST, "model/coco.safetensors");
let chromium;

/** `convert` overwrites nothing, so a file of an interrupted run is in the way. */
function removeServed() {
  for (const file of [served, served.replace(".safetensors", ".toml")]) rmSync(file, { force: true });
}

before(async () => {
  removeServed();
  chromium = await openBrowser({ webgpu: false });
});
after(async () => {
  await chromium?.close();
  removeServed();
});

test("a COCO model is converted to f16 by one command, and its URL is entered in the page", async () => {
  const published = join(folder, "small.pth");
  execFileSync(program("recipe-weights"), ["--torchvision", published]);
  const printed = cli("convert", published, "--dtype", "f16", "--out", served);
  assert.match(printed, /91 classes/);
  assert.ok(statSync(served).size < 0.6 * statSync(published).size, "half the size");
  const image = render(folder, { count: 2, objects: 8 })[1];
  const [expected] = nativeDetections(folder, [image], { score: SCORE, weights: served });
  assert.ok(expected.length >= 5, `${expected.length} detections to compare`);

  const page = await openPage(chromium.browser);
  await page.goto(chromium.url);
  await page.waitForSelector("#backend:not([hidden])");
  await page.click("details summary");
  await page.fill("#weights-url", `${chromium.url}model/coco.safetensors`);
  await page.click("#model-form button[type=submit]");
  await page.waitForFunction(() => document.getElementById("model-facts").textContent.includes("90 classes (person"), null,
    { timeout: 60_000 });
  assert.match(await page.locator("#model-facts").textContent(), /800 px on the shorter side/);

  await page.locator("#score").fill(String(SCORE));
  await page.setInputFiles("#file", image);
  await page.waitForFunction(() => document.body.dataset.done, null, { timeout: 180_000 });
  const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save-coco")]);
  const found = JSON.parse(readFileSync(await file.path())).map(({ bbox: [x, y, w, h], category_id, score, segmentation }) => (
    { box: [x, y, x + w, y + h], label: category_id, score, rle: segmentation }));
  assertEqual(found, expected, "detections of the native program");
});
