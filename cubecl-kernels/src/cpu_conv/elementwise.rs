//! Gradients of a ReLU, of a bias and of a scale.

use super::output::Output;
use crate::cpu_tasks::for_each_task;

/// Values per task: few enough for a cache, and enough to be worth a thread.
const CHUNK: usize = 32 << 10;

/// `grad` where `output` is positive or NaN, otherwise zero: the gradient of a ReLU with this `output`, as in torch.
pub fn mask_by(output: &[f32], grad: &mut [f32]) {
    assert_eq!(output.len(), grad.len());
    let (len, grad) = (grad.len(), Output::of(grad));
    for_each_task(len.div_ceil(CHUNK), len, |task| {
        let range = task * CHUNK..((task + 1) * CHUNK).min(len);
        // SAFETY: one task per chunk.
        let grad = unsafe { grad.slice(range.start, range.len()) };
        for (grad, &output) in grad.iter_mut().zip(&output[range]) {
            *grad = if output <= 0.0 { 0.0 } else { *grad };
        }
    });
}

/// `values [images, channels, plane]` -> the sum of each channel, in a fixed order.
pub fn channel_sums(values: &[f32], images: usize, channels: usize, sums: Output) {
    let plane = values.len() / (images * channels).max(1);
    for_each_task(channels, values.len(), |channel| {
        let of_image = |image: usize| sum(&values[(image * channels + channel) * plane..][..plane]);
        let total: f64 = (0..images).map(of_image).sum();
        // SAFETY: one task per channel.
        unsafe { sums.slice(channel, 1)[0] = total as f32 }
    });
}

/// The sum of the products of each of `rows` rows of `a` and `b`, in a fixed order.
pub fn row_products(a: &[f32], b: &[f32], rows: usize, sums: Output) {
    assert_eq!(a.len(), b.len());
    let len = a.len() / rows.max(1);
    for_each_task(rows, a.len(), |row| {
        let range = row * len..(row + 1) * len;
        let products = a[range.clone()].iter().zip(&b[range]);
        let total: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        // SAFETY: one task per row.
        unsafe { sums.slice(row, 1)[0] = total as f32 }
    });
}

/// Multiplies each row of `values [rows, n]` by its `scale [rows]`.
pub fn scale_rows(values: &mut [f32], scale: &[f32]) {
    let len = values.len() / scale.len().max(1);
    let (all, values) = (values.len(), Output::of(values));
    for_each_task(scale.len(), all, |row| {
        // SAFETY: one task per row.
        let row_values = unsafe { values.slice(row * len, len) };
        row_values.iter_mut().for_each(|value| *value *= scale[row]);
    });
}

/// Lanes of f32 over blocks, and f64 over the sums of blocks.
fn sum(values: &[f32]) -> f64 {
    const LANES: usize = 32;
    let block = |values: &[f32]| {
        let mut lanes = [0.0f32; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + f64::from(rest)
    };
    values.chunks(64 * LANES).map(block).sum()
}
