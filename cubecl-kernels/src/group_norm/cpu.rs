//! Group norm on slices, parallel over images and groups.

use crate::cpu_conv::Output;
use crate::cpu_tasks::{for_each_task, map_tasks};

/// Sizes of a group norm.
pub struct Groups {
    pub channels: usize,
    /// Pixels per channel.
    pub plane: usize,
    pub groups: usize,
    pub epsilon: f64,
}

impl Groups {
    /// Values per group.
    fn len(&self) -> usize {
        self.channels / self.groups * self.plane
    }

    /// Mean, and the reciprocal of the standard deviation.
    fn statistics(&self, values: &[f32]) -> (f32, f32) {
        let count = values.len() as f64;
        let mean = sum(values, |value| value) / count;
        let center = mean as f32;
        // Computed relative to a rounded mean, whose error is corrected afterwards.
        let squares = sum(values, |value| (value - center) * (value - center)) / count;
        let error = mean - f64::from(center);
        let variance = (squares - error * error).max(0.0);
        (center, (1.0 / (variance + self.epsilon).sqrt()) as f32)
    }

    /// Calls `work` with the index of every group of every image, its first channel, and the offset of its
    /// values.
    fn for_each(&self, values: usize, work: impl Fn(usize, usize) + Sync + Send) {
        let len = self.len();
        if len == 0 {
            return;
        }
        for_each_task(values / len, values, |index| {
            let channel = index % self.groups * (self.channels / self.groups);
            work(channel, index * len);
        });
    }
}

/// `x [n, c, plane]` -> the norm, with `residual` added, then `max(., 0)` if `relu`; and the
/// `statistics [n, groups, 2]`.
pub fn forward(
    x: &[f32],
    [weight, bias]: [&[f32]; 2],
    residual: Option<&[f32]>,
    relu: bool,
    groups: &Groups,
    [output, statistics]: [Output; 2],
) {
    let len = groups.len();
    groups.for_each(x.len(), |channel, at| {
        let (mean, scale) = groups.statistics(&x[at..at + len]);
        // SAFETY: one task per group.
        unsafe { statistics.slice(at / len * 2, 2) }.copy_from_slice(&[mean, scale]);
        for (index, at) in (at..at + len).step_by(groups.plane).enumerate() {
            let range = at..at + groups.plane;
            let scale = weight[channel + index] * scale;
            let shift = bias[channel + index];
            // SAFETY: one task per group.
            let output = unsafe { output.slice(at, groups.plane) };
            for (output, x) in output.iter_mut().zip(&x[range.clone()]) {
                *output = (x - mean) * scale + shift;
            }
            if let Some(residual) = residual {
                for (output, residual) in output.iter_mut().zip(&residual[range]) {
                    *output += residual;
                }
            }
            if relu {
                for output in output {
                    *output = if *output < 0.0 { 0.0 } else { *output };
                }
            }
        }
    });
}

/// The sums over the pixels of a channel of an image.
pub struct ChannelSums {
    /// Sum of the gradient.
    pub grad: f64,
    /// Sum of the gradient times the normalized values.
    pub products: f64,
}

/// The sums of each channel `[n, c]`, from `x` and `grad [n, c, plane]` and the statistics of `x`.
pub fn channel_sums(
    x: &[f32],
    grad: &[f32],
    statistics: &[f32],
    groups: &Groups,
) -> Vec<ChannelSums> {
    let plane = groups.plane;
    let channels = x.len().checked_div(plane).unwrap_or(0);
    map_tasks(channels, x.len(), |channel| {
        let range = channel * plane..(channel + 1) * plane;
        let (x, grad) = (&x[range.clone()], &grad[range.clone()]);
        let group = range.start / groups.len() * 2;
        let [mean, scale] = [statistics[group], statistics[group + 1]];
        ChannelSums {
            grad: sum(grad, |grad| grad),
            products: sum_of_products(x, grad, mean) * f64::from(scale),
        }
    })
}

/// The gradient of `x` from `grad`, both `[n, c, plane]`.
pub fn input_gradient(
    [x, grad]: [&[f32]; 2],
    weight: &[f32],
    statistics: &[f32],
    sums: &[ChannelSums],
    groups: &Groups,
    gradient: Output,
) {
    let len = groups.len();
    groups.for_each(x.len(), |channel, at| {
        let [mean, scale] = [statistics[at / len * 2], statistics[at / len * 2 + 1]];
        let weights = &weight[channel..channel + groups.channels / groups.groups];
        let (mut sum_grad, mut sum_product) = (0.0, 0.0);
        for (sums, &weight) in sums[at / groups.plane..].iter().zip(weights) {
            sum_grad += f64::from(weight) * sums.grad;
            sum_product += f64::from(weight) * sums.products;
        }
        let count = len as f64;
        let (mean_grad, mean_product) = ((sum_grad / count) as f32, (sum_product / count) as f32);
        for (at, &weight) in (at..at + len).step_by(groups.plane).zip(weights) {
            let range = at..at + groups.plane;
            // SAFETY: one task per group.
            let gradient = unsafe { gradient.slice(at, groups.plane) };
            let values = x[range.clone()].iter().zip(&grad[range]);
            for (gradient, (x, grad)) in gradient.iter_mut().zip(values) {
                let normed = (x - mean) * scale;
                *gradient = scale * (weight * grad - mean_grad - normed * mean_product);
            }
        }
    });
}

/// The gradient of the weight (`of` the products) or of the bias (`of` the gradient), `[c]`.
pub fn channel_gradient(sums: &[ChannelSums], of: impl Fn(&ChannelSums) -> f64, gradient: Output) {
    let channels = gradient.len();
    // SAFETY: the only slice.
    let gradient = unsafe { gradient.slice(0, channels) };
    for (channel, gradient) in gradient.iter_mut().enumerate() {
        let images = sums.iter().skip(channel).step_by(channels);
        *gradient = images.map(&of).sum::<f64>() as f32;
    }
}

/// Number of partial sums in f32; the sums of blocks are added in f64.
const LANES: usize = 16;
/// Values per block.
const BLOCK: usize = 64 * LANES;

fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    let block = |values: &[f32]| {
        let mut lanes = [0.0f32; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest: f64 = chunks
            .remainder()
            .iter()
            .map(|&value| f64::from(of(value)))
            .sum();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += of(value);
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + rest
    };
    values.chunks(BLOCK).map(block).sum()
}

/// The sum of `(x - mean) * grad`.
fn sum_of_products(x: &[f32], grad: &[f32], mean: f32) -> f64 {
    let block = |(x, grad): (&[f32], &[f32])| {
        let mut lanes = [0.0f32; LANES];
        let (xs, grads) = (x.chunks_exact(LANES), grad.chunks_exact(LANES));
        let rest = xs.remainder().iter().zip(grads.remainder());
        let rest: f64 = rest.map(|(&x, &grad)| f64::from((x - mean) * grad)).sum();
        for (x, grad) in xs.zip(grads) {
            for (lane, (x, grad)) in lanes.iter_mut().zip(x.iter().zip(grad)) {
                *lane += (x - mean) * grad;
            }
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + rest
    };
    x.chunks(BLOCK).zip(grad.chunks(BLOCK)).map(block).sum()
}
