// The page: loading, prediction and controls.

import { MaskRcnn, MaskRcnnError, clearWeightsCache, toImageData } from "./mrcnn-web/index.js";
import { saveCoco, saveOverlay } from "./save.js";
import { fit, listenForSelection, showDetections, showImage, showTimings } from "./view.js";
import { Webcam } from "./webcam.js";
import { hideError, showError, showProgress } from "./words.js";

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const EXAMPLES = ["examples/1.webp", "examples/2.webp", "examples/3.webp"];
/** Scores below the slider are computed as well, so that moving it needs no new run. */
const COMPUTED_SCORE = 0.3;

const state = {
  /** Resolves to the current model. */
  model: null,
  /** The current image, its name, its prediction, and the score threshold of that prediction. */
  image: null,
  name: "image",
  prediction: null,
  computed: 1,
  /** Counts runs, so that a late result for an old image is not shown. */
  run: 0,
};
const webcam = new Webcam();

function load(weights, options = {}) {
  const size = Number($("size").value);
  const overrides = size ? [`image.min_size=${size}`, `image.max_size=${Math.round((size * 5) / 3)}`] : [];
  const backend = options.backend ?? $("choose-backend").value;
  const old = state.model;
  state.source = weights;
  state.model = (async () => {
    (await old?.catch(() => null))?.dispose();
    const model = await MaskRcnn.load(weights, { backend, overrides, onProgress: showProgress });
    describe(model);
    model.lost.then((error) => recover(model, error));
    return model;
  })();
  state.model.catch((error) => {
    showProgress({ stage: "ready" });
    showError(error);
    $("backend").hidden = true;
  });
  return state.model;
}

function describe(model) {
  const names = { webgpu: "WebGPU", cpu: "CPU, WebAssembly SIMD" };
  $("backend").textContent = names[model.backend] + (model.adapter ? ` · ${model.adapter}` : "");
  $("backend").title = model.reason;
  $("backend").dataset.backend = model.backend;
  $("backend").hidden = false;
  const { min, max } = model.inputSize;
  const classes = model.classes.map(({ name }) => name);
  const listed = classes.slice(0, 8).join(", ") + (classes.length > 8 ? ", …" : "");
  $("model-facts").textContent =
    `${names[model.backend]}: ${model.reason}. ${classes.length} classes (${listed}). ` +
    `Images are resized to ${min} px on the shorter side, at most ${max} px on the longer side.`;
}

/** After a lost GPU: loads the same weights on the CPU and predicts the image again. */
async function recover(model, error) {
  if ((await state.model.catch(() => null)) !== model) return;
  showError(error);
  if (error.code !== "device-lost") return;
  $("error-text").textContent += " Loading again on the CPU.";
  await load(state.source, { backend: "cpu" }).catch(() => null);
  if (!webcam.isOn) predict();
}

/** Predicts the current image. */
async function predict(fps) {
  const { image } = state;
  if (!image) return;
  const run = ++state.run;
  $("busy").hidden = false;
  try {
    const model = await state.model;
    const score = Number($("score").value);
    // Live video computes no detections below the slider, to save time.
    const scoreThreshold = webcam.isOn ? score : Math.min(score, COMPUTED_SCORE);
    const prediction = await model.predict(image, { scoreThreshold });
    if (run !== state.run) return;
    if (webcam.isOn) showImage(image);
    state.prediction = prediction;
    state.computed = scoreThreshold;
    showTimings(prediction.timings, fps);
    refresh();
    document.body.dataset.done = run;
  } catch (error) {
    if (run === state.run && error.code !== "disposed" && error.code !== "device-lost") showError(error);
    if (webcam.isOn) throw error;
  } finally {
    if (run === state.run) $("busy").hidden = true;
  }
}

const visibleDetections = () => {
  const score = Number($("score").value);
  return (state.prediction?.detections ?? []).filter((detection) => detection.score >= score);
};

function refresh() {
  if (!state.prediction) return;
  showDetections(visibleDetections(), state.prediction);
  $("save-overlay").disabled = $("save-coco").disabled = false;
}

async function open(source, name) {
  webcam.stop();
  hideError();
  try {
    const image = await toImageData(source);
    state.image = image;
    state.name = name;
    state.prediction = null;
    showDetections([], image);
    $("no-objects").textContent = "Predicting …";
    showImage(image);
    for (const button of $("examples").children) button.ariaCurrent = String(button.dataset.url === name);
    await predict();
  } catch (error) {
    showError(error);
  }
}

function openFile(file) {
  if (!file) return;
  if (!file.type.startsWith("image/") && file.name.endsWith(".safetensors")) loadAndPredict(file);
  else open(file, file.name);
}

async function openUrl(url) {
  const response = await fetch(url).catch((error) => ({ ok: false, status: error.message }));
  if (!response.ok) return showError(new MaskRcnnError("download", `${url}: ${response.status}`));
  return open(await response.blob(), url);
}

async function loadAndPredict(weights) {
  hideError();
  await load(weights).then(() => predict(), () => null);
}

function listenForImages() {
  $("file").addEventListener("change", ({ target }) => {
    openFile(target.files[0]);
    target.value = "";
  });
  const drop = $("drop");
  for (const type of ["dragenter", "dragover"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const type of ["dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.remove("over");
    });
  }
  document.addEventListener("drop", (event) => openFile(event.dataTransfer.files[0]));
  document.addEventListener("paste", (event) => openFile(event.clipboardData.files[0]));
  for (const [index, url] of EXAMPLES.entries()) {
    const button = document.createElement("button");
    button.dataset.url = url;
    button.ariaLabel = `Example ${index + 1}`;
    const image = document.createElement("img");
    image.src = url;
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => openUrl(url));
    $("examples").append(button);
  }
}

function listenForWebcam() {
  const button = $("webcam");
  button.addEventListener("click", async () => {
    if (webcam.isOn) return webcam.stop();
    hideError();
    let last = performance.now();
    let fps;
    const onFrame = async (image) => {
      state.image = image;
      state.name = "webcam";
      await predict(fps ?? 0.1);
      const now = performance.now();
      fps = 1000 / (now - last);
      last = now;
    };
    button.ariaPressed = "true";
    button.textContent = "Stop";
    await webcam.run(onFrame).catch((error) => {
      if (!error.code || typeof error.code === "number") showError(new MaskRcnnError("camera", `no camera: ${error.message}`));
    });
    button.ariaPressed = "false";
    button.textContent = "Webcam";
  });
}

function listenForControls() {
  const score = $("score");
  score.addEventListener("input", () => {
    $("score-value").textContent = Number(score.value).toFixed(2);
    refresh();
  });
  score.addEventListener("change", () => {
    if (Number(score.value) < state.computed && !webcam.isOn) predict();
  });
  const stem = () => state.name.split("/").pop().replace(/\.[^.]+$/, "");
  $("save-overlay").addEventListener("click", () => saveOverlay(state.image, visibleDetections(), stem()));
  $("save-coco").addEventListener("click", () => saveCoco(visibleDetections(), state.name, stem()));
  $("error-close").addEventListener("click", hideError);
  $("clear-cache").addEventListener("click", () => clearWeightsCache());
  $("model-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const weights = $("weights-file").files[0] ?? ($("weights-url").value || state.source);
    loadAndPredict(weights);
  });
}

/** The weights that the address names. Those of another site are downloaded only if the user agrees. */
function linkedWeights() {
  const linked = parameters.get("weights");
  if (!linked || !URL.canParse(linked, location.href)) return linked;
  const { origin, host } = new URL(linked, location.href);
  if (origin === location.origin) return linked;
  const question = `This link loads weights from ${host}. Download and use them?`;
  return confirm(question) ? linked : null;
}

$("choose-backend").value = parameters.get("backend") ?? "auto";
$("size").value = parameters.get("size") ?? "";
listenForImages();
listenForWebcam();
listenForControls();
listenForSelection();
fit();
load(linkedWeights() ?? "model/shapes.safetensors").catch(() => null);
if (parameters.get("image")) openUrl(parameters.get("image"));
