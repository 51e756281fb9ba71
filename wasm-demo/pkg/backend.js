// Selection of a backend, with the reason. Runs in the worker, which may have less than the page's thread.

/** The GPU device in use, if any. Tests access it. */
globalThis.mrcnnDevice = undefined;

/**
 * @param {"auto" | "webgpu" | "cpu"} wanted
 * @returns {Promise<{ backend: "webgpu" | "cpu", reason: string, adapter?: string }>}
 * @throws {Error} if WebGPU was requested and is not available
 */
export async function choose(wanted) {
  if (wanted === "cpu") return { backend: "cpu", reason: "requested" };
  const result = await findAdapter();
  if (wanted === "webgpu") {
    if (!result.adapter) throw new Error(result.reason);
    return { backend: "webgpu", reason: "requested", adapter: result.name };
  }
  if (!result.adapter) return { backend: "cpu", reason: result.reason };
  if (result.isSoftware) {
    const reason = `the only WebGPU adapter is software (${result.name}), slower than the CPU itself`;
    return { backend: "cpu", reason };
  }
  return { backend: "webgpu", reason: "a GPU is available", adapter: result.name };
}

async function findAdapter() {
  if (!globalThis.isSecureContext) {
    return { reason: "WebGPU needs https:// or localhost" };
  }
  if (!navigator.gpu) return { reason: "this browser has no WebGPU" };
  let adapter = null;
  try {
    adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return { reason: `WebGPU failed (${error.message})` };
  }
  if (!adapter) return { reason: "WebGPU found no GPU" };
  const info = adapter.info ?? {};
  const name = info.description || [info.vendor, info.architecture].filter(Boolean).join(" ");
  const isSoftware = Boolean(info.isFallbackAdapter ?? adapter.isFallbackAdapter);
  return { adapter, name: name || "unnamed adapter", isSoftware };
}

/**
 * Watches every device that is opened after this call.
 *
 * @param {(info: GPUDeviceLostInfo) => void} onLost
 * @param {(error: GPUError) => void} onError errors that no error scope caught: invalid commands, out of memory
 */
export function watchDevices(onLost, onError) {
  if (typeof GPUAdapter === "undefined") return;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    globalThis.mrcnnDevice = device;
    device.lost.then(onLost);
    device.addEventListener("uncapturederror", ({ error }) => onError(error));
    return device;
  };
}
