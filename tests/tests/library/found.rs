//! Detections of prepared images before they are pasted, and pasting on the host: the reference for pasting on the
//! device.

use mrcnn_core::image::paste::MaskRuns;
use mrcnn_core::image::transform::Planes;
use mrcnn_core::model::ScoredBox;
use mrcnn_core::predict::MASK_THRESHOLD;
use mrcnn_core::{Detection, Predictor, boxes};
use mrcnn_kernels::{PasteWindow, paste_bits};

/// A detection in pixels of the resized image, before its mask is pasted.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Box, label and score.
    pub scored: ScoredBox,
    /// Mask probabilities, `side x side`, row-major.
    pub mask: Vec<f32>,
    /// Side of the mask in cells.
    pub side: usize,
}

impl Found {
    /// The detection in the original image, with its mask pasted; sizes are `(height, width)` of the
    /// prepared and of the original image.
    pub fn into_detection(self, resized: (u32, u32), original: (u32, u32)) -> Detection {
        let bbox = boxes::resize(&self.scored.bbox, resized, original);
        let (height, width) = (original.0 as usize, original.1 as usize);
        let window = PasteWindow::new(bbox, self.side, width, height);
        let mut runs = MaskRuns::new(window, (height, width));
        runs.add(paste_bits(&self.mask, &window, MASK_THRESHOLD).into_iter());
        Detection {
            bbox,
            label: self.scored.label,
            score: self.scored.score,
            mask: runs.finish(),
        }
    }
}

/// The detections of each image.
pub fn found(predictor: &Predictor, planes: &[Planes]) -> Vec<Vec<Found>> {
    let (images, sizes) = predictor.input(planes);
    let detections = predictor.model().detect(images, &sizes);
    let detections = pollster::block_on(detections).expect("detections");
    let mut found: Vec<Vec<Found>> = planes.iter().map(|_| Vec::new()).collect();
    let mut boxes = detections.boxes.into_iter();
    for masks in detections.masks {
        let [count, side, _] = masks.dims();
        let masks: Vec<f32> = masks.into_data().iter::<f32>().collect();
        for ((image, scored), mask) in boxes.by_ref().take(count).zip(masks.chunks(side * side)) {
            found[image].push(Found {
                scored,
                mask: mask.to_vec(),
                side,
            });
        }
    }
    found
}
