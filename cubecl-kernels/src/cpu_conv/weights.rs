//! Weights packed in the order in which the product kernel reads them.

use super::geometry::{ConvShape, View};
use super::kernels::GROUP;
use super::output::Output;
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
pub struct PackedWeights {
    pub values: Vec<f32>,
    pub groups: usize,
    /// Number of channels that are summed over.
    pub channels: usize,
    /// Number of channels of the result.
    pub outputs: usize,
    pub taps: usize,
}

impl PackedWeights {
    /// Packs `weights [outputs, inputs, taps]` for the output.
    pub fn forward(weights: Weights, shape: &ConvShape, view: &View) -> Self {
        let (i, t) = (shape.inputs, shape.taps());
        let scale = |output, _channel| weights.scale.map_or(1.0, |scale| scale[output]);
        Self::new(weights.values, shape.outputs, i, [i * t, t], view, scale)
    }

    /// Packs `weights [outputs, inputs, taps]` for the gradient of the input.
    pub fn backward(weights: Weights, shape: &ConvShape, view: &View) -> Self {
        let (i, t) = (shape.inputs, shape.taps());
        let scale = |_output, channel| weights.scale.map_or(1.0, |scale| scale[channel]);
        Self::new(weights.values, i, shape.outputs, [t, i * t], view, scale)
    }

    fn new(
        weight: &[f32],
        outputs: usize,
        channels: usize,
        [output_stride, channel_stride]: [usize; 2],
        view: &View,
        scale: impl Fn(usize, usize) -> f32 + Sync + Send,
    ) -> Self {
        let taps: Vec<_> = view.taps.iter().map(|tap| tap.weight).collect();
        let groups = outputs.div_ceil(GROUP);
        let panel = channels * taps.len() * GROUP;
        let mut values = vec![0.0; groups * panel];
        if panel > 0 {
            let output = Output::of(&mut values);
            for_each_task(groups, groups * panel, |group| {
                // SAFETY: one task per group.
                let panel = unsafe { output.slice(group * panel, panel) };
                let first = group * GROUP;
                for lane in 0..GROUP.min(outputs - first) {
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
            });
        }
        Self {
            values,
            groups,
            channels,
            outputs,
            taps: taps.len(),
        }
    }

    /// The weights of one group of outputs, from `channel` on.
    pub fn panel(&self, group: usize, channel: usize) -> &[f32] {
        let size = self.channels * self.taps * GROUP;
        &self.values[group * size + channel * self.taps * GROUP..(group + 1) * size]
    }
}
