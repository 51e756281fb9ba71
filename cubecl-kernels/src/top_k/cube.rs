//! Top-k on the devices of CubeCL: wgpu and CUDA.

use super::TopKOps;
use super::kernel::{EMPTY, MAX_ORDER, UNITS, select_best};
use super::sort::sort_best;
use crate::launch::{buffer, buffer_or_unread, dense, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;
use std::ops::Range;

/// Longer segments are divided among several cubes: the best of every piece are selected first, then
/// the best of those.
const PIECE: usize = 16_384;

/// A row of the kernel's table: the ranges that a cube reads and writes.
struct Job {
    candidates: Range<usize>,
    slots: Range<usize>,
}

impl TopKOps for CubeBackend {
    fn top_k_segments(
        scores: FloatTensor<Self>,
        segments: Vec<Range<usize>>,
        k: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let scores = dense(scores);
        let [rows, total] = [scores.shape()[0], scores.shape()[1]];
        assert!(
            total <= MAX_ORDER as usize,
            "top-k ranks at most {MAX_ORDER} scores per row, not {total}"
        );
        let count = segments.len();
        let (lists, candidates) = if segments.iter().any(|segment| segment.len() > PIECE) {
            let (pieces, lists) = cut(&segments, k);
            let listed = lists.last().map_or(0, |list| list.end);
            let candidates = select(&scores, None, &pieces, [rows, 1, listed]);
            (lists, Some(candidates))
        } else {
            (segments, None)
        };
        let jobs: Vec<Job> = lists
            .into_iter()
            .enumerate()
            .map(|(segment, candidates)| Job {
                candidates,
                slots: segment * k..(segment + 1) * k,
            })
            .collect();
        let indices = select(&scores, candidates, &jobs, [rows, count, k]);
        sort(scores, indices)
    }
}

/// Divides segments into pieces of which the `k` best are listed; also returns the ranges of each segment's lists.
fn cut(segments: &[Range<usize>], k: usize) -> (Vec<Job>, Vec<Range<usize>>) {
    let mut jobs = Vec::new();
    let mut listed = 0;
    let lists = segments
        .iter()
        .map(|segment| {
            let first = listed;
            for start in segment.clone().step_by(PIECE) {
                let candidates = start..segment.end.min(start + PIECE);
                let slots = listed..listed + k.min(candidates.len());
                listed = slots.end;
                jobs.push(Job { candidates, slots });
            }
            first..listed
        })
        .collect();
    (jobs, lists)
}

/// Runs the jobs on every row of `scores`, over the listed candidates or over the scores themselves.
fn select(
    scores: &CubeTensor,
    candidates: Option<CubeTensor>,
    jobs: &[Job],
    shape: [usize; 3],
) -> CubeTensor {
    let client = scores.client.clone();
    let [rows, total] = [scores.shape()[0], scores.shape()[1]];
    let selected_total = shape[1] * shape[2];
    let selected = empty(scores, shape, DType::I32);
    if rows * jobs.len() == 0 {
        return selected;
    }
    let table: Vec<u32> = jobs
        .iter()
        .flat_map(|job| {
            let (from, to) = (&job.candidates, &job.slots);
            [from.start, from.len(), to.start, to.len()].map(|v| v as u32)
        })
        .collect();
    let segments = client.create_from_slice(u32::as_bytes(&table));
    let listed = candidates.is_some();
    let candidates_total = candidates.as_ref().map_or(0, |list| list.shape()[2]);
    let candidates = buffer_or_unread(&client, candidates.as_ref(), [1, size_of::<u32>()]);
    // SAFETY: the jobs lie within the rows of `scores`, `candidates` and `selected`.
    unsafe {
        select_best::launch_unchecked(
            &client,
            CubeCount::Static(jobs.len() as u32, rows as u32, 1),
            CubeDim::new_1d(UNITS),
            buffer(scores),
            BufferArg::from_raw_parts(segments, table.len()),
            candidates,
            buffer(&selected),
            total as u32,
            candidates_total as u32,
            selected_total as u32,
            listed,
        );
    }
    selected
}

/// `indices [n, segments, k]`, sorted best first, and their scores.
fn sort(scores: CubeTensor, indices: CubeTensor) -> (CubeTensor, CubeTensor) {
    let shape: [usize; 3] = indices.meta.shape().dims();
    let [rows, segments, k] = shape;
    let best = empty(&scores, shape, DType::F32);
    if rows * segments > 0 {
        // SAFETY: the indices are `EMPTY` or lie within a row of `scores`.
        unsafe {
            sort_best::launch_unchecked(
                &scores.client,
                CubeCount::Static(segments as u32, rows as u32, 1),
                CubeDim::new_1d(UNITS),
                buffer(&scores),
                buffer(&indices),
                buffer(&best),
                scores.shape()[1] as u32,
                k as u32,
                k.next_power_of_two() as u32,
            );
        }
    }
    (best, indices)
}

const _: () = assert!(EMPTY as i32 == -1);
