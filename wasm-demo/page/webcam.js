// Live masks from a camera: a frame, its masks, the next frame.

import { toImageData } from "./mrcnn-web/index.js";

/** Frames are shrunk to this longer side. */
const SIDE = 640;

export class Webcam {
  #video;

  get isOn() {
    return Boolean(this.#video);
  }

  /**
   * Runs until `stop`; calls `onFrame(image)` and waits for it.
   * @throws {Error} where there is no camera or it is not allowed
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
        // In a hidden tab this waits until somebody looks.
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
