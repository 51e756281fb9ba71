// The browser gives the detections of the native program, on the CPU and on WebGPU.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEqual, raster } from "./compare.mjs";
import { grayPng } from "./png.mjs";
import { loadModel, nativeDetections, openBrowser, openPage, predict, render, temporary } from "./setup.mjs";

const folder = temporary();
const cases = [];

/** Thresholds lie at least this far from every score, so that rounding does not change the selection. */
const MARGIN = 5e-3;
const above = (detections, threshold) => detections.filter(({ score }) => score >= threshold);

/** The widest gap between neighboring scores (0 and 1 among them) whose middle is in 0.2..0.75. There is always one. */
function widestGap(detections) {
  const scores = [1, ...detections.map(({ score }) => score), 0];
  const gaps = scores.slice(1).map((low, i) => ({ middle: (scores[i] + low) / 2, width: scores[i] - low }));
  return gaps.filter(({ middle }) => middle >= 0.2 && middle <= 0.75).sort((a, b) => b.width - a.width)[0];
}

// Thresholds follow from the scores: whatever the network learned, there is an image with none, one and many
// detections above its threshold.
before(() => {
  const gray = join(folder, "gray.png");
  writeFileSync(gray, grayPng(160, 144));
  const few = render(folder, { count: 8, objects: 2 });
  const many = render(folder, { count: 12, objects: 14 });
  const large = render(folder, { count: 2, objects: 6, size: [384, 512] });
  const images = [gray, ...few, ...many, ...large];
  const all = nativeDetections(folder, images, { score: 0.05 });
  const of = (image) => all[images.indexOf(image)];
  const add = (what, image, threshold) => {
    const nearest = Math.min(...of(image).map(({ score }) => Math.abs(score - threshold)));
    assert.ok(nearest > MARGIN, `${what}: a score is ${nearest} from the threshold ${threshold}`);
    const expected = above(of(image), threshold);
    cases.push({ what: `${what}, ${expected.length} at ${threshold.toFixed(3)}`, image, threshold, expected });
  };

  add("nothing", gray, (1 + (of(gray)[0]?.score ?? 0)) / 2);
  const second = (image) => of(image)[1]?.score ?? 0;
  const lead = (image) => of(image)[0].score - second(image);
  const single = few.sort((a, b) => lead(b) - lead(a))[0];
  add("one", single, second(single) + lead(single) / 2);
  const middle = (image) => widestGap(of(image)).middle;
  const count = (image) => above(of(image), middle(image)).length;
  const most = many.sort((a, b) => count(b) - count(a));
  add("many", most[0], middle(most[0]));
  add("many", most[1], middle(most[1]));
  add("a large image", large[0], middle(large[0]));
  assert.deepEqual(cases.slice(0, 2).map(({ expected }) => expected.length), [0, 1]);
  assert.ok(cases[2].expected.length >= 5, "an image with many detections");
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
      test(`image ${index + 1}`, async () => {
        const { what, image, threshold, expected } = cases[index];
        const { detections, timings } = await predict(page, image, { scoreThreshold: threshold });
        const worst = assertEqual(detections, expected, what);
        const ms = Object.entries(timings).map(([stage, time]) => `${stage} ${time.toFixed(0)}`);
        console.log(`# ${backend}, ${what}: box ${worst.box.toExponential(1)} px, score ` +
          `${worst.score.toExponential(1)}, IoU ${worst.iou.toFixed(4)}; ms: ${ms.join(", ")}`);
        for (const detection of detections) assertBitmap(detection);
      });
    }

    test("maxDetections limits the detections", async () => {
      const { image, threshold, expected } = cases[2];
      const { detections } = await predict(page, image, { scoreThreshold: threshold, maxDetections: 2 });
      assertEqual(detections, expected.slice(0, 2), "the two best");
    });

    test("invalid arguments are refused, and the model still works", async () => {
      const codes = await page.evaluate(() => Promise.all([
        model.predict("photo.png"),
        model.predict(new ImageData(8, 8), { scoreThreshold: 50 }),
        model.predict(new ImageData(8, 8), { maxDetections: -1 }),
        model.predict({ data: new Uint8ClampedArray(12), width: 2, height: 2 }),
        model.predict({ data: new Uint8ClampedArray(0), width: 0, height: 9 }),
      ].map((promise) => promise.then(() => "none", ({ code }) => code))));
      assert.deepEqual(codes, ["argument", "argument", "argument", "failed", "failed"]);
      const { detections } = await predict(page, cases[1].image, { scoreThreshold: cases[1].threshold });
      assert.equal(detections.length, 1);
    });

    test("no errors in the console", () => assert.deepEqual(page.errors.filter((e) => !e.includes("404")), []));
  });
}

/** The bitmap equals the window of the decoded run lengths. */
function assertBitmap({ rle, bitmap: { x, y, width, height, data } }) {
  const [rows] = rle.size;
  const cells = raster(rle);
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  assert.equal(sum(data), sum(cells), "the same number of pixels");
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      assert.equal(data[row * width + column], cells[(x + column) * rows + y + row]);
    }
  }
}
