//! Weights packed in the order in which the product kernel reads them.

use super::geometry::{ConvShape, View};
use super::kernels::GROUP;
use super::output::Output;
use super::scratch::with_weights;
use crate::cpu_tasks::for_each_task;

/// The weights of a convolution.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// `[outputs, inputs, k, k]`.
    pub values: &'a [f32],
    /// Factor of each output channel's weights: the scale of a folded norm.
    pub scale: Option<&'a [f32]>,
}

/// `[groups, channels, taps, GROUP]`, padded with zeros to whole groups.
pub struct PackedWeights<'a> {
    pub values: &'a [f32],
    pub groups: usize,
    /// Number of channels that are summed over.
    pub channels: usize,
    /// Number of channels of the result.
    pub outputs: usize,
    pub taps: usize,
}

impl PackedWeights<'_> {
    /// Calls `work` with `weights [outputs, inputs, taps]` packed for the output.
    pub fn forward<R>(
        weights: Weights,
        shape: &ConvShape,
        view: &View,
        work: impl FnOnce(&PackedWeights) -> R,
    ) -> R {
        let (i, t) = (shape.inputs, shape.taps());
        let scale = |output, _channel| weights.scale.map_or(1.0, |scale| scale[output]);
        let strides = [i * t, t];
        pack(
            weights.values,
            [shape.outputs, i],
            strides,
            view,
            scale,
            work,
        )
    }

    /// Calls `work` with `weights [outputs, inputs, taps]` packed for the gradient of the input.
    pub fn backward<R>(
        weights: Weights,
        shape: &ConvShape,
        view: &View,
        work: impl FnOnce(&PackedWeights) -> R,
    ) -> R {
        let (i, t) = (shape.inputs, shape.taps());
        let scale = |_output, channel| weights.scale.map_or(1.0, |scale| scale[channel]);
        let strides = [t, i * t];
        pack(
            weights.values,
            [i, shape.outputs],
            strides,
            view,
            scale,
            work,
        )
    }

    /// The weights of one group of outputs, from `channel` on.
    pub fn panel(&self, group: usize, channel: usize) -> &[f32] {
        let size = self.channels * self.taps * GROUP;
        &self.values[group * size + channel * self.taps * GROUP..(group + 1) * size]
    }
}

fn pack<R>(
    weight: &[f32],
    [outputs, channels]: [usize; 2],
    [output_stride, channel_stride]: [usize; 2],
    view: &View,
    scale: impl Fn(usize, usize) -> f32 + Sync + Send,
    work: impl FnOnce(&PackedWeights) -> R,
) -> R {
    let taps: Vec<_> = view.taps.iter().map(|tap| tap.weight).collect();
    let groups = outputs.div_ceil(GROUP);
    let panel = channels * taps.len() * GROUP;
    with_weights(groups * panel, |values| {
        let output = Output::of(values);
        for_each_task(groups, groups * panel, |group| {
            // SAFETY: one task per group.
            let panel = unsafe { output.slice(group * panel, panel) };
            let first = group * GROUP;
            let lanes = GROUP.min(outputs - first);
            for lane in 0..lanes {
                let from = &weight[(first + lane) * output_stride..];
                let mut to = lane;
                for channel in 0..channels {
                    let scale = scale(first + lane, channel);
                    for tap in &taps {
                        panel[to] = from[channel * channel_stride + tap] * scale;
                        to += GROUP;
                    }
                }
            }
            if lanes < GROUP {
                for packed in panel.chunks_exact_mut(GROUP) {
                    packed[lanes..].fill(0.0);
                }
            }
        });
        work(&PackedWeights {
            values,
            groups,
            channels,
            outputs,
            taps: taps.len(),
        })
    })
}
