// The browser finds what the native program finds, on the processor and on WebGPU.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEqual, raster } from "./compare.mjs";
import { greyPng } from "./png.mjs";
import { loadModel, nativeDetections, openBrowser, openPage, predict, render, temporary } from "./setup.mjs";

const folder = temporary();
const cases = [];

/** Far enough from every score that a rounding does not decide. */
const isClear = (found, threshold) => found.every(({ score }) => Math.abs(score - threshold) > 5e-3);
const above = (found, threshold) => found.filter(({ score }) => score >= threshold);

before(() => {
  const grey = join(folder, "grey.png");
  writeFileSync(grey, greyPng(160, 144));
  const few = render(folder, { count: 8, objects: 2 });
  const many = render(folder, { count: 12, objects: 14 });
  const large = render(folder, { count: 2, objects: 6, size: [384, 512] });
  const pictures = [grey, ...few, ...many, ...large];
  const all = nativeDetections(folder, pictures, { score: 0.05 });
  const add = (what, picture, threshold) => {
    const expected = above(all[pictures.indexOf(picture)], threshold);
    cases.push({ what: `${what}, ${expected.length} at ${threshold.toFixed(3)}`, picture, threshold, expected });
  };
  add("nothing", grey, 0.5);
  // One: between the best and the second best score.
  const gap = (picture) => {
    const [first, second] = all[pictures.indexOf(picture)].map(({ score }) => score);
    return [(first + (second ?? 0)) / 2, first - (second ?? 0)];
  };
  const single = few.find((picture) => gap(picture)[1] > 0.05);
  add("one", single, gap(single)[0]);
  const clear = (list, threshold) => list.filter((picture) => isClear(all[pictures.indexOf(picture)], threshold));
  const count = (picture) => above(all[pictures.indexOf(picture)], 0.5).length;
  const most = clear(many, 0.5).sort((a, b) => count(b) - count(a));
  add("many", most[0], 0.5);
  add("many", most[1], 0.5);
  add("a large picture", clear(large, 0.5)[0], 0.5);
  assert.deepEqual(cases.slice(0, 2).map(({ expected }) => expected.length), [0, 1]);
  assert.ok(cases[2].expected.length >= 5, "a picture with many detections");
});

for (const backend of ["cpu", "webgpu"]) {
  describe(`equal to the native program on ${backend}`, () => {
    let chromium;
    let page;
    before(async () => {
      chromium = await openBrowser({ webgpu: backend === "webgpu" });
      page = await openPage(chromium.browser);
      const loaded = await loadModel(page, chromium.url, { backend });
      console.log(`# ${backend}: loaded in ${(loaded.ms / 1000).toFixed(1)} s, ${loaded.adapter ?? "no adapter"}`);
      assert.equal(loaded.backend, backend);
      assert.deepEqual(loaded.stages, ["download", "code", "read", "compile", "ready"]);
    });
    after(() => chromium.close());

    for (const index of [0, 1, 2, 3, 4]) {
      test(`picture ${index + 1}`, async () => {
        const { what, picture, threshold, expected } = cases[index];
        const { found, timings } = await predict(page, picture, { scoreThreshold: threshold });
        const worst = assertEqual(found, expected, what);
        const ms = Object.entries(timings).map(([stage, time]) => `${stage} ${time.toFixed(0)}`);
        console.log(`# ${backend}, ${what}: box ${worst.box.toExponential(1)} px, score ` +
          `${worst.score.toExponential(1)}, IoU ${worst.iou.toFixed(4)}; ms: ${ms.join(", ")}`);
        for (const detection of found) assertBitmap(detection);
      });
    }

    test("fewer detections where fewer are asked for", async () => {
      const { picture, expected } = cases[2];
      const { found } = await predict(page, picture, { scoreThreshold: 0.5, maxDetections: 2 });
      assertEqual(found, expected.slice(0, 2), "the two best");
    });

    test("arguments that make no sense are refused, and the model goes on", async () => {
      const codes = await page.evaluate(() => Promise.all([
        model.predict("photo.png"),
        model.predict(new ImageData(8, 8), { scoreThreshold: 50 }),
        model.predict(new ImageData(8, 8), { maxDetections: -1 }),
        model.predict({ data: new Uint8ClampedArray(12), width: 2, height: 2 }),
        model.predict({ data: new Uint8ClampedArray(0), width: 0, height: 9 }),
      ].map((promise) => promise.then(() => "none", ({ code }) => code))));
      assert.deepEqual(codes, ["argument", "argument", "argument", "failed", "failed"]);
      const { found } = await predict(page, cases[1].picture, { scoreThreshold: cases[1].threshold });
      assert.equal(found.length, 1);
    });

    test("nothing went wrong unseen", () => assert.deepEqual(page.errors.filter((e) => !e.includes("404")), []));
  });
}

/** The bitmap is the window of what the run lengths say. */
function assertBitmap({ rle, bitmap: { x, y, width, height, data } }) {
  const [rows] = rle.size;
  const cells = raster(rle);
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  assert.equal(sum(data), sum(cells), "as many cells");
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      assert.equal(data[row * width + column], cells[(x + column) * rows + y + row]);
    }
  }
}
