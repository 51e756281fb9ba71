// Mask R-CNN in the browser. The model runs in a worker, so that the page stays responsive.

import { MaskRcnnError } from "./errors.js";
import { readWeights } from "./weights.js";

export { MaskRcnnError } from "./errors.js";
export { clearWeightsCache } from "./weights.js";
export { toCoco, toImageData } from "./images.js";

/** Errors after which the module in the worker cannot continue. */
const FATAL = new Set(["crashed", "device-lost", "out-of-memory"]);

/** Errors of a GPU that do not occur on the CPU. */
const GPU_ONLY = new Set(["no-webgpu", "gpu", "crashed", "device-lost", "out-of-memory", "failed"]);

export class MaskRcnn {
  #connection;

  /** Use `MaskRcnn.load`. */
  constructor(connection, loaded) {
    this.#connection = connection;
    this.backend = loaded.backend;
    this.reason = loaded.reason;
    this.adapter = loaded.adapter;
    this.classes = loaded.classes;
    this.inputSize = { min: loaded.minSize, max: loaded.maxSize };
    this.lost = connection.lost;
  }

  static async load(source, options = {}) {
    const { backend = "auto", overrides = [], cache = true, name, onProgress = () => {} } = options;
    if (!["auto", "webgpu", "cpu"].includes(backend)) {
      throw new MaskRcnnError("argument", `backend is ${backend}; use "auto", "webgpu" or "cpu"`);
    }
    const weights = await readWeights(source, { name, cache, onProgress });
    const request = { type: "load", overrides, ...weights };
    try {
      return await start({ ...request, backend }, onProgress);
    } catch (error) {
      if (backend !== "auto" || !GPU_ONLY.has(error.code)) throw error;
      // A new worker, because the old one cannot continue after a crash.
      const model = await start({ ...request, backend: "cpu" }, onProgress);
      model.reason = `WebGPU failed: ${error.message}`;
      return model;
    }
  }

  async predict(image, { scoreThreshold = 0.5, maxDetections = 100 } = {}) {
    const { data, width, height } = image ?? {};
    if (!(data instanceof Uint8ClampedArray)) {
      throw new MaskRcnnError("argument", "predict needs ImageData; convert the image with toImageData");
    }
    if (!(scoreThreshold >= 0 && scoreThreshold <= 1)) {
      throw new MaskRcnnError("argument", `scoreThreshold is ${scoreThreshold}; use a number in 0..1`);
    }
    if (!(Number.isInteger(maxDetections) && maxDetections >= 0)) {
      throw new MaskRcnnError("argument", `maxDetections is ${maxDetections}; use a whole number of at least 0`);
    }
    const request = { type: "predict", data, width, height, scoreThreshold, maxDetections };
    const { detections, timings } = await this.#connection.call(request);
    return {
      width,
      height,
      detections: detections.map(({ rle, bitmap, ...rest }) => ({ ...rest, mask: { rle, bitmap } })),
      timings,
    };
  }

  dispose() {
    this.#connection.end(new MaskRcnnError("disposed", "the model was disposed of"));
  }
}

async function start(request, onProgress) {
  const connection = new Connection();
  try {
    const model = new MaskRcnn(connection, await connection.call(request, onProgress));
    onProgress({ stage: "ready" });
    return model;
  } catch (error) {
    connection.end(error);
    throw error;
  }
}

/** A worker and the pending requests. */
class Connection {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #pending = new Map();
  #next = 0;
  #ended;
  #resolveLost;

  constructor() {
    this.lost = new Promise((resolve) => (this.#resolveLost = resolve));
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      const message = event.message || "its script or the .wasm file could not be loaded";
      this.#fail(new MaskRcnnError("crashed", `the worker failed: ${message}`));
    };
  }

  call(request, onProgress = () => {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ ...request, id });
    });
  }

  end(error) {
    this.#ended ??= error;
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }

  #receive(message) {
    const pending = this.#pending.get(message.id);
    switch (message.type) {
      case "progress":
        pending?.onProgress(message.progress);
        break;
      case "done":
        this.#pending.delete(message.id);
        pending?.resolve(message.value);
        break;
      case "error": {
        const error = new MaskRcnnError(message.code, message.message);
        if (FATAL.has(error.code)) {
          this.#fail(error);
        } else {
          this.#pending.delete(message.id);
          pending?.reject(error);
        }
        break;
      }
      case "crash":
        this.#fail(new MaskRcnnError(message.code, message.message));
    }
  }

  #fail(error) {
    this.end(error);
    this.#resolveLost(error);
  }
}
