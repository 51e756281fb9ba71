//! The box delta coder (R-CNN, appendix C): `dx, dy` relative to the size, `dw, dh` in log space.

use super::Bbox;

/// Largest `dw`, `dh` that is decoded: `ln(1000 / 16)`, so that a diverged delta cannot overflow.
pub const BOX_CLIP: f32 = 4.135_166_6;

/// Encodes boxes against reference boxes, and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCoder {
    /// Multipliers of `dx, dy, dw, dh`.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// The deltas that turn `reference` into `target`.
    pub fn encode(&self, target: &Bbox, reference: &Bbox) -> [f32; 4] {
        let [wx, wy, ww, wh] = self.weights;
        let width = reference[2] - reference[0];
        let height = reference[3] - reference[1];
        let centre_x = reference[0] + 0.5 * width;
        let centre_y = reference[1] + 0.5 * height;
        let target_width = target[2] - target[0];
        let target_height = target[3] - target[1];
        let target_x = target[0] + 0.5 * target_width;
        let target_y = target[1] + 0.5 * target_height;
        [
            wx * (target_x - centre_x) / width,
            wy * (target_y - centre_y) / height,
            ww * (target_width / width).ln(),
            wh * (target_height / height).ln(),
        ]
    }

    /// The box that `deltas` make of `reference`.
    pub fn decode(&self, deltas: &[f32], reference: &Bbox) -> Bbox {
        let [wx, wy, ww, wh] = self.weights;
        let width = reference[2] - reference[0];
        let height = reference[3] - reference[1];
        let centre_x = reference[0] + 0.5 * width;
        let centre_y = reference[1] + 0.5 * height;
        let x = deltas[0] / wx * width + centre_x;
        let y = deltas[1] / wy * height + centre_y;
        let half_width = 0.5 * ((deltas[2] / ww).min(BOX_CLIP).exp() * width);
        let half_height = 0.5 * ((deltas[3] / wh).min(BOX_CLIP).exp() * height);
        [
            x - half_width,
            y - half_height,
            x + half_width,
            y + half_height,
        ]
    }
}
