// Live prediction from a camera, one frame at a time.

import { toImageData } from "./mrcnn-web/index.js";

/** Longer side of frames in pixels; larger frames are resized. */
const SIDE = 640;

export class Webcam {
  #video;

  get isOn() {
    return Boolean(this.#video);
  }

  /**
   * Runs until `stop` is called, and awaits `onFrame(image)` for each frame.
   * @throws {Error} if there is no camera or access is denied
   */
  async run(onFrame) {
    const video = document.createElement("video");
    const constraints = { facingMode: "environment", width: { ideal: SIDE } };
    if (!navigator.mediaDevices) throw new Error("cameras need https:// or localhost");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: constraints });
    video.muted = video.playsInline = true;
    this.#video = video;
    try {
      await video.play();
      while (this.#video === video) {
        await onFrame(await toImageData(video, { maxSide: SIDE }));
        // Pauses while the tab is hidden.
        await new Promise(requestAnimationFrame);
      }
    } finally {
      for (const track of video.srcObject.getTracks()) track.stop();
      if (this.#video === video) this.#video = undefined;
    }
  }

  stop() {
    this.#video = undefined;
  }
}
