//! Kernels on boxes: one unit per box.

use cubecl::prelude::*;

/// Multipliers of deltas.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct DeltaWeights {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// Sizes of the buffers of samples.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct SampleSizes {
    /// Samples per image.
    pub samples: u32,
    /// References per image.
    pub references: u32,
    /// References between two images; 0 if images share them.
    pub references_stride: u32,
    /// Slots for ground truth per image.
    pub slots: u32,
    /// Samples of all images.
    pub units: u32,
}

#[derive(CubeType, Clone, Copy)]
struct Corners {
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

#[cube]
fn corners(boxes: &[f32], index: u32) -> Corners {
    let at = (index * 4) as usize;
    Corners {
        x1: boxes[at],
        y1: boxes[at + 1],
        x2: boxes[at + 2],
        y2: boxes[at + 3],
    }
}

/// Writes the box `index` of `boxes`.
#[cube]
fn write_corners(boxes: &mut [f32], index: u32, corners: &Corners) {
    let at = (index * 4) as usize;
    boxes[at] = corners.x1;
    boxes[at + 1] = corners.y1;
    boxes[at + 2] = corners.x2;
    boxes[at + 3] = corners.y2;
}

/// Writes the deltas that turn `reference` into the ground truth `slot` of an image, whose first one is `first`: sample
/// `index` of `deltas`. Zeros for a negative slot.
#[cube]
fn write_deltas(
    deltas: &mut [f32],
    index: u32,
    gt: &[f32],
    first: u32,
    slot: i32,
    reference: &Corners,
    weights: &DeltaWeights,
) {
    let at = (index * 4) as usize;
    if slot < 0 {
        #[unroll]
        for i in 0..4usize {
            deltas[at + i] = 0.0f32;
        }
    } else {
        let object = corners(gt, first + u32::cast_from(slot));
        let width = reference.x2 - reference.x1;
        let height = reference.y2 - reference.y1;
        let object_width = object.x2 - object.x1;
        let object_height = object.y2 - object.y1;
        let x = reference.x1 + width * 0.5;
        let y = reference.y1 + height * 0.5;
        let object_x = object.x1 + object_width * 0.5;
        let object_y = object.y1 + object_height * 0.5;
        deltas[at] = (object_x - x) / width * weights.x;
        deltas[at + 1] = (object_y - y) / height * weights.y;
        deltas[at + 2] = (object_width / width).ln() * weights.width;
        deltas[at + 3] = (object_height / height).ln() * weights.height;
    }
}

/// `gt [n, slots, 4]`, `references [n or 1, references, 4]`, `candidates`, `matched [n, samples]` ->
/// `deltas [n, samples, 4]`, see [`fn@super::encode_boxes`].
#[cube(launch_unchecked)]
pub fn encode(
    gt: &[f32],
    references: &[f32],
    candidates: &[i32],
    matched: &[i32],
    deltas: &mut [f32],
    weights: &DeltaWeights,
    sizes: &SampleSizes,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.units {
        terminate!();
    }
    let image = unit / sizes.samples;
    let candidate = u32::cast_from(candidates[unit as usize]);
    let reference = corners(references, image * sizes.references_stride + candidate);
    let slot = matched[unit as usize];
    let first = image * sizes.slots;
    write_deltas(deltas, unit, gt, first, slot, &reference, weights);
}

/// The box of a candidate: one of the references, or of the ground truth after them.
#[cube]
fn candidate_box(
    references: &[f32],
    gt: &[f32],
    image: u32,
    candidate: u32,
    sizes: &SampleSizes,
) -> Corners {
    let is_reference = candidate < sizes.references;
    let place = min(candidate, sizes.references - 1);
    let slot = max(candidate, sizes.references) - sizes.references;
    let reference = corners(references, image * sizes.references_stride + place);
    let object = corners(gt, image * sizes.slots + slot);
    Corners {
        x1: select(is_reference, reference.x1, object.x1),
        y1: select(is_reference, reference.y1, object.y1),
        x2: select(is_reference, reference.x2, object.x2),
        y2: select(is_reference, reference.y2, object.y2),
    }
}

/// `proposals [n, references, 4]`, `gt [n, slots, 4]`, `labels [n, slots]`, `candidates`, `matched [n, samples]` ->
/// `boxes`, `deltas [n, samples, 4]`, `classes [n, samples]`, see [`fn@super::roi_targets`].
#[cube(launch_unchecked)]
pub fn gather_targets(
    proposals: &[f32],
    gt: &[f32],
    labels: &[i32],
    candidates: &[i32],
    matched: &[i32],
    boxes: &mut [f32],
    deltas: &mut [f32],
    classes: &mut [i32],
    weights: &DeltaWeights,
    sizes: &SampleSizes,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.units {
        terminate!();
    }
    let image = unit / sizes.samples;
    let candidate = u32::cast_from(candidates[unit as usize]);
    let reference = candidate_box(proposals, gt, image, candidate, sizes);
    write_corners(boxes, unit, &reference);
    let slot = matched[unit as usize];
    let first = image * sizes.slots;
    let label = labels[(first + u32::cast_from(max(slot, 0i32))) as usize];
    classes[unit as usize] = select(slot < 0, 0i32, label);
    write_deltas(deltas, unit, gt, first, slot, &reference, weights);
}

/// `boxes [n, total, 4]`, `index [n, k]` -> `gathered [n, k, 4]`, see [`fn@super::gather_boxes`].
#[cube(launch_unchecked)]
pub fn gather(
    boxes: &[f32],
    index: &[i32],
    gathered: &mut [f32],
    total: u32,
    slots: u32,
    units: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let place = u32::cast_from(max(index[unit as usize], 0i32));
    let found = corners(boxes, unit / slots * total + place);
    write_corners(gathered, unit, &found);
}

/// `boxes [k, 4]` -> `rows [k, 6]`, see [`fn@super::roi_rows`]; `slots` is the number of boxes per image.
#[cube(launch_unchecked)]
pub fn rows(boxes: &[f32], rows: &mut [f32], min_sides: Sequence<f32>, slots: u32, units: u32) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let from = (unit * 4) as usize;
    let to = (unit * 6) as usize;
    let width = boxes[from + 2] - boxes[from];
    let height = boxes[from + 3] - boxes[from + 1];
    let side = (width * height).sqrt();
    let mut level = 0.0f32;
    let count = comptime![min_sides.len()];
    #[unroll]
    for i in 0..count {
        level += select(side >= *min_sides.index(i), 1.0f32, 0.0f32);
    }
    rows[to] = f32::cast_from(unit / slots);
    rows[to + 1] = level;
    #[unroll]
    for i in 0..4usize {
        rows[to + 2 + i] = boxes[from + i];
    }
}
