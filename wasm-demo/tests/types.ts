// Compiled by types.test.mjs.

import { MaskRcnn, MaskRcnnError, toCoco, toImageData, type Detection, type Progress } from "../pkg/index.js";

const show = (progress: Progress) =>
  console.log(progress.stage === "download" ? `${progress.loaded} of ${progress.total ?? "?"}` : progress.stage);

export async function detect(file: File): Promise<string> {
  const model = await MaskRcnn.load(new URL("https://example.org/best.safetensors"), {
    backend: "auto",
    overrides: ["image.min_size=320"],
    onProgress: show,
  });
  const image: ImageData = await toImageData(file, { maxSide: 2000 });
  const { detections, timings } = await model.predict(image, { scoreThreshold: 0.5, maxDetections: 3 });
  const best: Detection | undefined = detections[0];
  const cells: number = best ? best.mask.bitmap.data.length + best.mask.rle.size[0] : timings.total;
  try {
    return JSON.stringify(toCoco(detections, { imageId: cells }));
  } catch (error) {
    return error instanceof MaskRcnnError && error.code === "weights" ? error.message : "";
  } finally {
    model.dispose();
  }
}

// @ts-expect-error There is no such backend.
MaskRcnn.load("weights", { backend: "cuda" });
