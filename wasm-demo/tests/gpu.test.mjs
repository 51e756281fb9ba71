// What only a GPU does: being software, being lost.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { loadModel, openBrowser, openPage, predict, render, temporary } from "./setup.mjs";

describe("WebGPU by SwiftShader", () => {
  let chromium;
  let page;
  const picture = render(temporary(), { count: 1, objects: 4 })[0];
  before(async () => {
    chromium = await openBrowser({ webgpu: true });
  });
  after(() => chromium.close());

  test("auto takes the processor where the only adapter is software, and says so", async () => {
    page = await openPage(chromium.browser);
    const { backend, reason } = await loadModel(page, chromium.url, { backend: "auto" });
    assert.equal(backend, "cpu");
    assert.match(reason, /adapter is software/);
  });

  test("a lost device ends the model with words, and the next one works", async () => {
    page = await openPage(chromium.browser);
    await loadModel(page, chromium.url, { backend: "webgpu" });
    const lost = page.evaluate(() => model.lost.then(({ code, message }) => ({ code, message })));
    const pending = page.evaluate(() =>
      model.predict(new ImageData(64, 64)).then(() => "done just before", ({ code }) => code));
    await page.workers().at(-1).evaluate(() => globalThis.mrcnnDevice.destroy());
    assert.equal((await lost).code, "device-lost");
    assert.match((await lost).message, /the GPU was lost .*load the model again/);
    assert.match(await pending, /^(device-lost|done just before)$/);
    const after = await page.evaluate(() => model.predict(new ImageData(64, 64)).catch(({ code }) => code));
    assert.equal(after, "device-lost");
    const { backend } = await loadModel(page, chromium.url, { backend: "cpu" });
    assert.equal(backend, "cpu");
    const { found } = await predict(page, picture, { scoreThreshold: 0.05 });
    assert.ok(found.length > 0);
  });

  test("the page loads the model again on the processor", async () => {
    page = await openPage(chromium.browser);
    await page.goto(`${chromium.url}?backend=webgpu&picture=examples/1.webp`);
    await page.waitForFunction(() => document.body.dataset.done === "1", null, { timeout: 300_000 });
    const first = await page.locator("#summary").textContent();
    await page.workers().at(-1).evaluate(() => globalThis.mrcnnDevice.destroy());
    await page.waitForFunction(() => document.body.dataset.done === "2", null, { timeout: 60_000 });
    assert.match(await page.locator("#error-text").innerText(), /The GPU was lost.*Loading again on the processor/);
    assert.match(await page.locator("#backend").innerText(), /Processor/);
    assert.equal(await page.locator("#summary").textContent(), first);
  });
});
