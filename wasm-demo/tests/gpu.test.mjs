// Cases of GPUs only: software adapters and lost devices.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { loadModel, openBrowser, openPage, predict, render, temporary } from "./setup.mjs";

describe("WebGPU by SwiftShader", () => {
  let chromium;
  let page;
  const image = render(temporary(), { count: 1, objects: 4 })[0];
  before(async () => {
    chromium = await openBrowser({ webgpu: true });
  });
  after(() => chromium.close());

  test("auto selects the CPU if the only adapter is software, with the reason", async () => {
    page = await openPage(chromium.browser);
    const { backend, reason } = await loadModel(page, chromium.url, { backend: "auto" });
    assert.equal(backend, "cpu");
    assert.match(reason, /adapter is software/);
  });

  test("a lost device ends the model with a message, and a new model works", async () => {
    page = await openPage(chromium.browser);
    await loadModel(page, chromium.url, { backend: "webgpu" });
    const lost = page.evaluate(() => model.lost.then(({ code, message }) => ({ code, message })));
    const pending = page.evaluate(() =>
      model.predict(new ImageData(64, 64)).then(() => "done just before", ({ code }) => code));
    await page.workers().at(-1).evaluate(() => globalThis.mrcnnDevice.destroy());
    assert.equal((await lost).code, "device-lost");
    assert.match((await lost).message, /the GPU was lost .*load the model again/);
    assert.match(await pending, /^(device-lost|done just before)$/);
    const later = await page.evaluate(() => model.predict(new ImageData(64, 64)).catch(({ code }) => code));
    assert.equal(later, "device-lost");
    const { backend } = await loadModel(page, chromium.url, { backend: "cpu" });
    assert.equal(backend, "cpu");
    const { detections } = await predict(page, image, { scoreThreshold: 0.05 });
    assert.ok(detections.length > 0);
  });

  test("the page loads the model again on the CPU", async () => {
    page = await openPage(chromium.browser);
    await page.goto(`${chromium.url}?backend=webgpu&image=examples/1.webp`);
    await page.waitForFunction(() => document.body.dataset.done === "1", null, { timeout: 300_000 });
    const first = await page.locator("#summary").textContent();
    await page.workers().at(-1).evaluate(() => globalThis.mrcnnDevice.destroy());
    await page.waitForFunction(() => document.body.dataset.done === "2", null, { timeout: 60_000 });
    assert.match(await page.locator("#error-text").innerText(), /The GPU was lost.*Loading again on the CPU/);
    assert.match(await page.locator("#backend").innerText(), /CPU/);
    assert.equal(await page.locator("#summary").textContent(), first);
  });
});
