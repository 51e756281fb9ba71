//! Launches of RoIAlign on the GPU backends. Nothing is read back.

use super::gradient::{GROUP, GROUP_WORDS, MapsLaunch, TILE, gather_gradient, mark_tiles};
use super::kernel::pool_rois;
use super::record::{Level, LevelLaunch, PoolingLaunch, locate_rois};
use super::taps::MAX_SAMPLES;
use super::{RECORD, RoiAlignOps, RoiAlignParams};
use crate::dtype::cast;
use crate::launch::{buffer, channels_last, dense, elementwise, elementwise_by, empty, own, zeros};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

impl RoiAlignOps for CubeBackend {
    fn roi_records(
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> IntTensor<Self> {
        let rois = dense(rois);
        let count = rois.meta.shape()[0];
        let records = empty(&rois, [count, RECORD], DType::I32);
        if count == 0 {
            return records;
        }
        let (cubes, cube) = elementwise(&rois, count);
        // SAFETY: units beyond the RoIs stop.
        unsafe {
            locate_rois::launch_unchecked(
                &rois.client,
                cubes,
                cube,
                buffer(&rois),
                buffer(&records),
                levels(&params, images),
                PoolingLaunch {
                    roi_count: count as u32,
                    images: images as u32,
                    bins_y: params.output[0] as u32,
                    bins_x: params.output[1] as u32,
                    sampling_ratio: params.sampling_ratio.min(MAX_SAMPLES) as u32,
                },
                params.aligned,
            );
        }
        records
    }

    fn roi_align(
        pyramid: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let (pyramid, records) = (dense(pyramid), dense(records));
        let [_, channels] = pyramid.meta.shape().dims();
        let [height, width] = params.output;
        let count = records.meta.shape()[0];
        let pooled = empty(&pyramid, [count, height, width, channels], pyramid.dtype);
        if pooled.meta.num_elements() > 0 {
            let slices = ChannelSlices::of(channels, 8);
            let units = count * height * width * slices.count;
            let (cubes, cube) = elementwise(&pooled, units);
            let dtype = dtype_to_storage_type(pooled.dtype);
            // SAFETY: records hold cells of the pyramid, and units beyond the output stop.
            unsafe {
                pool_rois::launch_unchecked(
                    &pooled.client,
                    cubes,
                    cube,
                    pyramid
                        .required_address_type()
                        .max(pooled.required_address_type()),
                    slices.vector,
                    buffer(&pyramid),
                    buffer(&records),
                    buffer(&pooled),
                    [height, width, slices.count].into_iter().collect(),
                    slices.count,
                    units,
                    slices.per_unit,
                    params.zero_padding,
                    dtype,
                );
            }
        }
        permute_nhwc_to_nchw(pooled)
    }

    fn roi_align_backward(
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> FloatTensor<Self> {
        let shape = [images * params.cells(), grad.meta.shape()[1]];
        if grad.meta.num_elements() == 0 || shape.contains(&0) {
            return zeros(&grad, shape, grad.dtype);
        }
        let gradient = empty(&grad, shape, grad.dtype);
        add_gradient(gradient, grad, records, &params, false)
    }

    fn roi_align_accumulate(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        if grad.meta.num_elements() == 0 || gradient.meta.num_elements() == 0 {
            return gradient;
        }
        let grad = cast::<Self>(grad, gradient.dtype);
        add_gradient(own(dense(gradient)), grad, records, &params, true)
    }
}

/// Writes the gradient of the pyramid to `gradient`; with `is_added`, adds it, and tiles that no RoI reaches are
/// neither read nor written.
fn add_gradient(
    gradient: CubeTensor,
    grad: CubeTensor,
    records: CubeTensor,
    params: &RoiAlignParams,
    is_added: bool,
) -> CubeTensor {
    let (grad, records) = (channels_last(grad), dense(records));
    let [count, height, width, channels] = grad.meta.shape().dims();
    let images = super::images(gradient.meta.shape()[0], params);
    let tiles = params.levels.iter().map(tiles).sum::<usize>();
    let groups = count.div_ceil(GROUP as usize);
    let marks = empty(&grad, [images * tiles, groups, GROUP_WORDS], DType::U32);
    let slices = ChannelSlices::of(channels, GRADIENT_VECTORS);
    let maps = || MapsLaunch {
        roi_count: count as u32,
        groups: groups as u32,
        tiles: tiles as u32,
        bins_y: height as u32,
        bins_x: width as u32,
    };
    // SAFETY: marks refer to RoIs of `grad` only, and units beyond the tiles or the maps stop.
    unsafe {
        let units = images * tiles * groups;
        let (cubes, cube) = elementwise(&grad, units);
        mark_tiles::launch_unchecked(
            &grad.client,
            cubes,
            cube,
            buffer(&records),
            buffer(&marks),
            levels(params, images),
            maps(),
            units as u32,
        );
        let units = images * tiles * (TILE * TILE) as usize * slices.count;
        let (cubes, cube) = elementwise_by(GRADIENT_UNITS, &grad, units);
        gather_gradient::launch_unchecked(
            &grad.client,
            cubes,
            cube,
            grad.required_address_type()
                .max(gradient.required_address_type()),
            slices.vector,
            buffer(&grad),
            buffer(&records),
            buffer(&marks),
            buffer(&gradient),
            levels(params, images),
            slices.count,
            slices.count,
            maps(),
            units,
            slices.per_unit,
            params.zero_padding,
            is_added,
            dtype_to_storage_type(gradient.dtype),
        );
    }
    gradient
}

/// Maximum vectors per unit of the gradient kernel. With eight, ptxas spills registers in f16.
const GRADIENT_VECTORS: usize = 4;
/// Units per cube of the gradient kernel. With 256, ptxas spills registers to stay within 64 per unit.
const GRADIENT_UNITS: u32 = 128;

fn levels(params: &RoiAlignParams, images: usize) -> SequenceArg<Level> {
    let mut first_tile = 0;
    params
        .levels
        .iter()
        .map(|level| {
            let launch = LevelLaunch {
                height: level.height as u32,
                width: level.width as u32,
                first_cell: (images * level.offset) as u32,
                first_tile: first_tile as u32,
                scale: level.scale,
            };
            first_tile += tiles(level);
            launch
        })
        .collect()
}

fn tiles(level: &super::PyramidLevel) -> usize {
    level.height.div_ceil(TILE as usize) * level.width.div_ceil(TILE as usize)
}

/// Division of the channels of a cell among `count` units, which process `per_unit` vectors each.
struct ChannelSlices {
    vector: VectorSize,
    per_unit: usize,
    count: usize,
}

impl ChannelSlices {
    /// Slices of at most `max_vectors` vectors per unit, whose sums are in registers.
    fn of(channels: usize, max_vectors: usize) -> Self {
        let vector = if channels.is_multiple_of(4) { 4 } else { 1 };
        let vectors = channels / vector;
        let fits = |n: &usize| *n <= max_vectors && vectors.is_multiple_of(*n);
        let per_unit = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        Self {
            vector,
            per_unit,
            count: vectors / per_unit,
        }
    }
}
