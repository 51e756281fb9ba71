// The worker that runs the model. index.js starts it and sends it requests.

import init, { Model } from "./mrcnn_web.js";
import { choose, watchDevices } from "./backend.js";

let model;
let lastPanic;
let gpuError;

globalThis.mrcnnPanicked = (text) => {
  lastPanic = text;
};

const lostMessage = ({ reason, message }) =>
  `the GPU was lost (${message || reason || "no reason given"}); load the model again`;

watchDevices(
  (info) => postMessage({ type: "crash", code: "device-lost", message: lostMessage(info) }),
  (error) => {
    gpuError = error;
    console.error(`mrcnn-web: ${error.message}`);
  },
);

/** Code and message of an error: those of the module, or those of its end. */
async function describe(error, code) {
  // Work on a lost device fails in many ways, shortly before or after the loss is reported.
  const lost = await Promise.race([
    globalThis.mrcnnDevice?.lost,
    new Promise((resolve) => setTimeout(resolve, globalThis.mrcnnDevice ? 200 : 0)),
  ]);
  if (lost) return { code: "device-lost", message: lostMessage(lost) };
  if (gpuError) {
    const isMemory = typeof GPUOutOfMemoryError !== "undefined" && gpuError instanceof GPUOutOfMemoryError;
    return {
      code: isMemory ? "out-of-memory" : "gpu",
      message: isMemory ? "the GPU has not enough memory for this image size" : gpuError.message,
    };
  }
  if (error instanceof RangeError) {
    return { code: "out-of-memory", message: `the tab has not enough memory (${error.message})` };
  }
  if (error instanceof WebAssembly.RuntimeError || lastPanic) {
    // The module cannot continue after this. Without a panic, an allocation failed.
    const isMemory = !lastPanic || /capacity overflow|allocation of \d+ bytes/.test(lastPanic);
    return !isMemory
      ? { code: "crashed", message: lastPanic.split("\n").slice(0, 3).join(" ") }
      : { code: "out-of-memory", message: `the tab has not enough memory (${lastPanic?.split("\n").at(-1) ?? error.message})` };
  }
  return { code, message: error?.message ?? String(error) };
}

// A panic in a resumed future rejects no promise.
addEventListener("error", async (event) => {
  event.preventDefault();
  postMessage({ type: "crash", ...(await describe(event.error ?? event, "crashed")) });
});
addEventListener("unhandledrejection", async (event) => {
  event.preventDefault();
  postMessage({ type: "crash", ...(await describe(event.reason, "crashed")) });
});

const actions = {
  async load({ id, bytes, name, backend, overrides }) {
    const progress = (stage) => postMessage({ type: "progress", id, progress: { stage } });
    let choice;
    try {
      choice = await choose(backend);
    } catch (error) {
      throw { code: "no-webgpu", message: error.message };
    }
    progress("code");
    await init();
    progress("read");
    try {
      model = await Model.load(new Uint8Array(bytes), name, choice.backend, overrides);
    } catch (error) {
      const isBackend = error?.message?.startsWith("WebGPU did not start");
      const isSetting = error?.name === "ConfigError";
      throw await describe(error, isBackend ? "no-webgpu" : isSetting ? "argument" : "weights");
    }
    progress("compile");
    const [minSize, maxSize] = model.inputSize();
    await model.warmUp(minSize, minSize);
    return { ...choice, classes: model.classes(), minSize, maxSize };
  },

  async predict({ data, width, height, scoreThreshold, maxDetections }) {
    return model.predict(data, width, height, scoreThreshold, maxDetections);
  },
};

// One request at a time: two images at once would need the memory of both.
let queue = Promise.resolve();
addEventListener("message", ({ data: request }) => {
  queue = queue.then(async () => {
    const { id } = request;
    try {
      const value = await actions[request.type](request);
      if (gpuError) throw gpuError;
      const bitmaps = value.detections?.map(({ bitmap }) => bitmap.data.buffer) ?? [];
      postMessage({ type: "done", id, value }, bitmaps);
    } catch (error) {
      const known = error?.code && error?.message && !(error instanceof Error);
      postMessage({ type: "error", id, ...(known ? error : await describe(error, "failed")) });
      gpuError = undefined;
    }
  });
});
