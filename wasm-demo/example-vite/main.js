import { MaskRcnn, toImageData } from "mrcnn-web";

const status = document.getElementById("status");

const loading = MaskRcnn.load("shapes.safetensors", {
  onProgress: ({ stage }) => (status.textContent = stage),
});
loading.then(
  (model) => (status.textContent = `ready on ${model.backend}: ${model.reason}`),
  (error) => (status.textContent = `${error.code}: ${error.message}`),
);

document.getElementById("photo").addEventListener("change", async ({ target }) => {
  try {
    const model = await loading;
    const image = await toImageData(target.files[0]);
    const { detections, timings } = await model.predict(image, { scoreThreshold: 0.5 });
    const lines = detections.map(({ name, score, box }) => {
      const line = document.createElement("li");
      line.textContent = `${name} ${score.toFixed(2)} at ${box.map(Math.round).join(", ")}`;
      return line;
    });
    document.getElementById("objects").replaceChildren(...lines);
    status.textContent = `${detections.length} objects in ${timings.total.toFixed(0)} ms`;
  } catch (error) {
    status.textContent = `${error.code}: ${error.message}`;
  }
});
