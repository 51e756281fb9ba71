// Display of a prediction: image, outlines, names, list, times, and selection of one object.

import { outline } from "./contours.js";

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** Color of a class: hues a golden angle apart, light enough for dark text. */
export const color = (label) => `oklch(0.76 0.17 ${(label * 137.5 + 60) % 360})`;

const STAGES = [
  ["prepare", "Resize and normalize", "#8f83f7"],
  ["boxes", "Backbone and boxes", "#3fb6a8"],
  ["masks", "Mask head and paste", "#f2a65a"],
  ["paste", "Bitmaps", "#e0699f"],
];

/** Shows an image, scaled to the frame. */
export function showImage(image) {
  const canvas = $("image");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("overlay").setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  $("figure").hidden = false;
  $("placeholder").hidden = true;
  $("drop").classList.remove("empty");
  fit();
}

/** Scales the image to the frame; small images are enlarged. */
export function fit() {
  const { width, height } = $("image");
  const maxWidth = $("drop").clientWidth;
  const maxHeight = Math.max(280, Math.min(innerHeight * 0.74, 760));
  const scale = Math.min(maxWidth / width, maxHeight / height);
  $("image").style.width = `${Math.floor(width * scale)}px`;
  $("image").style.height = `${Math.floor(height * scale)}px`;
  keepChipsInside();
}
addEventListener("resize", fit);

/** SVG path of the outline of a detection, computed once. */
export function outlinePath(detection) {
  detection.path ??= outline(detection.mask.bitmap);
  return detection.path;
}

/** Draws detections, best first, over the image and lists them. */
export function showDetections(detections, { width, height }) {
  // The best detection is on top, so that it gets the pointer.
  const groups = detections.map((detection, index) => {
    const group = document.createElementNS(SVG, "g");
    const path = document.createElementNS(SVG, "path");
    const [x1, y1, x2, y2] = detection.box;
    const rect = document.createElementNS(SVG, "rect");
    path.setAttribute("d", outlinePath(detection));
    for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) {
      rect.setAttribute(key, Math.max(0, value));
    }
    group.append(path, rect);
    return tag(group, detection, index);
  });
  $("overlay").replaceChildren(...groups.reverse());
  const chips = detections.map((detection, index) => {
    const chip = document.createElement("span");
    chip.textContent = `${detection.name} ${detection.score.toFixed(2)}`;
    const [x1, y1] = detection.box;
    chip.style.left = `${(100 * Math.max(0, x1)) / width}%`;
    chip.style.top = `${(100 * Math.max(0, y1)) / height}%`;
    chip.classList.toggle("inside", y1 < height * 0.06);
    return tag(chip, detection, index);
  });
  $("chips").replaceChildren(...chips.reverse());
  keepChipsInside();
  list(detections);
}

/** Moves name tags at the right border to the left until they are completely visible. */
function keepChipsInside() {
  const width = $("chips").clientWidth;
  const chips = [...$("chips").children];
  for (const chip of chips) chip.style.marginLeft = "0";
  const overflow = chips.map((chip) => chip.offsetLeft + chip.offsetWidth - width);
  for (const [i, chip] of chips.entries()) chip.style.marginLeft = `${-Math.max(0, overflow[i])}px`;
}

function tag(element, detection, index) {
  element.style.setProperty("--c", color(detection.label));
  element.dataset.index = index;
  return element;
}

function list(detections) {
  const items = detections.map((detection, index) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.setAttribute("aria-label", `${detection.name}, score ${detection.score.toFixed(2)}`);
    const swatch = document.createElement("i");
    const name = document.createElement("span");
    name.textContent = detection.name;
    const meter = document.createElement("meter");
    meter.value = detection.score;
    meter.ariaHidden = "true";
    const score = document.createElement("span");
    score.textContent = detection.score.toFixed(2);
    button.append(swatch, name, meter, score);
    item.append(tag(button, detection, index));
    return item;
  });
  $("objects").replaceChildren(...items);
  $("count").textContent = detections.length;
  $("no-objects").hidden = detections.length > 0;
  $("no-objects").textContent = "No detections above this score.";
  $("summary").textContent = summary(detections);
}

/** `3 objects: 2 circle, 1 star` */
function summary(detections) {
  const counts = new Map();
  for (const { name } of detections) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].map(([name, count]) => `${count} ${name}`);
  const noun = detections.length === 1 ? "object" : "objects";
  return `${detections.length} ${noun}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

/** Highlights one object in the image and in the list; `null` clears the selection. */
export function select(index) {
  document.body.classList.toggle("has-selection", index !== null);
  for (const element of document.querySelectorAll("[data-index]")) {
    element.classList.toggle("selected", Number(element.dataset.index) === index && index !== null);
  }
}

/** Selects an object by pointing at its mask or list entry, or with the arrow keys in the list. */
export function listenForSelection() {
  for (const root of [$("overlay"), $("objects")]) {
    root.addEventListener("pointerover", ({ target }) => {
      const tagged = target.closest("[data-index]");
      select(tagged ? Number(tagged.dataset.index) : null);
    });
    root.addEventListener("pointerleave", () => select(null));
  }
  $("objects").addEventListener("focusin", ({ target }) => select(Number(target.dataset.index)));
  $("objects").addEventListener("focusout", () => select(null));
  $("objects").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...$("objects").querySelectorAll("button")];
    const position = buttons.indexOf(document.activeElement) + step;
    buttons[(position + buttons.length) % buttons.length]?.focus();
  });
}

/** Shows the times of the stages as a bar and as numbers; `fps` is set for live video. */
export function showTimings(timings, fps) {
  $("total").textContent = fps ? `${fps.toFixed(1)} img/s` : duration(timings.total);
  const bars = STAGES.map(([key, , tint]) => {
    const span = document.createElement("span");
    span.style.cssText = `--c: ${tint}; flex: ${Math.max(timings[key], 0.01)}`;
    return span;
  });
  $("timing").replaceChildren(...bars);
  const lines = STAGES.flatMap(([key, title, tint]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = title;
    dt.style.setProperty("--c", tint);
    dd.textContent = duration(timings[key]);
    return [dt, dd];
  });
  $("timing-list").replaceChildren(...lines);
}

const duration = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`);
