// Downloads: the overlay as PNG, the detections as COCO JSON.

import { toCoco } from "./mrcnn-web/index.js";
import { color, outlinePath } from "./view.js";

/** Longest side of a saved overlay in pixels; small images are enlarged to a third of it. */
const LONGEST = 2400;

export async function saveOverlay(image, detections, name) {
  const longer = Math.max(image.width, image.height);
  const scale = Math.min(Math.max(1, LONGEST / 3 / longer), LONGEST / longer);
  const [width, height] = [image.width, image.height].map((side) => Math.round(side * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(await createImageBitmap(image), 0, 0, width, height);
  const unit = Math.max(width, height) / 1000;
  for (const detection of [...detections].reverse()) {
    const path = new Path2D();
    path.addPath(new Path2D(outlinePath(detection)), new DOMMatrix().scale(scale));
    context.fillStyle = context.strokeStyle = color(detection.label);
    context.globalAlpha = 0.36;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
    context.lineWidth = 2.5 * unit;
    context.lineJoin = "round";
    context.stroke(path);
  }
  for (const detection of [...detections].reverse()) drawLabel(context, detection, scale, unit);
  download(await canvas.convertToBlob({ type: "image/png" }), `${name}.overlay.png`);
}

function drawLabel(context, detection, scale, unit) {
  const text = `${detection.name} ${detection.score.toFixed(2)}`;
  const size = 15 * unit;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = context.measureText(text).width + size;
  const height = size * 1.5;
  const x = Math.max(0, Math.min(detection.box[0] * scale, context.canvas.width - width));
  const y = Math.max(0, detection.box[1] * scale - height);
  context.fillStyle = color(detection.label);
  context.beginPath();
  context.roundRect(x, y, width, height, size * 0.35);
  context.fill();
  context.fillStyle = "#14101f";
  context.fillText(text, x + size / 2, y + size * 1.1);
}

export function saveCoco(detections, fileName, name) {
  const records = toCoco(detections, { fileName });
  const text = JSON.stringify(records, null, 1);
  download(new Blob([text], { type: "application/json" }), `${name}.coco.json`);
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
