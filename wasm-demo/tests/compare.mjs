// Comparison of two lists of detections.

import assert from "node:assert/strict";

/** COCO's compressed counts as run lengths (pycocotools' rleFrString). */
export function runs(counts) {
  const all = [];
  let position = 0;
  while (position < counts.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const code = counts.charCodeAt(position++) - 48;
      value |= (code & 31) << shift;
      more = Boolean(code & 32);
      shift += 5;
      if (!more && code & 16) value |= -1 << shift;
    }
    all.push(all.length > 2 ? value + all[all.length - 2] : value);
  }
  return all;
}

/** The mask as one byte per pixel, column by column. */
export function raster({ size: [height, width], counts }) {
  const cells = new Uint8Array(height * width);
  let position = 0;
  for (const [index, run] of runs(counts).entries()) {
    if (index % 2) cells.fill(1, position, position + run);
    position += run;
  }
  return cells;
}

export function maskIou(a, b) {
  const [x, y] = [raster(a), raster(b)];
  assert.deepEqual(a.size, b.size);
  let both = 0;
  let either = 0;
  for (let i = 0; i < x.length; i++) {
    both += x[i] & y[i];
    either += x[i] | y[i];
  }
  return either === 0 ? 1 : both / either;
}

/** The largest differences; asserts that labels and their order are equal. */
export function differences(actual, expected) {
  const labels = (list) => list.map(({ label }) => label);
  assert.deepEqual(labels(actual), labels(expected), "labels and their order");
  const worst = { box: 0, score: 0, iou: 1 };
  for (const [i, detection] of actual.entries()) {
    const boxes = detection.box.map((edge, k) => Math.abs(edge - expected[i].box[k]));
    worst.box = Math.max(worst.box, ...boxes);
    worst.score = Math.max(worst.score, Math.abs(detection.score - expected[i].score));
    worst.iou = Math.min(worst.iou, maskIou(detection.rle, expected[i].rle));
  }
  return worst;
}

/** The tolerances allow for f32 sums in another order, which differ by 1e-3 px and 1e-5. */
export function assertEqual(actual, expected, what) {
  const worst = differences(actual, expected);
  assert.ok(worst.box <= 0.5, `${what}: boxes differ by ${worst.box} px`);
  assert.ok(worst.score <= 2e-3, `${what}: scores differ by ${worst.score}`);
  assert.ok(worst.iou >= 0.99, `${what}: mask IoU is ${worst.iou}`);
  return worst;
}
