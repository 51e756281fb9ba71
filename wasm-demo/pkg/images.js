// Conversion of images to pixels and of detections to COCO records.

import { MaskRcnnError } from "./errors.js";

/**
 * The pixels of a file, an element or a video frame, with EXIF orientation applied and colors as stored.
 * Images with a longer side than `maxSide` are resized.
 */
export async function toImageData(source, { maxSide = Infinity } = {}) {
  if (source instanceof ImageData) return source;
  let bitmap;
  try {
    bitmap = await createImageBitmap(source, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch (error) {
    const name = source?.name ?? "this";
    throw new MaskRcnnError("image", `${name} is not an image that this browser can read (${error.message})`);
  }
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** The detections in COCO's results format, as `mrcnn-cli predict --format json` writes them. */
export function toCoco(detections, { imageId = 1, fileName } = {}) {
  return detections.map(({ box: [x1, y1, x2, y2], categoryId, score, mask }) => ({
    image_id: imageId,
    category_id: categoryId,
    bbox: [x1, y1, x2 - x1, y2 - y1],
    score,
    segmentation: mask.rle,
    ...(fileName === undefined ? {} : { file_name: fileName }),
  }));
}
