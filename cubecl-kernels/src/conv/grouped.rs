//! Grouped convolutions on flex: groups are joined into blocks, and each block of each image is a dense convolution
//! with block-diagonal weights.
//!
//! The groups of ResNeXt have 4 to 64 channels, and the kernels compute eight output channels at a time. A block of two
//! groups of four channels multiplies half of its values by zero, but uses the vectors of the kernels.

use crate::cpu_conv::{self, ConvShape, Epilogue, Output, Weights};
use crate::cpu_memory::write;
use crate::cpu_tasks::for_each_task;
use crate::flex::{dims, floats};
use burn_flex::FlexTensor;

/// Channels of a block, if its groups have fewer.
const CHANNELS: usize = 8;

/// Groups of channels, joined into blocks.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    count: usize,
    /// Groups per block.
    groups: usize,
    /// Input and output channels of a group.
    inputs: usize,
    outputs: usize,
    taps: usize,
}

impl Blocks {
    /// `groups` groups with weights `[outputs, inputs, kernel, kernel]` each.
    fn new(groups: usize, [outputs, inputs]: [usize; 2], kernel: usize) -> Self {
        let most = (CHANNELS / inputs.max(outputs).max(1)).clamp(1, groups);
        let joined = (1..=most).rev().find(|&count| groups.is_multiple_of(count));
        let joined = joined.unwrap_or(1);
        Self {
            count: groups / joined,
            groups: joined,
            inputs,
            outputs,
            taps: kernel * kernel,
        }
    }

    /// Input and output channels of a block.
    fn channels(&self) -> [usize; 2] {
        [self.groups * self.inputs, self.groups * self.outputs]
    }

    /// Number of weights of a block without the zeros.
    fn weights(&self) -> usize {
        self.groups * self.outputs * self.inputs * self.taps
    }

    /// For each output of a block, the positions of its weights without and with the zeros.
    fn runs(&self) -> impl Iterator<Item = [std::ops::Range<usize>; 2]> + use<> {
        let Self {
            groups, outputs, ..
        } = *self;
        let length = self.inputs * self.taps;
        (0..groups * outputs).map(move |output| {
            let dense = (output * groups + output / outputs) * length;
            [
                output * length..(output + 1) * length,
                dense..dense + length,
            ]
        })
    }

    /// The weights of block `index` with the zeros.
    fn dense(&self, weight: &[f32], index: usize) -> Vec<f32> {
        let weight = &weight[index * self.weights()..][..self.weights()];
        let mut dense = vec![0.0; self.groups * self.weights()];
        for [compact, place] in self.runs() {
            dense[place].copy_from_slice(&weight[compact]);
        }
        dense
    }

    /// The convolution of a block of `images` images.
    fn shape(&self, images: usize, size: [usize; 2], stride: usize) -> ConvShape {
        let [inputs, outputs] = self.channels();
        ConvShape {
            images,
            inputs,
            outputs,
            size,
            kernel: self.taps.isqrt(),
            stride,
        }
    }

    /// Calls `work` with every image and block, on several threads.
    fn for_each(
        &self,
        images: usize,
        shape: &ConvShape,
        work: impl Fn(usize, usize) + Sync + Send,
    ) {
        let operations = shape.output_len() * shape.inputs * shape.taps();
        let tasks = images * self.count;
        for_each_task(tasks, tasks * operations, |task| {
            work(task / self.count, task % self.count);
        });
    }
}

/// The convolution with weights `[o, c / groups, k, k]`, residual and ReLU; all tensors are contiguous.
pub(super) fn forward(
    x: &FlexTensor,
    [weight, bias]: [&FlexTensor; 2],
    scale: Option<&FlexTensor>,
    residual: Option<&FlexTensor>,
    stride: usize,
    relu: bool,
) -> FlexTensor {
    let ([n, c, h, w], [o, inputs, kernel, _]) = (dims(x), dims(weight));
    let groups = c / inputs;
    let blocks = Blocks::new(groups, [o / groups, inputs], kernel);
    let shape = blocks.shape(1, [h, w], stride);
    let dense: Vec<_> = (0..blocks.count)
        .map(|block| blocks.dense(floats(weight), block))
        .collect();
    let [from, to] = [shape.input_len(), shape.output_len()];
    let [rows, columns] = shape.output_size();
    let isa = cpu_conv::selected();
    write([n, o, rows, columns], |output| {
        blocks.for_each(n, &shape, |image, block| {
            let place = image * blocks.count + block;
            let of_outputs =
                |tensor| -> &[f32] { &floats(tensor)[block * shape.outputs..][..shape.outputs] };
            let epilogue = Epilogue {
                bias: Some(of_outputs(bias)),
                residual: residual.map(|residual| &floats(residual)[place * to..][..to]),
                relu,
            };
            let weights = Weights {
                values: &dense[block],
                scale: scale.map(of_outputs),
            };
            let x = &floats(x)[place * from..][..from];
            let part = output.part(place * to, to);
            cpu_conv::forward(isa, &shape, x, weights, epilogue, part);
        });
    })
}

/// The gradient of an input of `size`, height and width, from `grad [n, o, h', w']`; all tensors are contiguous.
pub(super) fn input_gradient(
    weight: &FlexTensor,
    scale: Option<&FlexTensor>,
    grad: &FlexTensor,
    groups: usize,
    size: [usize; 2],
    stride: usize,
) -> FlexTensor {
    let ([n, ..], [o, inputs, kernel, _]) = (dims::<4>(grad), dims(weight));
    let blocks = Blocks::new(groups, [o / groups, inputs], kernel);
    let shape = blocks.shape(1, size, stride);
    let dense: Vec<_> = (0..blocks.count)
        .map(|block| blocks.dense(floats(weight), block))
        .collect();
    let [to, from] = [shape.input_len(), shape.output_len()];
    let isa = cpu_conv::selected();
    write([n, groups * inputs, size[0], size[1]], |gradient| {
        blocks.for_each(n, &shape, |image, block| {
            let place = image * blocks.count + block;
            let weights = Weights {
                values: &dense[block],
                scale: scale.map(|scale| &floats(scale)[block * shape.outputs..][..shape.outputs]),
            };
            let grad = &floats(grad)[place * from..][..from];
            let part = gradient.part(place * to, to);
            cpu_conv::input_gradient(isa, &shape, weights, grad, part);
        });
    })
}

/// The gradient of the scaled weights `[o, c / groups, kernel, kernel]`; all tensors are contiguous.
pub(super) fn weight_gradient(
    x: &FlexTensor,
    grad: &FlexTensor,
    groups: usize,
    kernel: usize,
    stride: usize,
) -> FlexTensor {
    let ([n, c, h, w], [_, o, _, _]) = (dims(x), dims(grad));
    let (inputs, outputs) = (c / groups, o / groups);
    let blocks = Blocks::new(groups, [outputs, inputs], kernel);
    let shape = blocks.shape(n, [h, w], stride);
    let isa = cpu_conv::selected();
    write([o, inputs, kernel, kernel], |gradient| {
        // The product sums over the images, so a block gathers its channels of all images.
        blocks.for_each(1, &shape, |_, block| {
            let of_block = |tensor: &FlexTensor, length: usize| -> Vec<f32> {
                let images = (0..n).map(|image| image * blocks.count + block);
                let parts = images.map(|place| &floats(tensor)[place * length..][..length]);
                parts.flatten().copied().collect()
            };
            let x = of_block(x, shape.input_len() / n.max(1));
            let grad = of_block(grad, shape.output_len() / n.max(1));
            let mut dense = vec![0.0; shape.weight_len()];
            cpu_conv::weight_gradient(isa, &shape, &x, &grad, Output::of(&mut dense));
            // SAFETY: one task per block.
            let part = unsafe { gradient.slice(block * blocks.weights(), blocks.weights()) };
            for [compact, place] in blocks.runs() {
                part[compact].copy_from_slice(&dense[place]);
            }
        });
    })
}
