//! Box delta coder (R-CNN, appendix C): `dx, dy` relative to the size, `dw, dh` in log space.

use super::Bbox;
use mrcnn_kernels::decode_box;

/// Upper bound of `dw` and `dh` in decoding: `ln(1000 / 16)`, so that large deltas cannot overflow.
pub const BOX_CLIP: f32 = 4.135_166_6;

/// Encodes boxes as deltas to reference boxes, and decodes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCoder {
    /// Multipliers of `dx, dy, dw, dh`.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// The deltas from `reference` to `target`.
    pub fn encode(&self, target: &Bbox, reference: &Bbox) -> [f32; 4] {
        let [wx, wy, ww, wh] = self.weights;
        let width = reference[2] - reference[0];
        let height = reference[3] - reference[1];
        let center_x = reference[0] + 0.5 * width;
        let center_y = reference[1] + 0.5 * height;
        let target_width = target[2] - target[0];
        let target_height = target[3] - target[1];
        let target_x = target[0] + 0.5 * target_width;
        let target_y = target[1] + 0.5 * target_height;
        [
            wx * (target_x - center_x) / width,
            wy * (target_y - center_y) / height,
            ww * (target_width / width).ln(),
            wh * (target_height / height).ln(),
        ]
    }

    /// The box with `deltas` to `reference`.
    pub fn decode(&self, deltas: &[f32], reference: &Bbox) -> Bbox {
        let deltas = [deltas[0], deltas[1], deltas[2], deltas[3]];
        decode_box(&deltas, reference, self.weights, BOX_CLIP)
    }
}
