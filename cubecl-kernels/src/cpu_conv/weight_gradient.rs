//! Gradient of the weights: dot products of rows of the input and rows of the gradient.
//!
//! Vectors run along the pixels of both, in their memory layout: nothing is transposed. 1x1 convolutions with stride
//! 1 on images of at least [`PIXELS`] pixels are computed without a copy; with a stride, the pixels that they read
//! are gathered once. Every weight is summed in one task over blocks of pixels of a fixed size, so that it does not
//! depend on the number of threads.

use super::geometry::{ConvShape, Strips, View, copy_strided};
use super::isa::Isa;
use super::kernels::{AHEAD, Dots, GROUP, WIDTH};
use super::output::Output;
use super::scratch::with_scratch;
use crate::cpu_tasks::for_each_task;
use std::ops::Range;

/// Pixels of a block: [`GROUP`] rows of the gradient fit into a first-level cache.
const PIXELS: usize = 768;
/// Maximum number of sums of a task, which fit into a second-level cache together with the strips.
const SUMS: usize = 160 << 10;
/// Output channels of a task, unless there are few tasks.
const OUTPUTS: usize = 64;
/// Maximum number of output channels of a task.
const MAX_OUTPUTS: usize = 96;
/// Minimum number of columns (input channels times taps) of a task that does not have all: with fewer, reading takes
/// most of the time.
const MIN_COLUMNS: usize = 12 * WIDTH;

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
    if shape.kernel == 1 && shape.stride > 1 {
        let sampled = gather_strided(shape, input);
        let shape = ConvShape {
            size: shape.output_size(),
            stride: 1,
            ..*shape
        };
        return weight_gradient(isa, &shape, &sampled, grad, gradient);
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

/// The pixels that a 1x1 kernel reads, `[images, inputs, h', w']`: gathered once, instead of by every task.
fn gather_strided(shape: &ConvShape, input: &[f32]) -> Vec<f32> {
    let ([h, w], [rows, columns]) = (shape.size, shape.output_size());
    let mut sampled = vec![0.0; shape.images * shape.inputs * rows * columns];
    let lines = Output::of(&mut sampled);
    for_each_task(shape.images * shape.inputs, lines.len(), |plane| {
        for row in 0..rows {
            let from = &input[(plane * h + row * shape.stride) * w..][..w];
            // SAFETY: one task per plane.
            let to = unsafe { lines.slice((plane * rows + row) * columns, columns) };
            copy_strided(shape.stride, from, to);
        }
    });
    sampled
}

/// Numbers of output and input channels of a task, so that there are enough tasks for the threads. No sum depends on
/// them.
fn task_size(isa: &Isa, shape: &ConvShape) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    let tasks = |(outputs, inputs): (usize, usize)| {
        shape.outputs.div_ceil(outputs) * shape.inputs.div_ceil(inputs)
    };
    // Input channels whose sums fit.
    let most_inputs = |outputs: usize| {
        let columns = SUMS / (outputs / GROUP * isa.dot_sums()) * WIDTH;
        (columns / shape.taps()).clamp(1, shape.inputs.max(1))
    };
    let all_outputs = shape.outputs.next_multiple_of(GROUP).max(GROUP);
    let usual = OUTPUTS.min(all_outputs);
    let usual = (usual, most_inputs(usual));
    if threads == 1 || tasks(usual) >= 4 * threads {
        return usual;
    }
    // Every task reads its rows of both sides, which others read too, and copies them unless the kernel is 1x1. Of the
    // divisions into enough tasks, the one that reads least is taken.
    let pixels = shape.stride * shape.stride;
    let read = |size @ (outputs, inputs): (usize, usize)| tasks(size) * (outputs + inputs * pixels);
    let most_parts = shape.inputs.min(4 * threads);
    let sizes = (GROUP..=all_outputs.min(MAX_OUTPUTS)).step_by(GROUP);
    let sizes = sizes.flat_map(|outputs| {
        let most = most_inputs(outputs);
        let divided = (1..=most_parts).map(|parts| shape.inputs.div_ceil(parts));
        let fit = move |&inputs: &usize| inputs <= most && inputs * shape.taps() >= MIN_COLUMNS;
        let divided = divided.filter(fit);
        divided.chain([most]).map(move |inputs| (outputs, inputs))
    });
    let missing = |&size: &(usize, usize)| ((2 * threads).saturating_sub(tasks(size)), read(size));
    sizes.min_by_key(missing).unwrap_or(usual)
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

/// Pixels that are multiplied in one call.
#[derive(Clone, Copy)]
struct Block {
    /// Output and input channels.
    channels: [usize; 2],
    /// Vectors of pixels per channel.
    vectors: usize,
    /// Whether the sums start with this block.
    is_first: bool,
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
            let block = Block {
                channels: [outputs.len(), inputs.len()],
                vectors,
                is_first: start == 0,
            };
            self.multiply(
                block,
                |output| grad[output * grad_stride + first..].as_ptr(),
                |channel, tap| {
                    let offset = input_strips.offsets[tap] as usize;
                    input[channel * input_stride + offset..].as_ptr()
                },
                || None,
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
        let part = even_part(plane, PIXELS).next_multiple_of(self.isa.lanes);
        let starts = |image| (0..plane).step_by(part).map(move |start| (image, start));
        let mut places = (0..shape.images).flat_map(starts).peekable();
        // The pixels of a channel in the block at a place.
        let input_row = |(image, start): (usize, usize), channel: usize| {
            let at = (image * shape.inputs + inputs.start + channel) * plane + start;
            &self.input[at..][..part.min(plane - start)]
        };
        let grad_row = |(image, start): (usize, usize), output: usize| {
            let at = (image * shape.outputs + outputs.start + output) * plane + start;
            &self.grad[at..][..part.min(plane - start)]
        };
        while let Some(place) = places.next() {
            let pixels = part.min(plane - place.1);
            let block = Block {
                channels: [outputs.len(), inputs.len()],
                vectors: pixels.div_ceil(self.isa.lanes),
                is_first: place == (0, 0),
            };
            // Rows are in different memory pages, and the CPU's hardware prefetcher does not cross pages.
            let mut next = places.peek().into_iter().flat_map(|&next| {
                let inputs = (0..inputs.len()).map(move |row| input_row(next, row));
                inputs.chain((0..outputs.len()).map(move |row| grad_row(next, row)))
            });
            let mut ahead = || next.next().map(<[f32]>::as_ptr);
            if pixels.is_multiple_of(self.isa.lanes) {
                let input_row = |channel, _| input_row(place, channel).as_ptr();
                self.multiply(
                    block,
                    |row| grad_row(place, row).as_ptr(),
                    input_row,
                    &mut ahead,
                    sums,
                );
            } else {
                let pad = |from: &[f32], to: &mut [f32]| {
                    let (to, rest) = to.split_at_mut(pixels);
                    to.copy_from_slice(from);
                    rest.fill(0.0);
                };
                for (row, to) in (0..inputs.len()).zip(input.chunks_exact_mut(PIXELS)) {
                    pad(input_row(place, row), to);
                }
                for (row, to) in (0..outputs.len()).zip(grad.chunks_exact_mut(PIXELS)) {
                    pad(grad_row(place, row), to);
                }
                let input_row = |channel: usize, _| input[channel * PIXELS..].as_ptr();
                self.multiply(
                    block,
                    |row| grad[row * PIXELS..].as_ptr(),
                    input_row,
                    &mut ahead,
                    sums,
                );
            }
        }
    }

    /// Adds the products of the vectors of every row of both sides, and loads rows of `ahead` into the cache meanwhile.
    fn multiply(
        &self,
        block: Block,
        grad_row: impl Fn(usize) -> *const f32,
        input_row: impl Fn(usize, usize) -> *const f32,
        mut ahead: impl FnMut() -> Option<*const f32>,
        sums: &mut [f32],
    ) {
        let ([outputs, inputs], taps) = (block.channels, self.shape.taps());
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
                    ahead: [(); AHEAD].map(|()| ahead().unwrap_or(rows[0])),
                    columns: std::array::from_fn(column),
                    vectors: block.vectors,
                    start: block.is_first,
                    sums: sums.next().expect("one for each pass").as_mut_ptr(),
                };
                // SAFETY: every row holds `block.vectors` vectors from its pointer on.
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
