//! WebAssembly bindings that the worker of the npm package `mrcnn-web` calls.
//!
//! The public interface is `index.js` of the package. All reads are asynchronous, because a worker cannot block on
//! its GPU.

mod device;
mod output;
mod panic;

use js_sys::Uint8ClampedArray;
use mrcnn_core::boxes::Bbox;
use mrcnn_core::image::RgbImage;
use mrcnn_core::image::transform::{Planes, prepare};
use mrcnn_core::model::{Features, ScoredBox};
use mrcnn_core::predict::PredictError;
use mrcnn_core::{Detection, Predictor};
use output::Timings;
use wasm_bindgen::prelude::*;

/// Maximum number of pixels of an image; the masks of larger images would not fit in the memory of a tab.
const MAX_PIXELS: u64 = 50_000_000;

/// Maximum side of an image in pixels, as in `image.min_size`.
const MAX_SIDE: u32 = 32_768;

unsafe extern "C" {
    /// Runs the constructors of statics: CubeCL registers its operations in them.
    fn __wasm_call_ctors();
}

/// Initializes the module.
#[wasm_bindgen(start)]
fn start() {
    // SAFETY: the linker defines it, and it is called once, before anything uses what it sets up. Without this call
    // the linker would call it at every entry into the module, which takes 3 ms each.
    unsafe { __wasm_call_ctors() };
    panic::report_to_console();
}

/// A loaded model.
#[wasm_bindgen]
pub struct Model {
    predictor: Predictor,
}

#[wasm_bindgen]
impl Model {
    /// Loads weights that `mrcnn-cli train` or `convert` wrote.
    ///
    /// `name` is the name of the file in errors; `backend` is `webgpu` or `cpu`; `overrides` change the
    /// configuration stored in the weights (`image.min_size=320`). An error of the overrides has the name
    /// `ConfigError`.
    pub async fn load(
        bytes: Vec<u8>,
        name: String,
        backend: String,
        overrides: Vec<String>,
    ) -> Result<Model, js_sys::Error> {
        let device = device::open(&backend).await?;
        let builder = Predictor::builder().weights(&bytes).name(name);
        let built = builder.overrides(overrides).device(&device).build();
        let predictor = built.map_err(|error| {
            let thrown = js_sys::Error::new(&error.to_string());
            if matches!(error, PredictError::Config(_)) {
                thrown.set_name("ConfigError");
            }
            thrown
        })?;
        Ok(Self { predictor })
    }

    /// Class names and category ids by label: index 0 is label 1.
    pub fn classes(&self) -> JsValue {
        output::classes(self.predictor.classes())
    }

    /// The shorter side that images are resized to, and the maximum of the longer side, in pixels.
    #[wasm_bindgen(js_name = inputSize)]
    pub fn input_size(&self) -> Vec<u32> {
        let image = &self.predictor.config().image;
        vec![image.min_size, image.max_size]
    }

    /// Runs every stage once on a gray image of `width x height` pixels, which compiles the kernels.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self, width: u32, height: u32) -> Result<(), JsError> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(JsError::new(&format!(
                "warm-up with {width}x{height} pixels; use sides of 1 to {MAX_SIDE}"
            )));
        }
        let gray = RgbImage::from_pixel(width, height, [128; 3].into());
        let planes = prepare(&gray, &self.predictor.config().image);
        let bbox: Bbox = [0.0, 0.0, planes.width as f32, planes.height as f32];
        let (features, _) = self.boxes(&planes).await?;
        // A gray image has no objects, so the mask head gets an artificial one.
        let object = ScoredBox {
            bbox,
            label: 1,
            score: 1.0,
        };
        let found = self
            .predictor
            .model()
            .detect_masks(&features, vec![vec![object]]);
        self.predictor
            .paste(found, &[sizes(&planes, &gray)])
            .await?;
        Ok(())
    }

    /// The detections of one image, best first.
    ///
    /// `rgba` has four bytes per pixel, row by row; transparency is ignored. Detections below `score_threshold` are
    /// dropped, and at most `max_detections` are returned.
    pub async fn predict(
        &self,
        rgba: Uint8ClampedArray,
        width: u32,
        height: u32,
        score_threshold: f32,
        max_detections: usize,
    ) -> Result<JsValue, JsError> {
        let mut timings = Timings::start();
        let image = rgb_image(&rgba, width, height)?;
        let planes = prepare(&image, &self.predictor.config().image);
        timings.end("prepare");
        let (features, mut boxes) = self.boxes(&planes).await?;
        boxes.retain(|found| found.score >= score_threshold);
        boxes.truncate(max_detections);
        timings.end("boxes");
        let found = self.predictor.model().detect_masks(&features, vec![boxes]);
        let found = self
            .predictor
            .paste(found, &[sizes(&planes, &image)])
            .await?;
        timings.end("masks");
        let detections: Vec<Detection> = found.into_iter().flatten().collect();
        let detections = output::detections(&detections, self.predictor.classes());
        timings.end("paste");
        Ok(output::result(detections, timings))
    }
}

impl Model {
    /// The boxes of a prepared image, best first, and the features that the mask head needs.
    async fn boxes(&self, planes: &Planes) -> Result<(Features, Vec<ScoredBox>), JsError> {
        let model = self.predictor.model();
        let (images, sizes) = self.predictor.input(std::slice::from_ref(planes));
        let features = model.features(images);
        let proposals = model.propose(&features, &sizes).await?;
        let boxes = model.detect_boxes(&features, proposals, &sizes).await?;
        Ok((features, boxes.into_iter().next().unwrap_or_default()))
    }
}

/// `(height, width)` of the resized and of the original image.
fn sizes(planes: &Planes, image: &RgbImage) -> ((u32, u32), (u32, u32)) {
    (
        (planes.height as u32, planes.width as u32),
        (image.height(), image.width()),
    )
}

fn rgb_image(rgba: &Uint8ClampedArray, width: u32, height: u32) -> Result<RgbImage, JsError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(JsError::new(&format!(
            "the image has {width}x{height} pixels; use an image of 1 pixel to {} megapixels",
            MAX_PIXELS / 1_000_000
        )));
    }
    if u64::from(rgba.length()) != 4 * pixels {
        return Err(JsError::new(&format!(
            "{width}x{height} pixels need {} bytes of RGBA, but the image has {}",
            4 * pixels,
            rgba.length()
        )));
    }
    let rgba = rgba.to_vec();
    let rgb = rgba.as_chunks::<4>().0.iter();
    let rgb = rgb.flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| JsError::new("the size of the image does not match its bytes"))
}
