//! Gradient of the weights: dot products of rows of the input and rows of the gradient.
//!
//! Vectors run along the pixels of both, in their memory layout: nothing is transposed, and 1x1
//! convolutions are computed without a copy. Every weight is summed in one task over blocks of
//! pixels of a fixed size, so that it does not depend on the number of threads.

use super::geometry::{ConvShape, Strips, View};
use super::isa::Isa;
use super::kernels::{Dots, GROUP, WIDTH};
use super::output::Output;
use super::scratch::with_scratch;
use crate::cpu_tasks::for_each_task;
use std::ops::Range;

/// Pixels of a block: [`GROUP`] rows of the gradient fit into a first-level cache.
const PIXELS: usize = 768;
/// Maximum number of sums of a task, which fit into a second-level cache together with the strips.
const SUMS: usize = 160 << 10;
/// Output channels of a task.
const OUTPUTS: usize = 64;

/// `input [images, inputs, h, w]`, `grad [images, outputs, h', w']` -> `[outputs, inputs, k, k]`.
///
/// Writes every value of `gradient`.
pub fn weight_gradient(
    isa: &Isa,
    shape: &ConvShape,
    input: &[f32],
    grad: &[f32],
    gradient: Output,
) {
    assert_eq!(input.len(), shape.input_len());
    assert_eq!(grad.len(), shape.output_len());
    assert_eq!(gradient.len(), shape.weight_len());
    if input.is_empty() || grad.is_empty() {
        // SAFETY: the only slice.
        unsafe { gradient.slice(0, gradient.len()) }.fill(0.0);
        return;
    }
    let view = View::forward(shape);
    let beside = View::beside(&view);
    let rows = even_part(view.rows(), (PIXELS / view.pitch().max(1)).max(1));
    let job = Job {
        isa,
        shape,
        view: &view,
        input,
        grad,
        rows,
        input_strips: Strips::new(&view, rows, isa.lanes),
        grad_strips: Strips::new(&beside, rows, isa.lanes),
        gradient,
    };
    let (outputs, inputs) = task_size(isa, shape);
    let parts = shape.inputs.div_ceil(inputs);
    let tasks = shape.outputs.div_ceil(outputs) * parts;
    let operations = shape.output_len() * shape.inputs * shape.taps();
    for_each_task(tasks, operations, |task| {
        let range =
            |part: usize, size: usize, all: usize| part * size..((part + 1) * size).min(all);
        job.task(
            range(task / parts, outputs, shape.outputs),
            range(task % parts, inputs, shape.inputs),
        );
    });
}

/// Output and input channels of a task: enough tasks for the threads. No sum depends on it.
fn task_size(isa: &Isa, shape: &ConvShape) -> (usize, usize) {
    let mut outputs = OUTPUTS
        .min(shape.outputs.next_multiple_of(GROUP))
        .max(GROUP);
    let columns = SUMS / (outputs / GROUP * isa.dot_sums()) * WIDTH;
    let mut inputs = (columns / shape.taps()).clamp(1, shape.inputs.max(1));
    let wanted = 4 * rayon::current_num_threads();
    let tasks = |outputs: usize, inputs: usize| {
        shape.outputs.div_ceil(outputs) * shape.inputs.div_ceil(inputs)
    };
    if rayon::current_num_threads() > 1 {
        while tasks(outputs, inputs) < wanted && inputs * shape.taps() >= 24 * WIDTH {
            inputs = inputs.div_ceil(2).next_multiple_of(WIDTH).min(inputs - 1);
        }
        while tasks(outputs, inputs) < wanted && outputs > 2 * GROUP {
            outputs = (outputs / 2).next_multiple_of(GROUP);
        }
    }
    (outputs, inputs)
}

struct Job<'a> {
    isa: &'a Isa,
    shape: &'a ConvShape,
    view: &'a View,
    input: &'a [f32],
    grad: &'a [f32],
    /// Number of rows of a block.
    rows: usize,
    input_strips: Strips<'a>,
    grad_strips: Strips<'a>,
    gradient: Output,
}

impl Job<'_> {
    fn task(&self, outputs: Range<usize>, inputs: Range<usize>) {
        let taps = self.shape.taps();
        let groups = outputs.len().div_ceil(GROUP);
        let columns = (inputs.len() * taps).div_ceil(WIDTH);
        let lens = [
            groups * columns * self.isa.dot_sums(),
            inputs.len() * self.input_strips.channel_stride().max(PIXELS),
            outputs.len() * self.grad_strips.channel_stride().max(PIXELS),
        ];
        with_scratch(lens.iter().sum(), |scratch| {
            let (sums, scratch) = scratch.split_at_mut(lens[0]);
            let (input, grad) = scratch.split_at_mut(lens[1]);
            if self.is_direct() {
                self.direct_blocks(&outputs, &inputs, input, grad, sums);
            } else {
                self.strip_blocks(&outputs, &inputs, input, grad, sums);
            }
            self.store(&outputs, &inputs, sums);
        })
    }

    /// Whether rows of pixels are multiplied in place: no gaps, and enough pixels per image.
    fn is_direct(&self) -> bool {
        self.view.is_dense() && self.shape.size[0] * self.shape.size[1] >= PIXELS
    }

    fn strip_blocks(
        &self,
        outputs: &Range<usize>,
        inputs: &Range<usize>,
        input: &mut [f32],
        grad: &mut [f32],
        sums: &mut [f32],
    ) {
        let (input_strips, grad_strips) = (&self.input_strips, &self.grad_strips);
        let [input_stride, grad_stride] =
            [input_strips, grad_strips].map(|strips| strips.channel_stride());
        let input = &mut input[..inputs.len() * input_stride];
        let grad = &mut grad[..outputs.len() * grad_stride];
        let all = self.view.rows();
        for start in (0..all).step_by(self.rows) {
            let rows = start..(start + self.rows).min(all);
            let vectors = (rows.len() * self.view.pitch()).div_ceil(self.isa.lanes);
            let shape = self.shape;
            input_strips.fill(self.input, shape.inputs, inputs.start, rows.clone(), input);
            grad_strips.fill(self.grad, shape.outputs, outputs.start, rows, grad);
            let first = grad_strips.lead();
            self.multiply(
                |output| grad[output * grad_stride + first..].as_ptr(),
                |channel, tap| {
                    let offset = input_strips.offsets[tap] as usize;
                    input[channel * input_stride + offset..].as_ptr()
                },
                [outputs.len(), inputs.len()],
                vectors,
                start == 0,
                sums,
            );
        }
    }

    /// Multiplies rows of pixels in place, except the last block of an image, which is padded to whole
    /// vectors.
    fn direct_blocks(
        &self,
        outputs: &Range<usize>,
        inputs: &Range<usize>,
        input: &mut [f32],
        grad: &mut [f32],
        sums: &mut [f32],
    ) {
        let shape = self.shape;
        let plane = shape.size[0] * shape.size[1];
        let counts = [outputs.len(), inputs.len()];
        let part = even_part(plane, PIXELS).next_multiple_of(self.isa.lanes);
        for image in 0..shape.images {
            let from = |values, all: usize, first: usize| -> &[f32] {
                let values: &[f32] = values;
                &values[(image * all + first) * plane..]
            };
            let from_input = from(self.input, shape.inputs, inputs.start);
            let from_grad = from(self.grad, shape.outputs, outputs.start);
            for start in (0..plane).step_by(part) {
                let first = image == 0 && start == 0;
                let pixels = part.min(plane - start);
                let vectors = pixels.div_ceil(self.isa.lanes);
                if pixels.is_multiple_of(self.isa.lanes) {
                    self.multiply(
                        |output| from_grad[output * plane + start..].as_ptr(),
                        |channel, _| from_input[channel * plane + start..].as_ptr(),
                        counts,
                        vectors,
                        first,
                        sums,
                    );
                } else {
                    let padded = |from: &[f32], count: usize, to: &mut [f32]| {
                        for (row, to) in to.chunks_exact_mut(PIXELS).take(count).enumerate() {
                            let (to, rest) = to.split_at_mut(pixels);
                            to.copy_from_slice(&from[row * plane + start..][..pixels]);
                            rest.fill(0.0);
                        }
                    };
                    padded(from_input, inputs.len(), input);
                    padded(from_grad, outputs.len(), grad);
                    self.multiply(
                        |output| grad[output * PIXELS..].as_ptr(),
                        |channel, _| input[channel * PIXELS..].as_ptr(),
                        counts,
                        vectors,
                        first,
                        sums,
                    );
                }
            }
        }
    }

    /// Adds the products of `vectors` vectors of every row of both sides.
    fn multiply(
        &self,
        grad_row: impl Fn(usize) -> *const f32,
        input_row: impl Fn(usize, usize) -> *const f32,
        [outputs, inputs]: [usize; 2],
        vectors: usize,
        start: bool,
        sums: &mut [f32],
    ) {
        let taps = self.shape.taps();
        let columns = inputs * taps;
        let mut sums = sums.chunks_exact_mut(self.isa.dot_sums());
        for group in (0..outputs).step_by(GROUP) {
            let rows = std::array::from_fn(|row| grad_row((group + row).min(outputs - 1)));
            for first in (0..columns).step_by(WIDTH) {
                let column = |index: usize| {
                    let column = (first + index).min(columns - 1);
                    input_row(column / taps, column % taps)
                };
                let args = Dots {
                    rows,
                    columns: std::array::from_fn(column),
                    vectors,
                    start,
                    sums: sums.next().expect("one for each pass").as_mut_ptr(),
                };
                // SAFETY: every row holds `vectors` vectors from its pointer on.
                unsafe { self.isa.dots(&args) }
            }
        }
    }

    /// Adds the lanes and writes the gradients of the weights; results beyond the last
    /// channel are dropped.
    fn store(&self, outputs: &Range<usize>, inputs: &Range<usize>, sums: &[f32]) {
        let taps = self.shape.taps();
        let columns = inputs.len() * taps;
        let mut sums = sums.chunks_exact(self.isa.dot_sums());
        for group in (0..outputs.len()).step_by(GROUP) {
            for first in (0..columns).step_by(WIDTH) {
                let results = self.isa.lane_sums(sums.next().expect("one for each pass"));
                let count = WIDTH.min(columns - first);
                for row in 0..GROUP.min(outputs.len() - group) {
                    let output = outputs.start + group + row;
                    let at = (output * self.shape.inputs + inputs.start) * taps + first;
                    // SAFETY: the weights of a task are written by it alone.
                    let weights = unsafe { self.gradient.slice(at, count) };
                    weights.copy_from_slice(&results[row * WIDTH..][..count]);
                }
            }
        }
    }
}

/// Size of the parts if `all` is split evenly into parts of at most `most`.
fn even_part(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most).max(1)).max(1)
}
