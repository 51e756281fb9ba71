// The page, driven by user input, on the CPU; its behavior does not depend on the GPU.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { assertEqual } from "./compare.mjs";
import { nativeDetections, openBrowser, openPage, program, render, temporary, WEIGHTS } from "./setup.mjs";

const folder = temporary();
let chromium;
let page;
let image;
let expected;

before(async () => {
  const images = render(folder, { count: 12, objects: 8 });
  const all = nativeDetections(folder, images, { score: 0.3 });
  const best = all.reduce((a, b, i) => (b.length > all[a].length ? i : a), 0);
  [image, expected] = [images[best], all[best]];
  chromium = await openBrowser({ webgpu: false });
});
after(() => chromium?.close());

async function open(query = "", options = {}) {
  await page?.close();
  page = await openPage(chromium.browser, options);
  await page.goto(chromium.url + query);
}

const text = (selector) => page.locator(selector).innerText();
const objects = () => page.locator("#objects button").count();

async function drop(file, name, type) {
  const base64 = readFileSync(file).toString("base64");
  const data = await page.evaluateHandle(({ base64, name, type }) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
  }, { base64, name, type });
  await page.dispatchEvent("#drop", "dragover", { dataTransfer: data });
  await page.dispatchEvent("#drop", "drop", { dataTransfer: data });
}

async function download(button) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return { name: file.suggestedFilename(), bytes: readFileSync(await file.path()) };
}

async function predicted() {
  await page.waitForFunction(() => document.body.dataset.done, null, { timeout: 60_000 });
}

describe("an image", () => {
  before(() => open());

  test("without WebGPU the page uses the CPU and shows the reason", async () => {
    await page.waitForSelector("#backend:not([hidden])");
    assert.match(await text("#backend"), /CPU/);
    assert.match(await page.locator("#model-facts").textContent(), /WebGPU found no GPU|has no WebGPU/);
    assert.match(await page.locator("#model-facts").textContent(), /circle, square, triangle, star/);
  });

  test("is dropped, and its objects are drawn, listed and announced", async () => {
    await drop(image, "scene.png", "image/png");
    await predicted();
    const visible = expected.filter(({ score }) => score >= 0.5).length;
    assert.equal(await objects(), visible);
    assert.equal(await page.locator("#overlay path").count(), visible);
    assert.match(await page.locator("#summary").textContent(), new RegExp(`^${visible} object`));
    assert.match(await text("#total"), /\d m?s$/);
  });

  test("the slider changes the threshold", async () => {
    const threshold = (expected[1].score + expected[2].score) / 2;
    await page.locator("#score").fill(threshold.toFixed(2));
    const above = expected.filter(({ score }) => score >= Number(threshold.toFixed(2))).length;
    assert.equal(await objects(), above);
    await page.locator("#score").focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("End");
    assert.equal(await text("#score-value"), "0.99");
    await page.locator("#score").fill("0.3");
    assert.equal(await objects(), expected.length);
  });

  test("COCO JSON equals the native program's", async () => {
    const { name, bytes } = await download("#save-coco");
    assert.equal(name, "scene.coco.json");
    const records = JSON.parse(bytes).map(({ bbox: [x, y, w, h], category_id, score, segmentation }) => (
      { box: [x, y, x + w, y + h], label: category_id, score, rle: segmentation }));
    assertEqual(records, expected, "downloaded JSON");
  });

  test("the overlay is a PNG", async () => {
    const { name, bytes } = await download("#save-overlay");
    assert.equal(name, "scene.overlay.png");
    assert.equal(bytes.subarray(1, 4).toString(), "PNG");
    const sides = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
    assert.equal(Math.max(...sides), 800, "enlarged to be readable");
  });

  test("pointing and arrow keys select an object", async () => {
    await page.hover("#objects li:nth-child(2) button");
    assert.equal(await page.locator("#overlay g.selected").count(), 1);
    assert.ok(await page.locator("body.has-selection").count());
    await page.mouse.move(2, 2);
    assert.equal(await page.locator("body.has-selection").count(), 0);
    await page.focus("#objects li:nth-child(1) button");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.locator("#objects li:nth-child(2) button.selected").count(), 1);
    const label = await page.locator("#objects li:nth-child(2) button").getAttribute("aria-label");
    assert.match(label, /^(circle|square|triangle|star), score 0\.\d\d$/);
  });

  test("weights come from the cache the second time", async () => {
    const requests = [];
    page.on("request", (request) => requests.push(`${request.method()} ${request.url()}`));
    await page.reload();
    await page.waitForSelector("#backend:not([hidden])");
    const weights = requests.filter((line) => line.endsWith(".safetensors"));
    assert.deepEqual(weights.map((line) => line.split(" ")[0]), ["HEAD"]);
  });

  test("examples work, without errors in the console", async () => {
    assert.equal(await page.locator("#examples button").count(), 3);
    await page.click("#examples button:nth-child(2)");
    await predicted();
    assert.ok((await objects()) > 0);
    assert.deepEqual(page.errors, []);
  });
});

describe("error messages", () => {
  const error = async (pattern) => {
    await page.waitForSelector("#error:not([hidden])", { timeout: 180_000 });
    assert.match(await text("#error-text"), pattern);
  };
  beforeEach(() => open());

  test("not an image", async () => {
    const file = join(folder, "notes.png");
    writeFileSync(file, "no image");
    await drop(file, "notes.png", "image/png");
    await error(/Not an image: notes\.png .* PNG, JPEG/);
    await page.click("#error-close");
    await page.waitForSelector("#error", { state: "hidden" });
  });

  test("an invalid weight file, then a valid one", async () => {
    const file = join(folder, "wrong.safetensors");
    writeFileSync(file, readFileSync(WEIGHTS).subarray(0, 5000));
    await page.click("details summary");
    await page.setInputFiles("#weights-file", file);
    await page.click("#model-form button[type=submit]");
    await error(/Invalid weights: wrong\.safetensors.*header/);
    await page.setInputFiles("#weights-file", WEIGHTS);
    await page.click("#model-form button[type=submit]");
    await page.waitForSelector("#backend:not([hidden])");
    assert.ok(await page.locator("#error[hidden]").count());
  });

  test("missing weights", async () => {
    await open("?weights=none.safetensors");
    await error(/The download failed: .*none\.safetensors.* 404/);
  });

  test("WebGPU is requested and not available", async () => {
    await open("?backend=webgpu");
    await error(/No WebGPU: .*Choose/);
  });

  const load = async ({ weights, size }) => {
    await page.setInputFiles("#weights-file", weights);
    await page.fill("#size", size);
    await page.evaluate(() => document.getElementById("size").removeAttribute("max"));
    await page.click("#model-form button[type=submit]");
  };
  const loadsAgain = async () => {
    await load({ weights: WEIGHTS, size: "" });
    await page.waitForSelector("#error", { state: "hidden" });
    await page.waitForSelector("#backend:not([hidden])");
  };

  test("out of memory is reported, and the page still works", async () => {
    await page.waitForSelector("#backend:not([hidden])");
    await page.click("details summary");
    // ResNet-50's first convolution makes 64 channels of 3,150 x 3,150: 2.5 GB, and as much for its ReLU. A module has 4.
    const weights = join(folder, "r50.safetensors");
    execFileSync(program("recipe-weights"), [weights]);
    await load({ weights, size: "6300" });
    await error(/Out of memory: .*smaller side/);
    await loadsAgain();
  });

  test("a size beyond its limit is named, and the page still works", async () => {
    await page.waitForSelector("#backend:not([hidden])");
    await page.click("details summary");
    await load({ weights: WEIGHTS, size: "12000" });
    await error(/Invalid setting: .*image\.max_size = 20000: .*smaller side/);
    await loadsAgain();
  });
});

describe("weights of another site, named by the link", () => {
  const FOREIGN = "https://weights.example/shapes.safetensors";
  const headers = { "access-control-allow-origin": "*", "access-control-expose-headers": "content-length" };

  /** Opens a link to foreign weights and answers the page's question. */
  async function follow(link, agrees) {
    await page?.close();
    page = await openPage(chromium.browser);
    const [questions, requests] = [[], []];
    page.on("dialog", (dialog) => {
      questions.push(dialog.message());
      return agrees ? dialog.accept() : dialog.dismiss();
    });
    await page.route((url) => url.host === new URL(FOREIGN).host, (route) => {
      requests.push(route.request().method());
      return route.fulfill({ headers, body: readFileSync(WEIGHTS) });
    });
    await page.goto(`${chromium.url}?weights=${encodeURIComponent(link)}`);
    await page.waitForSelector("#backend:not([hidden])");
    return { questions, requests };
  }

  test("are not requested if the user declines, and the page's own are used", async () => {
    for (const link of [FOREIGN, FOREIGN.replace("https:", "")]) {
      const { questions, requests } = await follow(link, false);
      assert.deepEqual(questions, ["This link loads weights from weights.example. Download and use them?"]);
      assert.deepEqual(requests, []);
    }
  });

  test("are used if the user agrees", async () => {
    const { questions, requests } = await follow(FOREIGN, true);
    assert.equal(questions.length, 1);
    assert.ok(requests.includes("GET"));
  });

  test("of the same site need no question", async () => {
    const { questions } = await follow("model/shapes.safetensors", false);
    assert.deepEqual(questions, []);
  });
});

describe("a camera", () => {
  before(() => open());

  test("gives live masks until stopped", async () => {
    await page.waitForSelector("#backend:not([hidden])");
    await page.click("#webcam");
    await page.waitForFunction(() => Number(document.body.dataset.done) >= 4, null, { timeout: 60_000 });
    assert.match(await text("#total"), /img\/s/);
    await page.click("#webcam");
    await page.waitForFunction(() => document.getElementById("webcam").textContent === "Webcam");
    assert.equal(await page.locator("#webcam").getAttribute("aria-pressed"), "false");
    assert.deepEqual(page.errors, []);
  });
});

describe("a phone", () => {
  for (const colorScheme of ["light", "dark"]) {
    test(`nothing is wider than 360 pixels, ${colorScheme}`, async () => {
      await open("?image=examples/1.webp", { viewport: { width: 360, height: 740 }, colorScheme });
      await predicted();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 360, `the page is ${wide} pixels wide`);
      if (process.env.MRCNN_SCREENSHOTS) {
        await page.screenshot({ path: join(process.env.MRCNN_SCREENSHOTS, `phone-${colorScheme}.png`), fullPage: true });
      }
    });
  }
});
