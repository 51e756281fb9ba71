//! Stages around the model: from images to a batch, and from masks to the original images.

use super::{PredictError, Predictor};
use crate::boxes::{self, Bbox};
use crate::config::ImageConfig;
use crate::detection::Detection;
use crate::image::paste::paste_to_rle;
use crate::image::transform::{Planes, stack_at_least};
use crate::model::{Detections, MASKS_AT_ONCE, MaskRcnn};
use burn::tensor::{Device, Tensor, TensorData};

/// `(height, width)` of a prepared image and of the original.
pub type ImageSizes = ((u32, u32), (u32, u32));

/// Probability from which a pixel belongs to the object.
pub const MASK_THRESHOLD: f32 = 0.5;

impl Predictor {
    /// The model, for running its stages separately. On GPUs they cast weights and fold norms in every call;
    /// [`Self::predict`] uses weights that were prepared once.
    pub fn model(&self) -> &MaskRcnn {
        &self.model
    }

    /// Prepared images as the input of the model: padded to one size, `[n, 3, h, w]`, and the `(height, width)` of each
    /// without padding.
    pub fn input(&self, planes: &[Planes]) -> (Tensor<4>, Vec<(u32, u32)>) {
        input(planes, &self.config.image, &self.device)
    }

    /// Detections in pixels of the original images, with masks pasted on the device; one read with a bit per
    /// pixel of the boxes. `sizes` are those of the prepared and of the original images.
    pub async fn paste(
        &self,
        detections: Detections,
        sizes: &[ImageSizes],
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let mut found: Vec<Vec<Detection>> = sizes.iter().map(|_| Vec::new()).collect();
        let boxes = detections.boxes.chunks(MASKS_AT_ONCE);
        for (boxes, masks) in boxes.zip(detections.masks) {
            let places = boxes.iter().map(|(image, scored)| {
                let (resized, original) = sizes[*image];
                (boxes::resize(&scored.bbox, resized, original), original)
            });
            let places: Vec<(Bbox, (u32, u32))> = places.collect();
            let masks = paste_to_rle(masks, &places, MASK_THRESHOLD).await?;
            for (((image, scored), (bbox, _)), mask) in boxes.iter().zip(places).zip(masks) {
                found[*image].push(Detection {
                    bbox,
                    label: scored.label,
                    score: scored.score,
                    mask,
                });
            }
        }
        Ok(found)
    }
}

/// See [`Predictor::input`].
pub(crate) fn input(
    planes: &[Planes],
    image: &ImageConfig,
    device: &Device,
) -> (Tensor<4>, Vec<(u32, u32)>) {
    let references: Vec<&Planes> = planes.iter().collect();
    let (values, shape) = stack_at_least(&references, image.size_divisor, image.smallest_batch());
    let sizes = planes.iter().map(|p| (p.height as u32, p.width as u32));
    let images = Tensor::from_data(TensorData::new(values, shape), device);
    (images, sizes.collect())
}
