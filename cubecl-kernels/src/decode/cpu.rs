//! Box decoding on host memory.

use super::BoxDecoding;

/// The box `[x1, y1, x2, y2]` with `deltas` to `reference` (R-CNN, appendix C).
///
/// * `deltas` - `dx, dy` relative to the size of the reference, `dw, dh` in log space, each multiplied by its
///   weight.
/// * `max_log_scale` - upper bound of `dw` and `dh`, also used for NaN.
pub fn decode_box(
    deltas: &[f32; 4],
    reference: &[f32; 4],
    [wx, wy, ww, wh]: [f32; 4],
    max_log_scale: f32,
) -> [f32; 4] {
    let width = reference[2] - reference[0];
    let height = reference[3] - reference[1];
    let x = deltas[0] / wx * width + (reference[0] + 0.5 * width);
    let y = deltas[1] / wy * height + (reference[1] + 0.5 * height);
    let half_width = 0.5 * ((deltas[2] / ww).min(max_log_scale).exp() * width);
    let half_height = 0.5 * ((deltas[3] / wh).min(max_log_scale).exp() * height);
    [
        x - half_width,
        y - half_height,
        x + half_width,
        y + half_height,
    ]
}

impl BoxDecoding {
    /// The box with `deltas` to `reference`, clipped to an image of `[height, width]` pixels; `None` if a corner is
    /// not finite or a side of the clipped box is shorter than `min_size`.
    pub fn decode(
        &self,
        deltas: &[f32; 4],
        reference: &[f32; 4],
        [height, width]: [f32; 2],
    ) -> Option<[f32; 4]> {
        let decoded = decode_box(deltas, reference, self.weights, self.max_log_scale);
        let [x1, x2] = [decoded[0], decoded[2]].map(|x| x.clamp(0.0, width));
        let [y1, y2] = [decoded[1], decoded[3]].map(|y| y.clamp(0.0, height));
        let is_large_enough = x2 - x1 >= self.min_size && y2 - y1 >= self.min_size;
        let is_valid = is_large_enough && decoded.iter().all(|v| v.is_finite());
        is_valid.then_some([x1, y1, x2, y2])
    }
}

/// Inputs of a batch, row-major; shapes as in [`super::decode_boxes`].
pub struct Inputs<'a> {
    /// `[n, deltas_total, 4]`.
    pub deltas: &'a [f32],
    /// `[n or 1, references_total, 4]`.
    pub references: &'a [f32],
    /// `[n, slots]`.
    pub scores: &'a [f32],
    /// `[n, slots]`.
    pub indices: &'a [i32],
    /// `[n, 2]`.
    pub sizes: &'a [f32],
    /// References per image.
    pub references_total: usize,
    /// Whether `scores` are logits, of which the output has the sigmoids.
    pub has_logits: bool,
}

/// Boxes `[n, slots, 4]` and scores `[n, slots]`.
pub fn decode_boxes(inputs: &Inputs<'_>, params: &BoxDecoding) -> (Vec<f32>, Vec<f32>) {
    let deltas = inputs.deltas.as_chunks::<4>().0;
    let references = inputs.references.as_chunks::<4>().0;
    let sizes = inputs.sizes.as_chunks::<2>().0;
    let slots = inputs.scores.len() / sizes.len().max(1);
    let deltas_total = deltas.len() / sizes.len().max(1);
    let is_shared = references.len() == inputs.references_total;
    let mut boxes = vec![[0.0; 4]; inputs.scores.len()];
    let mut kept = vec![f32::NEG_INFINITY; inputs.scores.len()];
    for (slot, (&score, &index)) in inputs.scores.iter().zip(inputs.indices).enumerate() {
        let Ok(index) = usize::try_from(index) else {
            continue;
        };
        let image = slot / slots;
        let first = if is_shared { 0 } else { image };
        let reference = first * inputs.references_total + index % inputs.references_total;
        let deltas = &deltas[image * deltas_total + index];
        let decoded = params.decode(deltas, &references[reference], sizes[image]);
        let score = match inputs.has_logits {
            true => 1.0 / ((-score).exp() + 1.0),
            false => score,
        };
        if let Some(bbox) = decoded.filter(|_| score.is_finite()) {
            boxes[slot] = bbox;
            kept[slot] = score;
        }
    }
    (boxes.into_flattened(), kept)
}

#[cfg(feature = "flex")]
mod flex {
    use super::{BoxDecoding, Inputs};
    use crate::decode::DecodeOps;
    use crate::flex::{floats, integers};
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl DecodeOps for Flex {
        fn decode_boxes(
            deltas: FloatTensor<Self>,
            references: FloatTensor<Self>,
            scores: FloatTensor<Self>,
            indices: IntTensor<Self>,
            sizes: FloatTensor<Self>,
            params: BoxDecoding,
            has_logits: bool,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let [deltas, references, scores, sizes] =
                [deltas, references, scores, sizes].map(|tensor| tensor.to_contiguous());
            let indices = indices.to_contiguous();
            let inputs = Inputs {
                deltas: floats(&deltas),
                references: floats(&references),
                scores: floats(&scores),
                indices: integers(&indices),
                sizes: floats(&sizes),
                references_total: references.layout().shape()[1],
                has_logits,
            };
            let (boxes, kept) = super::decode_boxes(&inputs, &params);
            let shape = scores.layout().shape();
            let [n, slots] = [shape[0], shape[1]];
            (
                FlexTensor::from_data(TensorData::new(boxes, [n, slots, 4])),
                FlexTensor::from_data(TensorData::new(kept, [n, slots])),
            )
        }
    }
}
