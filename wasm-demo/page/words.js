// Messages about progress and errors.

const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const STAGES = {
  code: "Downloading and compiling the program",
  read: "Reading the weights",
  compile: "Compiling the kernels with a first run",
};

export function showProgress(progress) {
  const { stage, loaded, total, cached } = progress;
  $("loading").hidden = stage === "ready";
  const bar = $("loading-bar");
  bar.removeAttribute("value");
  $("loading-amount").textContent = "";
  if (stage === "download") {
    $("loading-text").textContent = cached ? "Weights from the browser cache" : "Downloading the weights";
    $("loading-amount").textContent = megabytes(loaded) + (total ? ` of ${megabytes(total)}` : "");
    if (total) bar.value = loaded / total;
  } else {
    $("loading-text").textContent = STAGES[stage] ?? "";
  }
}

const ADVICE = {
  argument: "Set a smaller side under Model.",
  "no-webgpu": "Choose “automatic” under Model to run on the CPU.",
  "out-of-memory": "Set a smaller side under Model, or close other tabs.",
  "device-lost": "",
  image: "Use PNG, JPEG, WebP or another format that your browser can show.",
  weights: "Use a .safetensors file of mrcnn-cli train or convert.",
  download: "Check the address and the connection. Another site must allow the download with CORS.",
  crashed: "Load the model again under Model.",
  gpu: "Set a smaller side under Model, or choose the CPU.",
};

const TITLE = {
  argument: "Invalid setting",
  "no-webgpu": "No WebGPU",
  "out-of-memory": "Out of memory",
  "device-lost": "The GPU was lost",
  image: "Not an image",
  weights: "Invalid weights",
  download: "The download failed",
  crashed: "The program crashed",
  gpu: "GPU error",
};

export function showError(error) {
  const title = TITLE[error.code] ?? "Error";
  const advice = ADVICE[error.code] ?? "";
  $("error-text").textContent = `${title}: ${error.message}. ${advice}`.trim();
  $("error").hidden = false;
  $("error").dataset.code = error.code ?? "";
}

export function hideError() {
  $("error").hidden = true;
}
