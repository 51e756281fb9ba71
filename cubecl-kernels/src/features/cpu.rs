//! Operations on feature maps in slices, parallel over planes or cells.

use crate::cpu_conv::Output;
use crate::cpu_tasks::for_each_task;
use std::ops::Range;

/// Minimum number of values per task.
const CHUNK: usize = 32 << 10;

/// Calls `work` with the index and the values of every plane of `output`, in tasks of several planes.
fn for_each_plane(output: Output, plane: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if plane == 0 {
        return;
    }
    let planes = output.len() / plane;
    let few = CHUNK.div_ceil(plane);
    for_each_task(planes.div_ceil(few), output.len(), |task| {
        for index in task * few..((task + 1) * few).min(planes) {
            // SAFETY: every plane is written by one call.
            work(index, unsafe { output.slice(index * plane, plane) });
        }
    });
}

/// The larger value; NaN if either is NaN.
fn max(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Planes of `[h, w]` of `x` -> planes of `[ceil(h / 2), ceil(w / 2)]`: maxima of 3x3 cells, padding 1.
pub fn max_pool(x: &[f32], [h, w]: [usize; 2], output: Output) {
    let [rows, columns] = [h.div_ceil(2), w.div_ceil(2)];
    for_each_plane(output, rows * columns, |index, output| {
        let x = &x[index * h * w..][..h * w];
        let mut tall = vec![0.0; w];
        for (row, output) in output.chunks_exact_mut(columns).enumerate() {
            let first = (2 * row).saturating_sub(1);
            tall.copy_from_slice(&x[first * w..][..w]);
            for y in first + 1..(2 * row + 2).min(h) {
                for (tall, &x) in tall.iter_mut().zip(&x[y * w..][..w]) {
                    *tall = max(*tall, x);
                }
            }
            let whole = columns.min((w - 1) / 2 + 1);
            output[0] = max(tall[0], *tall.get(1).unwrap_or(&tall[0]));
            for (column, output) in output.iter_mut().enumerate().take(whole).skip(1) {
                let middle = max(tall[2 * column - 1], tall[2 * column]);
                *output = max(middle, *tall.get(2 * column + 1).unwrap_or(&middle));
            }
        }
    });
}

/// The gradient of `x`: each cell of `grad` goes to the first maximum of its window.
pub fn max_pool_gradient(x: &[f32], [h, w]: [usize; 2], grad: &[f32], gradient: Output) {
    let [rows, columns] = [h.div_ceil(2), w.div_ceil(2)];
    for_each_plane(gradient, h * w, |index, gradient| {
        let x = &x[index * h * w..][..h * w];
        let grad = &grad[index * rows * columns..][..rows * columns];
        gradient.fill(0.0);
        for (row, grad) in grad.chunks_exact(columns).enumerate() {
            let ys = (2 * row).saturating_sub(1)..(2 * row + 2).min(h);
            for (column, grad) in grad.iter().enumerate() {
                let xs = (2 * column).saturating_sub(1)..(2 * column + 2).min(w);
                gradient[first_maximum(x, w, ys.clone(), xs)] += grad;
            }
        }
    });
}

/// Position of the first maximum, or of the first NaN, within rows `ys` and columns `xs` of `x [h, w]`.
fn first_maximum(x: &[f32], w: usize, ys: Range<usize>, xs: Range<usize>) -> usize {
    let mut at = ys.start * w + xs.start;
    let mut best = x[at];
    for y in ys {
        for (index, &value) in (y * w + xs.start..).zip(&x[y * w..][xs.clone()]) {
            if !(value <= best || best.is_nan()) {
                (at, best) = (index, value);
            }
        }
    }
    at
}

/// Adds planes of `[ceil(h / 2), ceil(w / 2)]`, rows and columns doubled, to planes of `[h, w]`.
pub fn upsample_add(lateral: &mut [f32], [h, w]: [usize; 2], top: &[f32]) {
    let [rows, columns] = [h.div_ceil(2), w.div_ceil(2)];
    for_each_plane(Output::of(lateral), h * w, |index, lateral| {
        let top = &top[index * rows * columns..][..rows * columns];
        for (y, lateral) in lateral.chunks_exact_mut(w).enumerate() {
            let top = &top[y / 2 * columns..][..columns];
            let mut pairs = lateral.chunks_exact_mut(2);
            for (pair, &top) in pairs.by_ref().zip(top) {
                pair[0] += top;
                pair[1] += top;
            }
            if let [last] = pairs.into_remainder() {
                *last += top[columns - 1];
            }
        }
    });
}

/// The sums of 2x2 cells of planes of `[h, w]`; windows that are cut at odd sizes sum the remaining cells.
pub fn upsample_gradient(grad: &[f32], [h, w]: [usize; 2], gradient: Output) {
    let [rows, columns] = [h.div_ceil(2), w.div_ceil(2)];
    for_each_plane(gradient, rows * columns, |index, gradient| {
        let grad = &grad[index * h * w..][..h * w];
        for (row, gradient) in gradient.chunks_exact_mut(columns).enumerate() {
            gradient.fill(0.0);
            for y in 2 * row..(2 * row + 2).min(h) {
                let grad = &grad[y * w..][..w];
                let pairs = grad.chunks_exact(2);
                let last = pairs.remainder().first();
                for (sum, pair) in gradient.iter_mut().zip(pairs) {
                    *sum += pair[0] + pair[1];
                }
                if let Some(last) = last {
                    gradient[columns - 1] += last;
                }
            }
        }
    });
}

/// Pixels and channels of a tile that is transposed at a time.
const TILE: usize = 16;

/// `feature [n, c, plane]` -> `packed [cells, c]`, from cell `offset` on.
pub fn pack(feature: &[f32], [n, c, plane]: [usize; 3], packed: Output, offset: usize) {
    for_each_run(n, plane, c, |image, first, count| {
        // SAFETY: runs of cells are disjoint.
        let packed = unsafe { packed.slice((offset + image * plane + first) * c, count * c) };
        let feature = &feature[image * c * plane..][..c * plane];
        for channel in (0..c).step_by(TILE) {
            let channels = TILE.min(c - channel);
            for (pixel, cell) in packed.chunks_exact_mut(c).enumerate() {
                let to = &mut cell[channel..channel + channels];
                for (to, from) in to.iter_mut().zip(feature[channel * plane..].chunks(plane)) {
                    *to = from[first + pixel];
                }
            }
        }
    });
}

/// Sets all cells of `packed [cells, c]` except the first ones to zero.
pub fn clear(packed: Output, [cells, c]: [usize; 2], first: usize) {
    for_each_run(1, cells - first, c, |_, start, count| {
        // SAFETY: runs of cells are disjoint.
        unsafe { packed.slice((first + start) * c, count * c) }.fill(0.0);
    });
}

/// `packed [cells, c]`, from cell `offset` on -> `feature [n, c, plane]`.
pub fn unpack(packed: &[f32], [n, c, plane]: [usize; 3], feature: Output, offset: usize) {
    assert_eq!(feature.len(), n * c * plane);
    let groups = c.div_ceil(TILE);
    for_each_task(n * groups, feature.len(), |task| {
        let (image, channel) = (task / groups, task % groups * TILE);
        let channels = TILE.min(c - channel);
        let at = (image * c + channel) * plane;
        // SAFETY: one task per group of channels.
        let feature = unsafe { feature.slice(at, channels * plane) };
        let packed = &packed[(offset + image * plane) * c..][..plane * c];
        for (pixel, cell) in packed.chunks_exact(c).enumerate() {
            for (lane, &value) in cell[channel..channel + channels].iter().enumerate() {
                feature[lane * plane + pixel] = value;
            }
        }
    });
}

/// Calls `work(image, first, count)` for runs of `cells` cells of `c` values of every image.
fn for_each_run(
    n: usize,
    cells: usize,
    c: usize,
    work: impl Fn(usize, usize, usize) + Sync + Send,
) {
    if c == 0 || cells == 0 {
        return;
    }
    let run = (CHUNK / c).max(1);
    let runs = cells.div_ceil(run);
    for_each_task(n * runs, n * cells * c, |task| {
        let (image, first) = (task / runs, task % runs * run);
        work(image, first, run.min(cells - first));
    });
}
