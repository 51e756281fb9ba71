//! Kernels of the loss and of its gradient.

use super::CHUNK;
use crate::cube_sum::cube_sum;
use crate::launch::UNITS;
use cubecl::prelude::*;

/// Sizes of a loss.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Sizes {
    /// Rows times outputs.
    pub elements: u32,
    pub classes: u32,
    /// Outputs per class.
    pub outputs: u32,
    /// Strides of rows, classes and outputs in the predictions.
    pub row_stride: u32,
    pub class_stride: u32,
    pub output_stride: u32,
    pub beta: f32,
}

/// A number of samples by which a sum is divided.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Count {
    /// Its place in the counts.
    pub index: u32,
    pub min: f32,
    pub factor: f32,
}

#[cube]
fn divisor(counts: &[f32], count: &Count) -> f32 {
    max(counts[count.index as usize], count.min) * count.factor
}

/// Writes the sum of the losses of each cube's elements, and the derivative of each.
#[cube(launch_unchecked)]
pub fn class_losses<E: Float>(
    predicted: &[E],
    labels: &[i32],
    targets: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    derivatives: &mut [f32],
    sizes: &Sizes,
    #[comptime] is_smooth_l1: bool,
    #[comptime] has_weights_by_label: bool,
    #[define(E)] _dtype: ElemType,
) {
    let mut own = 0.0f32;
    let start = CUBE_POS_X * CHUNK;
    let end = min(start + CHUNK, sizes.elements);
    let mut i = start + UNIT_POS;
    while i < end {
        let row = i / sizes.outputs;
        let mut class = 0u32;
        if sizes.classes > 1 {
            class = min(u32::cast_from(labels[row as usize]), sizes.classes - 1);
        }
        let output = i % sizes.outputs;
        let at = row * sizes.row_stride + class * sizes.class_stride + output * sizes.output_stride;
        let x = f32::cast_from(predicted[at as usize]);
        let target = targets[i as usize];
        let weight = if comptime![has_weights_by_label] {
            select(labels[row as usize] > 0, 1.0f32, 0.0f32)
        } else {
            weights[row as usize]
        };
        if comptime![is_smooth_l1] {
            let difference = x - target;
            let size = difference.abs();
            let near = min(size, sizes.beta);
            own += weight * near * (size - near * 0.5) / sizes.beta;
            let slope = select(difference < 0.0f32, -near, near);
            derivatives[i as usize] = weight * slope / sizes.beta;
        } else {
            // max(x, 0) - t x + ln(1 + exp(-|x|)), whose exponential does not overflow.
            let small = (-x.abs()).exp();
            let positive = select(x > 0.0f32, x, 0.0f32);
            own += weight * (positive - target * x + small.log1p());
            let sigmoid = select(x > 0.0f32, 1.0f32, small) / (1.0f32 + small);
            derivatives[i as usize] = weight * (sigmoid - target);
        }
        i += UNITS;
    }
    let sum = cube_sum(own);
    if UNIT_POS == 0 {
        sums[CUBE_POS_X as usize] = sum;
    }
}

/// The sum of `sums`, divided by a number of samples, by one cube.
#[cube(launch_unchecked)]
pub fn divide_sum(sums: &[f32], counts: &[f32], output: &mut [f32], terms: u32, count: &Count) {
    let mut own = 0.0f32;
    let mut i = UNIT_POS;
    while i < terms {
        own += sums[i as usize];
        i += UNITS;
    }
    let sum = cube_sum(own);
    if UNIT_POS == 0 {
        output[0] = sum / divisor(counts, count);
    }
}

/// The gradient of the predictions, in memory `[r, classes, outputs]` or, if `is_class_last`, `[r, outputs,
/// classes]`: one unit per element.
#[cube(launch_unchecked)]
pub fn spread_derivatives<E: Float>(
    derivatives: &[f32],
    labels: &[i32],
    grad: &[f32],
    counts: &[f32],
    gradient: &mut [E],
    classes: usize,
    outputs: usize,
    units: usize,
    count: &Count,
    #[comptime] is_class_last: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let row = ABSOLUTE_POS / (classes * outputs);
    let mut class = ABSOLUTE_POS / outputs % classes;
    let mut output = ABSOLUTE_POS % outputs;
    if comptime![is_class_last] {
        class = ABSOLUTE_POS % classes;
        output = ABSOLUTE_POS / classes % outputs;
    }
    let mut value = 0.0f32;
    let mut is_true = true;
    if classes > 1 {
        is_true = min(labels[row], classes as i32 - 1) == class as i32;
    }
    if is_true {
        value = derivatives[row * outputs + output] * grad[0] / divisor(counts, count);
    }
    gradient[ABSOLUTE_POS] = E::cast_from(value);
}

/// The cross entropy of each row of `logits [rows, classes]` with its derivatives: one unit per row.
#[cube(launch_unchecked)]
pub fn cross_entropies<E: Float>(
    logits: &[E],
    labels: &[i32],
    weights: &[f32],
    losses: &mut [f32],
    derivatives: &mut [f32],
    rows: u32,
    classes: u32,
    #[define(E)] _dtype: ElemType,
) {
    let row = CUBE_POS_X * UNITS + UNIT_POS;
    if row >= rows {
        terminate!();
    }
    let first = row * classes;
    let mut highest = f32::cast_from(logits[first as usize]);
    for class in 1..classes {
        highest = max(highest, f32::cast_from(logits[(first + class) as usize]));
    }
    let mut total = 0.0f32;
    for class in 0..classes {
        total += (f32::cast_from(logits[(first + class) as usize]) - highest).exp();
    }
    let label = min(u32::cast_from(labels[row as usize]), classes - 1);
    let weight = weights[row as usize];
    let true_logit = f32::cast_from(logits[(first + label) as usize]);
    losses[row as usize] = weight * (total.ln() + highest - true_logit);
    for class in 0..classes {
        let logit = f32::cast_from(logits[(first + class) as usize]);
        let probability = (logit - highest).exp() / total;
        let one_hot = select(class == label, 1.0f32, 0.0f32);
        derivatives[(first + class) as usize] = weight * (probability - one_hot);
    }
}
