//! Mask targets on host memory.

use crate::roi_align::taps::axis_taps;

/// The mask `at(row, column)` of an image of `(width, height)` pixels inside `roi`, as `side x side` values in `0..=1`,
/// row-major.
pub fn mask_target(
    roi: &[f32; 4],
    side: usize,
    (width, height): (usize, usize),
    at: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let rows = axis_taps(roi[1], roi[3] - roi[1], side, height, 0, false, false);
    let columns = axis_taps(roi[0], roi[2] - roi[0], side, width, 0, false, false);
    let cell = |rows: &[(usize, f32)], columns: &[(usize, f32)]| -> f32 {
        let row_sum = |row: usize| -> f32 {
            let cells = columns.iter();
            cells
                .map(|&(column, weight)| weight * at(row, column))
                .sum()
        };
        rows.iter()
            .map(|&(row, weight)| weight * row_sum(row))
            .sum()
    };
    rows.iter()
        .flat_map(|row| columns.iter().map(move |column| cell(row, column)))
        .collect()
}

#[cfg(feature = "flex")]
mod flex {
    use super::mask_target;
    use crate::flex::{floats, integers};
    use crate::mask_targets::{MaskTargetOps, WINDOW};
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl MaskTargetOps for Flex {
        fn mask_targets(
            rois: FloatTensor<Self>,
            matched: IntTensor<Self>,
            windows: IntTensor<Self>,
            words: IntTensor<Self>,
            side: usize,
        ) -> FloatTensor<Self> {
            let [rois, matched, windows, words] =
                [rois, matched, windows, words].map(|tensor| tensor.to_contiguous());
            let shape = rois.layout().shape();
            let (n, slots) = (shape[0], shape[1]);
            let masks = windows.layout().shape()[1];
            let (windows, words) = (integers(&windows).as_chunks::<WINDOW>().0, integers(&words));
            let mut targets = Vec::with_capacity(n * slots * side * side);
            let boxes = floats(&rois).as_chunks::<4>().0.iter();
            for (index, (roi, &matched)) in boxes.zip(integers(&matched)).enumerate() {
                let Ok(matched) = usize::try_from(matched) else {
                    targets.resize(targets.len() + side * side, 0.0);
                    continue;
                };
                let window = windows[index / slots * masks + matched].map(|v| v as usize);
                let image = (window[4], window[5]);
                let at = |row, column| bit(&window, words, row, column);
                targets.extend(mask_target(roi, side, image, at));
            }
            FlexTensor::from_data(TensorData::new(targets, [n, slots, side * side]))
        }
    }

    fn bit(window: &[usize; WINDOW], words: &[i32], row: usize, column: usize) -> f32 {
        let &[x, y, width, height, _, _, first] = window;
        let (row, column) = (row.wrapping_sub(y), column.wrapping_sub(x));
        if row >= height || column >= width {
            return 0.0;
        }
        let word = words[first + row * width.div_ceil(32) + column / 32];
        (word >> (column % 32) & 1) as f32
    }
}
