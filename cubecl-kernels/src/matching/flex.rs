//! Matching on flex, whose tensors are in host memory.

use super::{BACKGROUND, IGNORED, MatchOps, MatchThresholds, iou};
use crate::cpu_tasks::map_tasks;
use crate::flex::{floats, integers};
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// Candidates per task. A ground truth is compared with all of them in one loop.
const CHUNK: usize = 1024;

/// Qualities of one ground truth that [`highest`] compares at a time.
const LANES: usize = 16;

/// Operations per quality.
const OPERATIONS: usize = 16;

/// Matches each candidate to a ground truth in `gt` by `quality(gt, candidate)`. Returns the index of the ground truth,
/// [`BACKGROUND`] or [`IGNORED`] per candidate.
///
/// Quality is evaluated again for some candidates and not stored as a matrix, because 300,000 anchors times hundreds of
/// objects would not fit in memory. NaN never matches.
pub fn match_by<G: Sync, C: Sync>(
    gt: &[G],
    candidates: &[C],
    thresholds: &MatchThresholds,
    quality: impl Fn(&G, &C) -> f32 + Sync,
) -> Vec<i32> {
    let tasks = candidates.len().div_ceil(CHUNK);
    let operations = gt.len() * candidates.len() * OPERATIONS;
    let part = |task: usize| &candidates[task * CHUNK..candidates.len().min((task + 1) * CHUNK)];
    let best = map_tasks(tasks, operations, |task| best_of(gt, part(task), &quality));
    let mut highest = vec![f32::NEG_INFINITY; gt.len()];
    for part in &best {
        for (highest, value) in highest.iter_mut().zip(&part.of_gt) {
            *highest = highest.max(*value);
        }
    }
    let least = highest.iter().copied().fold(f32::INFINITY, f32::min);
    let matches = map_tasks(tasks, operations, |task| {
        let decide = |(candidate, (&value, &winner)): (&C, (&f32, &u32))| {
            let is_best_of = |(gt, &highest): (&G, &f32)| quality(gt, candidate) == highest;
            // No quality of a candidate is above its own best.
            let is_claimed = || {
                let can_be = value > f32::NEG_INFINITY && value >= least;
                thresholds.allow_low_quality && can_be && gt.iter().zip(&highest).any(is_best_of)
            };
            if value >= thresholds.fg_iou || is_claimed() {
                winner as i32
            } else if value < thresholds.bg_iou {
                BACKGROUND
            } else {
                IGNORED
            }
        };
        let of_candidates = best[task].values.iter().zip(&best[task].winners);
        let pairs = part(task).iter().zip(of_candidates);
        pairs.map(decide).collect::<Vec<i32>>()
    });
    matches.concat()
}

/// The best matches of some candidates.
struct Best {
    /// Highest quality of each candidate; minus infinity if there is no ground truth or every quality is NaN.
    values: Vec<f32>,
    /// Index of the first ground truth with that quality.
    winners: Vec<u32>,
    /// Highest quality of each ground truth.
    of_gt: Vec<f32>,
}

#[inline(always)]
fn best_of<G, C>(gt: &[G], candidates: &[C], quality: impl Fn(&G, &C) -> f32) -> Best {
    let mut best = Best {
        values: vec![f32::NEG_INFINITY; candidates.len()],
        winners: vec![0; candidates.len()],
        of_gt: Vec::with_capacity(gt.len()),
    };
    let mut qualities = vec![0.0f32; candidates.len()];
    for (index, gt) in (0..).zip(gt) {
        for (found, candidate) in qualities.iter_mut().zip(candidates) {
            *found = quality(gt, candidate);
        }
        let winners = best.values.iter_mut().zip(&mut best.winners);
        for ((value, winner), &found) in winners.zip(&qualities) {
            let is_better = found > *value;
            *value = if is_better { found } else { *value };
            *winner = if is_better { index } else { *winner };
        }
        best.of_gt.push(highest(&qualities));
    }
    best
}

/// The highest value that is not NaN, or minus infinity.
#[inline(always)]
fn highest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(value);
        }
    }
    let all = lanes.iter().chain(rest).copied();
    all.fold(f32::NEG_INFINITY, f32::max)
}

impl MatchOps for Flex {
    fn match_boxes(
        boxes: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        let [boxes, gt, counts] = [boxes, gt, counts].map(|tensor| tensor.to_contiguous());
        let shape = gt.layout().shape();
        let [n, slots] = [shape[0], shape[1]];
        let shape = boxes.layout().shape();
        let [images, total] = [shape[0], shape[1]];
        let (boxes, gt) = (floats(&boxes), floats(&gt));
        let (boxes, gt) = (boxes.as_chunks().0, gt.as_chunks().0);
        let mut matches = Vec::with_capacity(n * total);
        for (image, &count) in integers(&counts).iter().enumerate() {
            let first = if images == 1 { 0 } else { image };
            let boxes = &boxes[first * total..][..total];
            let count = usize::try_from(count).unwrap_or(0).min(slots);
            let gt = &gt[image * slots..][..count];
            matches.extend(match_by(gt, boxes, &thresholds, iou));
        }
        FlexTensor::from_data(TensorData::new(matches, [n, total]))
    }
}
