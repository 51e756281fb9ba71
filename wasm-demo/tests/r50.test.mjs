// ResNet-50-FPN with 91 classes at 320 pixels fits in memory and gives the detections of the native program, on the
// CPU and on WebGPU. Its weights are generated, not trained. It takes SwiftShader minutes, so `webgpu` runs with
// MRCNN_WEB_R50=both only.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { assertEqual } from "./compare.mjs";
import { DIST, loadModel, nativeDetections, openBrowser, openPage, predict, program, render, temporary } from "./setup.mjs";

/** Low, because the weights are not trained. */
const SCORE = 0.03;
const SET = ["image.min_size=320", "image.max_size=533", `model.roi.score_threshold=${SCORE}`,
  "model.rpn.pre_nms_test=300", "model.rpn.post_nms_test=100"];
const folder = temporary();
const served = join(DIST, "model/r50.safetensors");
let image;
let expected;

before(() => {
  let weights = process.env.MRCNN_R50;
  if (!weights) {
    weights = join(folder, "r50.safetensors");
    execFileSync(program("recipe-weights"), [weights]);
  }
  assert.ok(existsSync(weights), weights);
  copyFileSync(weights, served);
  image = render(folder, { count: 2, objects: 8, size: [400, 560] })[1];
  [expected] = nativeDetections(folder, [image], { score: SCORE, weights: served, set: SET });
  assert.ok(expected.length >= 5, "enough detections to compare masks");
});
after(() => rmSync(served, { force: true }));

for (const backend of ["cpu", "webgpu"]) {
  describe(`ResNet-50-FPN at 320 pixels on ${backend}`, () => {
    let chromium;
    after(() => chromium?.close());

    const tooSlow = backend === "webgpu" && process.env.MRCNN_WEB_R50 !== "both";
    test("gives the same detections", { skip: tooSlow && "takes minutes in software; MRCNN_WEB_R50=both runs it" }, async () => {
      chromium = await openBrowser({ webgpu: backend === "webgpu" });
      const page = await openPage(chromium.browser);
      const weights = `${chromium.url}model/r50.safetensors`;
      const { ms } = await loadModel(page, chromium.url, { backend, overrides: SET, weights, cache: false });
      const { detections, timings } = await predict(page, image, { scoreThreshold: SCORE });
      const worst = assertEqual(detections, expected, backend);
      const stages = Object.entries(timings).map(([stage, time]) => `${stage} ${(time / 1000).toFixed(2)}`);
      console.log(`# R50-FPN, ${backend}: loaded in ${(ms / 1000).toFixed(1)} s; ${expected.length} detections; ` +
        `seconds: ${stages.join(", ")}; box ${worst.box.toExponential(1)} px, score ${worst.score.toExponential(1)}, ` +
        `IoU ${worst.iou.toFixed(4)}`);
    });
  });
}
