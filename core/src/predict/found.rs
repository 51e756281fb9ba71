//! What the second stage says of a box, before it is put into the original picture.

use crate::boxes;
use crate::detection::Detection;
use crate::image::paste::MaskRuns;
use crate::model::ScoredBox;
use mrcnn_kernels::{PasteWindow, paste_bits};

/// Probability from which a pixel belongs to the object.
pub(super) const MASK_THRESHOLD: f32 = 0.5;

/// A detection in the pixels of the resized picture, its mask not yet pasted.
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
    /// The detection in the original picture, its mask pasted; sizes are `(height, width)` of the
    /// prepared and of the original picture.
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
