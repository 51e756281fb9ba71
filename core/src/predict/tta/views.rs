//! Detection in several views of an image.

use super::settings::{TtaSettings, scaled};
use super::vote::{self, Candidate};
use crate::boxes::{self, Bbox};
use crate::detection::Detection;
use crate::image::transform::prepare;
use crate::model::{Detections, Features, ScoredBox};
use crate::predict::error::PredictError;
use crate::predict::predictor::Predictor;
use crate::predict::stages::input;
use ::image::RgbImage;
use ::image::imageops::flip_horizontal;
use burn::tensor::Tensor;

/// A view whose boxes were detected.
struct View {
    features: Features,
    /// Height and width of the resized image.
    size: (u32, u32),
    is_flipped: bool,
}

impl View {
    /// A box of this view in pixels of an unflipped view of size `frame`.
    fn to_frame(&self, bbox: Bbox, frame: (u32, u32)) -> Bbox {
        boxes::resize(&self.upright(bbox), self.size, frame)
    }

    /// The inverse of [`Self::to_frame`].
    fn in_view(&self, bbox: Bbox, frame: (u32, u32)) -> Bbox {
        self.upright(boxes::resize(&bbox, frame, self.size))
    }

    /// Mirrors the box if the view is flipped; its own inverse.
    fn upright(&self, [x1, y1, x2, y2]: Bbox) -> Bbox {
        let width = self.size.1 as f32;
        match self.is_flipped {
            true => [width - x2, y1, width - x1, y2],
            false => [x1, y1, x2, y2],
        }
    }
}

impl Predictor {
    /// Detections in pixels of the image, from the views of `settings`. The features of all views are in memory.
    pub(in crate::predict) async fn detect_in_views(
        &self,
        image: &RgbImage,
        settings: &TtaSettings,
    ) -> Result<Vec<Detection>, PredictError> {
        let mirrored = settings.flip.then(|| flip_horizontal(image));
        let (mut views, mut candidates) = (Vec::new(), Vec::new());
        for (scale, is_flipped) in settings.views() {
            let config = scaled(&self.config.image, scale);
            let image = match &mirrored {
                Some(mirrored) if is_flipped => mirrored,
                _ => image,
            };
            let (batch, sizes) = input(&[prepare(image, &config)], &config, &self.device);
            let model = &self.prepared;
            let features = model.features(batch);
            let proposals = model.propose(&features, &sizes).await?;
            let found = model.detect_boxes(&features, proposals, &sizes).await?;
            let view = View {
                features,
                size: sizes[0],
                is_flipped,
            };
            let frame = views.first().map_or(view.size, |first: &View| first.size);
            candidates.extend(found.into_iter().flatten().map(|found| Candidate {
                view: views.len(),
                found: ScoredBox {
                    bbox: view.to_frame(found.bbox, frame),
                    ..found
                },
            }));
            views.push(view);
        }
        let roi = &self.config.model.roi;
        let mut merged = vote::merged(candidates, views.len(), roi.nms_iou, roi.max_detections);
        merged.retain(|found| found.score > roi.score_threshold);
        // Boxes are merged in pixels of the first view, so that a single view gives the same bits as without this.
        let frame = views.first().map_or((1, 1), |view| view.size);
        let detections = Detections {
            masks: self.mean_masks(&views, &merged, frame),
            boxes: merged.into_iter().map(|found| (0, found)).collect(),
        };
        let sizes = [(frame, (image.height(), image.width()))];
        Ok(self.paste(detections, &sizes).await?.remove(0))
    }

    /// Mask probabilities of boxes in pixels of `frame`: the mean over the views.
    fn mean_masks(&self, views: &[View], found: &[ScoredBox], frame: (u32, u32)) -> Vec<Tensor<3>> {
        let mut sums: Vec<Tensor<3>> = Vec::new();
        for view in views {
            let boxes = found.iter().map(|found| ScoredBox {
                bbox: view.in_view(found.bbox, frame),
                ..*found
            });
            let detected = self
                .prepared
                .detect_masks(&view.features, vec![boxes.collect()]);
            let masks = detected
                .masks
                .into_iter()
                .map(|masks| match view.is_flipped {
                    true => masks.flip([2]),
                    false => masks,
                });
            sums = match sums.is_empty() {
                true => masks.collect(),
                false => sums.into_iter().zip(masks).map(|(a, b)| a + b).collect(),
            };
        }
        let mean = |sum: Tensor<3>| sum.div_scalar(views.len() as f32);
        sums.into_iter().map(mean).collect()
    }
}
