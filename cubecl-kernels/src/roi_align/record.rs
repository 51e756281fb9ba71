//! Records of RoIs for both kernels: the positions of the samples of the bins of an RoI on the two axes of its level.

use super::RECORD;
use super::taps::{MAX_COORDINATE, MAX_SAMPLES};
use cubecl::prelude::*;

/// One level of the pyramid.
#[derive(CubeType, CubeLaunch, Clone)]
pub(super) struct Level {
    /// Rows and columns of the feature map.
    pub height: u32,
    pub width: u32,
    /// First cell of all images' maps of the level, and first of an image's tiles (see [`super::gradient`]).
    pub first_cell: u32,
    pub first_tile: u32,
    /// Feature cells per pixel.
    pub scale: f32,
}

/// Sizes of RoIAlign.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Pooling {
    pub roi_count: u32,
    pub images: u32,
    /// Bins per RoI.
    pub bins_y: u32,
    pub bins_x: u32,
    /// Samples per bin and axis, 0 to adapt to the RoI.
    pub sampling_ratio: u32,
}

/// The samples of an RoI on one axis; those of bin `i` start at `from + i * bin`.
#[derive(CubeType, Clone)]
pub(super) struct Axis {
    /// In cells, like `bin`.
    pub from: f32,
    pub bin: f32,
    /// Samples per bin.
    pub samples: u32,
    /// Cells of the map.
    pub size: u32,
}

/// A record of [`RECORD`] words has the first cell of the RoI (that of its level in its image), then two axes, as bits.
pub(super) const ROWS: usize = 1;
pub(super) const COLUMNS: usize = 5;

/// First cell of an RoI that pools zeros.
pub(super) const ABSENT: u32 = u32::MAX;

/// Steps narrower than this are iterated and not solved for, because the quotient would be inaccurate.
const SOLVABLE_STEP: f32 = 0.25;

/// Upper bound of the rounding error of a quotient of coordinates up to [`MAX_COORDINATE`].
const QUOTIENT_ERROR: f32 = 0.25;

/// `rois [r, 6]` -> `records [r, RECORD]`. One unit per RoI.
#[cube(launch_unchecked)]
pub(super) fn locate_rois(
    rois: &[f32],
    records: &mut [u32],
    levels: Sequence<Level>,
    pooling: &Pooling,
    #[comptime] aligned: bool,
) {
    if ABSOLUTE_POS >= pooling.roi_count as usize {
        terminate!();
    }
    let roi = ABSOLUTE_POS * 6;
    let image = index_below(rois[roi], pooling.images);
    let level_count = comptime![levels.len()];
    let index = index_below(rois[roi + 1], comptime![level_count as u32]);
    let mut height = 0u32;
    let mut width = 0u32;
    let mut first_cell = 0u32;
    let mut scale = 0.0f32;
    #[unroll]
    for i in 0..level_count {
        let level = levels.index(i);
        if index == comptime![i as u32] {
            height = level.height;
            width = level.width;
            first_cell = level.first_cell;
            scale = level.scale;
        }
    }
    let shift = comptime![if aligned { 0.5f32 } else { 0.0f32 }];
    let x1 = rois[roi + 2] * scale - shift;
    let y1 = rois[roi + 3] * scale - shift;
    let x2 = rois[roi + 4] * scale - shift;
    let y2 = rois[roi + 5] * scale - shift;
    let rows = Axis::between(
        y1,
        y2,
        pooling.bins_y,
        height,
        pooling.sampling_ratio,
        aligned,
    );
    let columns = Axis::between(
        x1,
        x2,
        pooling.bins_x,
        width,
        pooling.sampling_ratio,
        aligned,
    );
    let has_bounded_corners = is_bounded(x1) && is_bounded(y1) && is_bounded(x2) && is_bounded(y2);
    let is_present =
        has_bounded_corners && image != ABSENT && rows.is_sampled() && columns.is_sampled();

    let record = ABSOLUTE_POS * RECORD;
    records[record] = select(is_present, first_cell + image * height * width, ABSENT);
    rows.write(records, record + ROWS);
    columns.write(records, record + COLUMNS);
}

/// An index stored as a float, or [`ABSENT`] if it is not one of `count`.
#[cube]
fn index_below(value: f32, count: u32) -> u32 {
    let is_index = is_finite(value) && value >= 0.0f32 && value < f32::cast_from(count);
    // Converting a value out of the range of u32 is undefined.
    let value = select(is_index, value, 0.0f32);
    select(is_index, u32::cast_from(value), ABSENT)
}

#[cube]
fn is_bounded(coordinate: f32) -> bool {
    is_finite(coordinate) && coordinate.abs() <= MAX_COORDINATE
}

/// Tested on the bits, because shader compilers may assume that no float is NaN or infinite.
#[cube]
fn is_finite(value: f32) -> bool {
    (value.to_bits() & 0x7f80_0000u32) != 0x7f80_0000u32
}

#[cube]
impl Axis {
    /// The axis of `bins` bins of `[from, to)`.
    fn between(
        from: f32,
        to: f32,
        bins: u32,
        size: u32,
        sampling_ratio: u32,
        #[comptime] aligned: bool,
    ) -> Axis {
        let mut length = to - from;
        if comptime![!aligned] {
            length = length.max(1.0f32);
        }
        let count = f32::cast_from(bins);
        let bin = length / count;
        let mut samples = sampling_ratio;
        if sampling_ratio == 0 {
            // The last bit of the quotient may be wrong, which must not turn 2.0 into 3 samples.
            let up = bin.ceil();
            let exact = select((up - 1.0f32) * count >= length, up - 1.0f32, up);
            samples = u32::cast_from(exact.clamp(0.0f32, comptime![MAX_SAMPLES as f32]));
        }
        Axis {
            from,
            bin,
            samples,
            size,
        }
    }

    /// Reads what [`Self::write`] wrote at `at`.
    pub fn read(records: &[u32], at: usize) -> Axis {
        Axis {
            from: f32::from_bits(records[at]),
            bin: f32::from_bits(records[at + 1]),
            samples: records[at + 2],
            size: records[at + 3],
        }
    }

    fn write(&self, records: &mut [u32], at: usize) {
        records[at] = self.from.to_bits();
        records[at + 1] = self.bin.to_bits();
        records[at + 2] = self.samples;
        records[at + 3] = self.size;
    }

    fn is_sampled(&self) -> bool {
        self.samples > 0 && self.size > 0
    }

    /// Position of a sample of a bin, with the order of operations of the CPU version.
    fn position(&self, bin: u32, sample: u32) -> f32 {
        let samples = f32::cast_from(self.samples);
        self.from
            + f32::cast_from(bin) * self.bin
            + (f32::cast_from(sample) + 0.5f32) * self.bin / samples
    }

    /// The cells that the samples of a bin can read: `first..end`.
    pub fn cells_of(&self, bin: u32) -> (u32, u32) {
        let one = self.position(bin, 0u32);
        let other = self.position(bin, self.samples - 1);
        let last = f32::cast_from(self.size - 1);
        let first = one.min(other).clamp(0.0f32, last);
        let end = one.max(other).clamp(0.0f32, last) + 2.0f32;
        (u32::cast_from(first), u32::cast_from(end).min(self.size))
    }

    /// The bins of `count` whose samples can read a cell: `first..end`.
    pub fn bins_at(&self, cell: u32, count: u32) -> (u32, u32) {
        let cell = f32::cast_from(cell);
        steps_between(self.from, self.bin, count, cell - 1.0f32, cell + 1.0f32)
    }

    /// The weight of a cell in the mean of the samples of a bin. Samples more than one cell outside the map count as
    /// zero; closer ones read the nearest cell or, with `zero_padding`, interpolate between it and zero.
    pub fn weight(&self, bin: u32, cell: u32, #[comptime] zero_padding: bool) -> f32 {
        let cell = f32::cast_from(cell);
        let size = f32::cast_from(self.size);
        let start = self.from + f32::cast_from(bin) * self.bin;
        let step = self.bin / f32::cast_from(self.samples);
        let (first, end) = steps_between(start, step, self.samples, cell - 1.0f32, cell + 1.0f32);
        let mut sum = 0.0f32;
        for sample in first..end {
            let position = self.position(bin, sample);
            if position >= -1.0f32 && position <= size {
                let place = if comptime![zero_padding] {
                    position
                } else {
                    position.clamp(0.0f32, size - 1.0f32)
                };
                let distance = (place - cell).abs();
                sum += (1.0f32 - distance).max(0.0f32);
            }
        }
        sum / f32::cast_from(self.samples)
    }
}

/// The steps `start + [i * step, (i + 1) * step]`, `i < count`, that can reach `[low, high]`:
/// `first..end`.
#[cube]
fn steps_between(start: f32, step: f32, count: u32, low: f32, high: f32) -> (u32, u32) {
    let is_solvable = step >= SOLVABLE_STEP;
    let limit = f32::cast_from(count);
    let divisor = select(is_solvable, step, 1.0f32);
    let first = ((low - start) / divisor - QUOTIENT_ERROR).floor();
    let end = ((high - start) / divisor + QUOTIENT_ERROR).ceil();
    let first = select(is_solvable, first.clamp(0.0f32, limit), 0.0f32);
    let end = select(is_solvable, end.clamp(0.0f32, limit), limit);
    (u32::cast_from(first), u32::cast_from(end))
}
