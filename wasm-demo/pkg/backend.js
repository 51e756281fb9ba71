// Which backend, and why. Runs in the worker: what the page's thread has, a worker may lack.

/** The GPU device in use, once there is one. Tests reach for it. */
globalThis.mrcnnDevice = undefined;

/**
 * @param {"auto" | "webgpu" | "cpu"} wanted
 * @returns {Promise<{ backend: "webgpu" | "cpu", reason: string, adapter?: string }>}
 * @throws {Error} where WebGPU was asked for and is not there
 */
export async function choose(wanted) {
  if (wanted === "cpu") return { backend: "cpu", reason: "asked for" };
  const found = await findAdapter();
  if (wanted === "webgpu") {
    if (!found.adapter) throw new Error(found.reason);
    return { backend: "webgpu", reason: "asked for", adapter: found.name };
  }
  if (!found.adapter) return { backend: "cpu", reason: found.reason };
  if (found.isSoftware) {
    const reason = `the only WebGPU adapter is software (${found.name}), slower than the processor itself`;
    return { backend: "cpu", reason };
  }
  return { backend: "webgpu", reason: "a GPU is there", adapter: found.name };
}

async function findAdapter() {
  if (!globalThis.isSecureContext) {
    return { reason: "WebGPU needs https:// or localhost" };
  }
  if (!navigator.gpu) return { reason: "this browser offers no WebGPU" };
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
 * Watches every device that is opened from now on.
 *
 * @param {(info: GPUDeviceLostInfo) => void} onLost
 * @param {(error: GPUError) => void} onError errors that no scope caught: invalid work, no memory
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
