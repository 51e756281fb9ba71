/** The backend that computes. */
export type Backend = "webgpu" | "cpu";

/** Progress of loading. */
export type Progress =
  /** Bytes of the weights; `total` is absent if the server does not send it. */
  | { stage: "download"; loaded: number; total?: number; cached?: boolean }
  /** Downloading and compiling the WebAssembly module. */
  | { stage: "code" }
  /** Reading the weights and uploading them to the device. */
  | { stage: "read" }
  /** One prediction on a gray image, which compiles the kernels. */
  | { stage: "compile" }
  | { stage: "ready" };

export interface LoadOptions {
  /**
   * `auto` (default) uses WebGPU if a GPU is available and works, and the CPU otherwise;
   * `webgpu` fails without an adapter, and accepts a software adapter.
   */
  backend?: "auto" | Backend;
  /** Changes to the configuration stored in the weights, e.g. `["image.min_size=320"]`. */
  overrides?: string[];
  /** Whether weights from a URL are stored in the Cache API. Default: true. */
  cache?: boolean;
  /** Name of the weights in errors. Default: the name of the file. */
  name?: string;
  onProgress?: (progress: Progress) => void;
}

export interface PredictOptions {
  /** Detections with a lower score are dropped before their masks are computed. Default: 0.5. */
  scoreThreshold?: number;
  /** Maximum number of detections, best first. Default: 100; the configuration of the weights has a limit as well. */
  maxDetections?: number;
}

export interface ClassInfo {
  /** From 1; 0 is the background. */
  label: number;
  /** COCO category id. */
  id: number;
  name: string;
}

/** COCO's compressed run lengths, column by column. */
export interface Rle {
  /** Height and width of the image in pixels. */
  size: [number, number];
  counts: string;
}

/** The bounding window of the mask in the image. */
export interface MaskBitmap {
  x: number;
  y: number;
  width: number;
  height: number;
  /** 1 for pixels of the object and 0 elsewhere, `width * height`, row by row. */
  data: Uint8Array<ArrayBuffer>;
}

export interface Detection {
  /** `[x1, y1, x2, y2]` in pixels of the image; right and bottom edges are exclusive. */
  box: [number, number, number, number];
  label: number;
  /** COCO category id. */
  categoryId: number;
  name: string;
  /** In 0..1. */
  score: number;
  mask: { rle: Rle; bitmap: MaskBitmap };
}

/** Milliseconds per stage. */
export interface Timings {
  /** Resize and normalization on the CPU. */
  prepare: number;
  /** Backbone, proposals and box head, including reading the boxes. */
  boxes: number;
  /** Mask head and paste, including reading the masks. */
  masks: number;
  /** Bitmaps and run lengths for JavaScript. */
  paste: number;
  total: number;
}

export interface Prediction {
  width: number;
  height: number;
  /** Best first. */
  detections: Detection[];
  timings: Timings;
}

export type ErrorCode =
  /** An invalid argument, or an override that the configuration does not allow. */
  | "argument"
  /** The weights could not be downloaded. */
  | "download"
  /** The file has no weights of this project, is damaged, or does not fit its configuration. */
  | "weights"
  /** Not an image that the browser can read. */
  | "image"
  /** WebGPU was requested and is not available. */
  | "no-webgpu"
  /** The GPU reported an error. */
  | "gpu"
  /** The tab or the GPU has not enough memory. The model has ended. */
  | "out-of-memory"
  /** The GPU was lost (driver restart, sleep, another tab). The model has ended. */
  | "device-lost"
  /** The worker or the module crashed. The model has ended. */
  | "crashed"
  /** `dispose` was called. */
  | "disposed"
  | "failed";

export class MaskRcnnError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string);
}

/** A loaded model in its own worker. */
export class MaskRcnn {
  private constructor();

  /**
   * Loads weights of `mrcnn-cli train` or `mrcnn-cli convert`, f32 or f16.
   * @throws {MaskRcnnError}
   */
  static load(source: string | URL | ArrayBuffer | Uint8Array | Blob, options?: LoadOptions): Promise<MaskRcnn>;

  /** The selected backend. */
  readonly backend: Backend;
  /** The reason for the selection, as text. */
  readonly reason: string;
  /** Name of the GPU, if the browser provides it. */
  readonly adapter?: string;
  readonly classes: ClassInfo[];
  /** Images are resized such that the shorter side is `min` and the longer side at most `max` pixels. */
  readonly inputSize: { min: number; max: number };
  /** Resolves when the model ends with a lost GPU, out of memory, or a crash. */
  readonly lost: Promise<MaskRcnnError>;

  /**
   * Predicts one image. Concurrent calls run one after the other.
   * @throws {MaskRcnnError}
   */
  predict(image: ImageData, options?: PredictOptions): Promise<Prediction>;

  /** Ends the worker and frees its memory. */
  dispose(): void;
}

/**
 * The pixels of a file, an element or a video frame, with EXIF orientation applied.
 * @throws {MaskRcnnError} with the code `image`
 */
export function toImageData(
  source: ImageBitmapSource,
  options?: {
    /** Images with a longer side than this are resized to it. */
    maxSide?: number;
  },
): Promise<ImageData>;

/** A record of COCO's results format. */
export interface CocoRecord {
  image_id: number;
  category_id: number;
  /** `[x, y, width, height]` in pixels. */
  bbox: [number, number, number, number];
  score: number;
  segmentation: Rle;
  file_name?: string;
}

/** Detections as `mrcnn-cli predict --format json` writes them. */
export function toCoco(detections: Detection[], options?: { imageId?: number; fileName?: string }): CocoRecord[];

/** Deletes all weights that `load` stored. */
export function clearWeightsCache(): Promise<void>;
