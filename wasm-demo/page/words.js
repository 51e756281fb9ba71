// Progress and errors in words.

const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const STAGES = {
  code: "Fetching and compiling the program",
  read: "Reading the weights",
  compile: "Compiling the kernels: one trial run",
};

export function showProgress(progress) {
  const { stage, loaded, total, cached } = progress;
  $("loading").hidden = stage === "ready";
  const bar = $("loading-bar");
  bar.removeAttribute("value");
  $("loading-amount").textContent = "";
  if (stage === "download") {
    $("loading-text").textContent = cached ? "Weights found in this browser" : "Downloading the weights";
    $("loading-amount").textContent = megabytes(loaded) + (total ? ` of ${megabytes(total)}` : "");
    if (total) bar.value = loaded / total;
  } else {
    $("loading-text").textContent = STAGES[stage] ?? "";
  }
}

const ADVICE = {
  "no-webgpu": "Choose “whatever is best here” under Model to run on the processor.",
  "out-of-memory": "Try a smaller side under Model, or close other tabs.",
  "device-lost": "",
  picture: "PNG, JPEG, WebP and what else your browser shows can be used.",
  weights: "Weights are .safetensors files that mrcnn-cli train or convert wrote.",
  download: "Check the address and the connection; another site must allow it by CORS.",
  crashed: "Load the model again under Model.",
  gpu: "Try a smaller side under Model, or the processor.",
};

const TITLE = {
  "no-webgpu": "No WebGPU",
  "out-of-memory": "Out of memory",
  "device-lost": "The GPU was lost",
  picture: "Not a picture",
  weights: "These weights cannot be used",
  download: "The download failed",
  crashed: "The program ended",
  gpu: "The GPU refused",
};

export function showError(error) {
  const title = TITLE[error.code] ?? "Something failed";
  const advice = ADVICE[error.code] ?? "";
  $("error-text").textContent = `${title}: ${error.message}. ${advice}`.trim();
  $("error").hidden = false;
  $("error").dataset.code = error.code ?? "";
}

export function hideError() {
  $("error").hidden = true;
}
