//! Convolutions as products of packed weights and strips: the output, and the gradient of the input.

mod block;
mod dense;
mod store;

use super::geometry::{ConvShape, Strips, View};
use super::isa::Isa;
use super::kernels::GROUP;
use super::output::Output;
use super::weights::{PackedWeights, Weights};
use crate::cpu_tasks::for_each_task;

/// Maximum number of sums of a block, which fit into a second-level cache together with the strips.
const SUMS: usize = 160 << 10;
/// Maximum number of values of a block's strips.
const STRIP: usize = 96 << 10;
/// Weights per output and pass: those of a group of outputs, and the pixels that they are multiplied
/// by, fit into a first-level cache. The order of the sums depends on it.
const DEPTH: usize = 288;
/// Minimum number of tiles per block before channels are split over threads.
const TILES: usize = 6;

/// Operations on a sum before it is stored.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One per output channel.
    pub bias: Option<&'a [f32]>,
    /// Added after the bias, shaped as the output.
    pub residual: Option<&'a [f32]>,
    /// Whether `max(., 0)` is applied last.
    pub relu: bool,
}

/// `input [images, inputs, h, w]`, `weights [outputs, inputs, k, k]` -> `[images, outputs, h', w']`.
///
/// Writes every value of `output`.
pub fn forward(
    isa: &Isa,
    shape: &ConvShape,
    input: &[f32],
    weights: Weights,
    epilogue: Epilogue,
    output: Output,
) {
    assert_eq!(input.len(), shape.input_len());
    assert_eq!(weights.values.len(), shape.weight_len());
    assert_eq!(output.len(), shape.output_len());
    let view = View::forward(shape);
    let place = Place {
        size: shape.output_size(),
        step: 1,
        phase: [0, 0],
        is_only_phase: false,
    };
    PackedWeights::forward(weights, shape, &view, |packed| {
        run(isa, &view, input, packed, epilogue, place, output);
    });
}

/// `grad [images, outputs, h', w']`, `weights [outputs, inputs, k, k]` -> `[images, inputs, h, w]`.
///
/// Writes every value of `gradient`: rows and columns of the input fall into `stride` phases each.
pub fn input_gradient(
    isa: &Isa,
    shape: &ConvShape,
    weights: Weights,
    grad: &[f32],
    gradient: Output,
) {
    assert_eq!(grad.len(), shape.output_len());
    assert_eq!(weights.values.len(), shape.weight_len());
    assert_eq!(gradient.len(), shape.input_len());
    let step = shape.stride;
    // A 1x1 kernel reads the first phase only: the others are zero.
    let is_only_phase = shape.kernel == 1;
    let phases = if is_only_phase { 1 } else { step * step };
    for phase in (0..phases).map(|phase| [phase / step, phase % step]) {
        let view = View::backward(shape, phase);
        let place = Place {
            size: shape.size,
            step,
            phase,
            is_only_phase,
        };
        PackedWeights::backward(weights, shape, &view, |packed| {
            run(
                isa,
                &view,
                grad,
                packed,
                Epilogue::default(),
                place,
                gradient,
            );
        });
    }
}

/// Position of the grid in the result: row `y` is row `y * step + phase[0]`.
#[derive(Clone, Copy)]
struct Place {
    size: [usize; 2],
    step: usize,
    phase: [usize; 2],
    /// Whether the other phases are zero and are written in the same call.
    is_only_phase: bool,
}

/// One call: the data shared by all its blocks.
struct Job<'a> {
    isa: &'a Isa,
    view: &'a View,
    strips: Strips<'a>,
    /// Input channels per pass.
    depth: usize,
    source: &'a [f32],
    weights: &'a PackedWeights<'a>,
    /// The bias, padded to whole groups.
    start: Vec<f32>,
    epilogue: Epilogue<'a>,
    place: Place,
    output: Output,
}

fn run(
    isa: &Isa,
    view: &View,
    source: &[f32],
    weights: &PackedWeights,
    epilogue: Epilogue,
    place: Place,
    output: Output,
) {
    let depth = (DEPTH / weights.taps.max(1)).clamp(1, weights.channels.max(1));
    let (rows, groups) = block_size(isa, view, weights, depth);
    let mut start = vec![0.0; weights.groups * GROUP];
    if let Some(bias) = epilogue.bias {
        start[..bias.len()].copy_from_slice(bias);
    }
    let job = Job {
        isa,
        view,
        strips: Strips::new(view, rows, isa.tile()),
        depth,
        source,
        weights,
        start,
        epilogue,
        place,
        output,
    };
    let blocks = view.rows().div_ceil(rows);
    let parts = weights.groups.div_ceil(groups);
    let depth = weights.channels * weights.taps;
    let operations = view.rows() * view.pitch() * weights.outputs * depth;
    for_each_task(blocks * parts, operations, |task| {
        let (block, part) = (task / parts, task % parts);
        let rows = block * rows..((block + 1) * rows).min(view.rows());
        let groups = part * groups..((part + 1) * groups).min(weights.groups);
        job.block(rows, groups);
    });
}

/// Rows and groups of output channels of a block. They determine where a value is computed, not how
/// it is summed, and may therefore depend on the number of threads.
fn block_size(isa: &Isa, view: &View, weights: &PackedWeights, depth: usize) -> (usize, usize) {
    let (pitch, all) = (view.pitch().max(1), view.rows().max(1));
    let by_sums = SUMS / (weights.groups.max(1) * GROUP * pitch);
    let by_strip = STRIP / (depth * view.phases.len().max(1) * pitch);
    let mut rows = by_sums.min(by_strip).clamp(1, all);
    // Wide outputs: fewer channels rather than so few rows that most of a strip is margin.
    let few = (8 * isa.tile()).div_ceil(pitch);
    let mut groups = weights.groups.max(1);
    if rows < few {
        rows = few.min(by_strip).clamp(1, all);
        let most = (SUMS / (rows * pitch * GROUP)).clamp(1, groups);
        groups = groups.div_ceil(groups.div_ceil(most));
    }
    let wanted = 4 * rayon::current_num_threads();
    if rayon::current_num_threads() > 1 {
        let tasks = |rows: usize, groups: usize| {
            all.div_ceil(rows) * weights.groups.max(1).div_ceil(groups)
        };
        while tasks(rows, groups) < wanted && (rows / 2) * pitch >= TILES * isa.tile() {
            rows = rows.div_ceil(2);
        }
        while tasks(rows, groups) < wanted && groups > 2 {
            groups = groups.div_ceil(2);
        }
    }
    (rows, groups)
}
