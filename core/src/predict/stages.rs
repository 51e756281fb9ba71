//! The two stages of a prediction: boxes, then their masks.

use super::found::{Found, MASK_THRESHOLD};
use super::{PredictError, Predictor};
use crate::boxes::{self, Bbox};
use crate::config::ImageConfig;
use crate::detection::Detection;
use crate::image::paste::paste_to_rle;
use crate::image::transform::{Planes, stack_at_least};
use crate::model::{PackedPyramid, ScoredBox, filter_proposals, mask_probabilities, postprocess};
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

/// Masks are predicted for this many detections at a time, which bounds their memory.
const MASKS_AT_ONCE: usize = 128;

/// `(height, width)` of a prepared picture and of the original.
pub type PictureSizes = ((u32, u32), (u32, u32));

impl Predictor {
    /// Boxes and mask probabilities in the pixels of prepared pictures.
    pub async fn detect(&self, planes: &[Planes]) -> Result<Vec<Vec<Found>>, PredictError> {
        if planes.is_empty() {
            return Ok(Vec::new());
        }
        let (packed, boxes) = self.find_boxes(planes).await?;
        self.find_masks(&packed, boxes).await
    }

    /// The first stage of [`Self::detect`]: the boxes of each of `planes`, best first, with the
    /// features that [`Self::find_masks`] needs. `planes` must not be empty.
    pub async fn find_boxes(
        &self,
        planes: &[Planes],
    ) -> Result<(PackedPyramid, Vec<Vec<ScoredBox>>), PredictError> {
        let (images, sizes) = input(planes, &self.config.image, &self.device);
        let [_, _, height, width] = images.dims();
        let padded = (height, width);
        let pyramid = self.model.pyramid(images);
        let packed = self.model.pack(&pyramid);
        let boxes = if self.model.selects_on_device(&self.device) {
            let found = self.model.detect(&pyramid, &packed, padded, &sizes);
            found.read().await?
        } else {
            let proposals = self.proposals(&pyramid, padded, &sizes).await?;
            self.scored_boxes(&packed, &proposals, &sizes).await?
        };
        Ok((packed, boxes))
    }

    async fn proposals(
        &self,
        pyramid: &[Tensor<4>],
        padded: (usize, usize),
        sizes: &[(u32, u32)],
    ) -> Result<Vec<Vec<Bbox>>, PredictError> {
        let rpn = &self.config.model.rpn;
        let output = self.model.propose(pyramid);
        let anchors = self.model.anchors(padded, &output.grids);
        let objectness = floats(output.objectness).await?;
        let deltas = floats(output.deltas).await?;
        let count = anchors.boxes.len();
        let limits = [rpn.pre_nms_test, rpn.post_nms_test];
        Ok(sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| {
                let objectness = &objectness[i * count..][..count];
                let deltas = &deltas[i * count * 4..][..count * 4];
                let kept = filter_proposals(objectness, deltas, &anchors, size, rpn, limits);
                kept.into_iter().map(|proposal| proposal.bbox).collect()
            })
            .collect())
    }

    async fn scored_boxes(
        &self,
        packed: &PackedPyramid,
        proposals: &[Vec<Bbox>],
        sizes: &[(u32, u32)],
    ) -> Result<Vec<Vec<ScoredBox>>, PredictError> {
        let rois: Vec<(usize, Bbox)> = proposals
            .iter()
            .enumerate()
            .flat_map(|(image, boxes)| boxes.iter().map(move |&bbox| (image, bbox)))
            .collect();
        if rois.is_empty() {
            return Ok(vec![Vec::new(); proposals.len()]);
        }
        let (logits, deltas) = self.model.boxes(packed, &rois);
        let classes = logits.dims()[1];
        let (logits, deltas) = (floats(logits).await?, floats(deltas).await?);
        let mut first = 0;
        Ok(proposals
            .iter()
            .zip(sizes)
            .map(|(rois, &size)| {
                let logits = &logits[first * classes..][..rois.len() * classes];
                let deltas = &deltas[first * classes * 4..][..rois.len() * classes * 4];
                first += rois.len();
                postprocess(logits, deltas, rois, size, &self.config.model.roi)
            })
            .collect())
    }

    /// The second stage of [`Self::detect`]: the masks of `boxes`, which may be fewer than were
    /// found (better scores, say). Where a picture has none, nothing is computed for it.
    pub async fn find_masks(
        &self,
        packed: &PackedPyramid,
        boxes: Vec<Vec<ScoredBox>>,
    ) -> Result<Vec<Vec<Found>>, PredictError> {
        let mut found: Vec<Vec<Found>> = boxes.iter().map(|_| Vec::new()).collect();
        for some in with_pictures(boxes).chunks(MASKS_AT_ONCE) {
            let masks = self.mask_probabilities(packed, some);
            let side = masks.dims()[1];
            let masks = floats(masks).await?;
            for ((image, scored), mask) in some.iter().zip(masks.chunks(side * side)) {
                found[*image].push(Found {
                    scored: *scored,
                    mask: mask.to_vec(),
                    side,
                });
            }
        }
        Ok(found)
    }

    /// The second stage of a prediction: the detections of `boxes` (see [`Self::find_masks`]), their
    /// masks pasted on the device; `sizes` are those of the prepared and of the original pictures,
    /// `(height, width)`. What is read is a bit a pixel of the boxes.
    pub async fn find_detections(
        &self,
        packed: &PackedPyramid,
        boxes: Vec<Vec<ScoredBox>>,
        sizes: &[PictureSizes],
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let mut found: Vec<Vec<Detection>> = boxes.iter().map(|_| Vec::new()).collect();
        for some in with_pictures(boxes).chunks(MASKS_AT_ONCE) {
            let masks = self.mask_probabilities(packed, some);
            let places = some.iter().map(|(image, scored)| {
                let (resized, original) = sizes[*image];
                (boxes::resize(&scored.bbox, resized, original), original)
            });
            let places: Vec<(Bbox, (u32, u32))> = places.collect();
            let masks = paste_to_rle(masks, &places, MASK_THRESHOLD).await?;
            for (((image, scored), (bbox, _)), mask) in some.iter().zip(places).zip(masks) {
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

    /// Of each box its label's mask, `[boxes, side, side]`.
    fn mask_probabilities(
        &self,
        packed: &PackedPyramid,
        boxes: &[(usize, ScoredBox)],
    ) -> Tensor<3> {
        let rois: Vec<(usize, Bbox)> = boxes.iter().map(|(i, b)| (*i, b.bbox)).collect();
        let labels: Vec<usize> = boxes.iter().map(|(_, b)| b.label).collect();
        mask_probabilities(self.model.masks(packed, &rois), &labels)
    }
}

/// Pictures padded to one size, `[n, 3, h, w]`, and the `(height, width)` of each within.
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

/// Each box with the index of its picture.
fn with_pictures(boxes: Vec<Vec<ScoredBox>>) -> Vec<(usize, ScoredBox)> {
    let pictures = boxes.into_iter().enumerate();
    let of_picture = |(image, boxes): (usize, Vec<ScoredBox>)| {
        boxes.into_iter().map(move |scored| (image, scored))
    };
    pictures.flat_map(of_picture).collect()
}

async fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecutionError> {
    Ok(tensor.into_data_async().await?.iter::<f32>().collect())
}
