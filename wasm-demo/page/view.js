// Drawing a prediction: picture, outlines, names, list, times; singling out one object.

import { outline } from "./contours.js";

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** A class's colour: hues a golden angle apart, light enough for dark text. */
export const colour = (label) => `oklch(0.76 0.17 ${(label * 137.5 + 60) % 360})`;

const STAGES = [
  ["prepare", "Resize and normalise", "#8f83f7"],
  ["boxes", "Backbone and boxes", "#3fb6a8"],
  ["masks", "Mask head and pasting", "#f2a65a"],
  ["paste", "Bitmaps", "#e0699f"],
];

/** Shows the picture's pixels, scaled to the frame. */
export function showPicture(image) {
  const canvas = $("picture");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("overlay").setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  $("figure").hidden = false;
  $("invitation").hidden = true;
  $("drop").classList.remove("empty");
  fit();
}

/** As large as the frame allows, small pictures enlarged. */
export function fit() {
  const { width, height } = $("picture");
  const room = $("drop").clientWidth;
  const tall = Math.max(280, Math.min(innerHeight * 0.74, 760));
  const scale = Math.min(room / width, tall / height);
  $("picture").style.width = `${Math.floor(width * scale)}px`;
  $("picture").style.height = `${Math.floor(height * scale)}px`;
  keepChipsInside();
}
addEventListener("resize", fit);

/** What `showDetections` shows for a detection; outlines are traced once. */
export function traced(detection) {
  detection.path ??= outline(detection.mask.bitmap);
  return detection.path;
}

/** Draws detections, best first, over the picture and lists them. */
export function showDetections(detections, { width, height }) {
  // The best lies on top, so that pointing finds it.
  const groups = detections.map((found, index) => {
    const group = document.createElementNS(SVG, "g");
    const path = document.createElementNS(SVG, "path");
    const [x1, y1, x2, y2] = found.box;
    const rect = document.createElementNS(SVG, "rect");
    path.setAttribute("d", traced(found));
    for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) {
      rect.setAttribute(key, Math.max(0, value));
    }
    group.append(path, rect);
    return mark(group, found, index);
  });
  $("overlay").replaceChildren(...groups.reverse());
  const chips = detections.map((found, index) => {
    const chip = document.createElement("span");
    chip.textContent = `${found.name} ${found.score.toFixed(2)}`;
    const [x1, y1] = found.box;
    chip.style.left = `${(100 * Math.max(0, x1)) / width}%`;
    chip.style.top = `${(100 * Math.max(0, y1)) / height}%`;
    chip.classList.toggle("inside", y1 < height * 0.06);
    return mark(chip, found, index);
  });
  $("chips").replaceChildren(...chips.reverse());
  keepChipsInside();
  list(detections);
}

/** Names at the right border move to the left until they are whole. */
function keepChipsInside() {
  const room = $("chips").clientWidth;
  const chips = [...$("chips").children];
  for (const chip of chips) chip.style.marginLeft = "0";
  const beyond = chips.map((chip) => chip.offsetLeft + chip.offsetWidth - room);
  for (const [i, chip] of chips.entries()) chip.style.marginLeft = `${-Math.max(0, beyond[i])}px`;
}

function mark(element, found, index) {
  element.style.setProperty("--c", colour(found.label));
  element.dataset.index = index;
  return element;
}

function list(detections) {
  const items = detections.map((found, index) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.setAttribute("aria-label", `${found.name}, score ${found.score.toFixed(2)}`);
    const swatch = document.createElement("i");
    const name = document.createElement("span");
    name.textContent = found.name;
    const meter = document.createElement("meter");
    meter.value = found.score;
    meter.ariaHidden = "true";
    const score = document.createElement("span");
    score.textContent = found.score.toFixed(2);
    button.append(swatch, name, meter, score);
    item.append(mark(button, found, index));
    return item;
  });
  $("objects").replaceChildren(...items);
  $("count").textContent = detections.length;
  $("no-objects").hidden = detections.length > 0;
  $("no-objects").textContent = "Nothing with this score in the picture.";
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

/** Singles out one object everywhere it is shown; `null` shows all again. */
export function single(index) {
  document.body.classList.toggle("singled", index !== null);
  for (const element of document.querySelectorAll("[data-index]")) {
    element.classList.toggle("single", Number(element.dataset.index) === index && index !== null);
  }
}

/** Pointing at a mask or a list entry, or walking the list with the arrow keys, singles it out. */
export function listenForSingles() {
  for (const root of [$("overlay"), $("objects")]) {
    root.addEventListener("pointerover", ({ target }) => {
      const marked = target.closest("[data-index]");
      single(marked ? Number(marked.dataset.index) : null);
    });
    root.addEventListener("pointerleave", () => single(null));
  }
  $("objects").addEventListener("focusin", ({ target }) => single(Number(target.dataset.index)));
  $("objects").addEventListener("focusout", () => single(null));
  $("objects").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...$("objects").querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement) + step;
    buttons[(place + buttons.length) % buttons.length]?.focus();
  });
}

/** Times of the stages as a bar and in numbers; `fps` for moving pictures. */
export function showTimings(timings, fps) {
  $("total").textContent = fps ? `${fps.toFixed(1)} pictures/s` : duration(timings.total);
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
