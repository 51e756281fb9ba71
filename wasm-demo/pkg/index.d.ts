/** What runs the tensors. */
export type Backend = "webgpu" | "cpu";

/** How far loading has come. */
export type Progress =
  /** Bytes of the weights; `total` is absent where the server does not say. */
  | { stage: "download"; loaded: number; total?: number; cached?: boolean }
  /** The WebAssembly module is fetched and compiled. */
  | { stage: "code" }
  /** The weights are read and go to the device. */
  | { stage: "read" }
  /** One run on a grey picture, which compiles the kernels. */
  | { stage: "compile" }
  | { stage: "ready" };

export interface LoadOptions {
  /**
   * `auto` (default) takes WebGPU where there is a GPU for it and it works, else the processor;
   * `webgpu` fails where there is none, and takes a software adapter too.
   */
  backend?: "auto" | Backend;
  /** Changes to the configuration stored in the weights, e.g. `["image.min_size=320"]`. */
  overrides?: string[];
  /** Whether weights from a URL are kept in the Cache API. Default: true. */
  cache?: boolean;
  /** Stands for the weights in errors. Default: the file's name. */
  name?: string;
  onProgress?: (progress: Progress) => void;
}

export interface PredictOptions {
  /** Detections with a lower score are left out before their masks are computed. Default: 0.5. */
  scoreThreshold?: number;
  /** At most this many, the best. Default: 100; the weights' configuration sets a limit too. */
  maxDetections?: number;
}

export interface ClassInfo {
  /** 1 and up; 0 is the background. */
  label: number;
  /** COCO category id. */
  id: number;
  name: string;
}

/** COCO's compressed run lengths, column by column. */
export interface Rle {
  /** Height and width of the picture in pixels. */
  size: [number, number];
  counts: string;
}

/** The smallest window of the picture that holds the mask. */
export interface MaskBitmap {
  x: number;
  y: number;
  width: number;
  height: number;
  /** 1 where the object is and 0 elsewhere, `width * height`, row by row. */
  data: Uint8Array<ArrayBuffer>;
}

export interface Detection {
  /** `[x1, y1, x2, y2]` in pixels of the picture; right and bottom edges are exclusive. */
  box: [number, number, number, number];
  label: number;
  /** COCO category id. */
  categoryId: number;
  name: string;
  /** In 0..1. */
  score: number;
  mask: { rle: Rle; bitmap: MaskBitmap };
}

/** Milliseconds a stage. */
export interface Timings {
  /** Resizing and normalising on the processor. */
  prepare: number;
  /** Backbone, proposals and box head, until the boxes are read. */
  boxes: number;
  /** Mask head and pasting, until the masks are read. */
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
  /** Not what the function takes. */
  | "argument"
  /** The weights could not be fetched. */
  | "download"
  /** Not weights of this project, damaged ones, or ones that do not fit their configuration. */
  | "weights"
  /** Not a picture that the browser reads. */
  | "picture"
  /** WebGPU was asked for and is not there. */
  | "no-webgpu"
  /** The GPU refused the work. */
  | "gpu"
  /** The tab or the GPU has not enough memory. The model has ended. */
  | "out-of-memory"
  /** The GPU went away (driver restart, sleep, another tab). The model has ended. */
  | "device-lost"
  /** The worker or the module ended. The model has ended. */
  | "crashed"
  /** `dispose` was called. */
  | "disposed"
  | "failed";

export class MaskRcnnError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string);
}

/** A loaded model in a worker of its own. */
export class MaskRcnn {
  private constructor();

  /**
   * Loads weights that `mrcnn-cli train` or `mrcnn-cli convert` wrote, f32 or f16.
   * @throws {MaskRcnnError}
   */
  static load(source: string | URL | ArrayBuffer | Uint8Array | Blob, options?: LoadOptions): Promise<MaskRcnn>;

  /** What was taken. */
  readonly backend: Backend;
  /** Why, in words. */
  readonly reason: string;
  /** The GPU's name, as far as the browser tells. */
  readonly adapter?: string;
  readonly classes: ClassInfo[];
  /** Pictures are resized so that the shorter side is `min` and the longer at most `max` pixels. */
  readonly inputSize: { min: number; max: number };
  /** Resolves when the model has ended by itself: GPU lost, out of memory, crashed. */
  readonly lost: Promise<MaskRcnnError>;

  /**
   * The detections of one picture. Calls wait for each other.
   * @throws {MaskRcnnError}
   */
  predict(image: ImageData, options?: PredictOptions): Promise<Prediction>;

  /** Ends the worker and frees its memory. */
  dispose(): void;
}

/**
 * The pixels of a file, an element or a video frame, EXIF orientation applied.
 * @throws {MaskRcnnError} with the code `picture`
 */
export function toImageData(
  source: ImageBitmapSource,
  options?: {
    /** Larger pictures are shrunk to this longer side. */
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

/** Forgets all weights that `load` stored. */
export function clearWeightsCache(): Promise<void>;
