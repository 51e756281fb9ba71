//! RoIAlign over all levels of a feature pyramid at once, forward and backward.
//!
//! The pyramid is one channels-last tensor ([`pack_pyramid`]), so that a single launch reads every level and the
//! channels of a sample are contiguous.

mod autodiff;
#[cfg(feature = "flex")]
pub mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gradient;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod record;
pub(crate) mod taps;

use crate::dtype::to_f32;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor};

/// Position of a level in the packed pyramid, and its scale.
#[derive(Clone, Debug, PartialEq)]
pub struct PyramidLevel {
    /// Rows of the feature map.
    pub height: usize,
    /// Columns of the feature map.
    pub width: usize,
    /// Number of cells per image of the levels before it.
    pub offset: usize,
    /// Feature cells per pixel, e.g. 1/4 for P2.
    pub scale: f32,
}

/// Parameters of RoIAlign, as in torchvision's `roi_align`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoiAlignParams {
    /// Output height and width in bins.
    pub output: [usize; 2],
    /// Samples per bin and axis; 0 adapts to the box (`ceil(bin size)`).
    pub sampling_ratio: usize,
    /// Whether boxes are shifted by half a cell, as in Detectron2; torchvision's detectors do not shift them.
    pub aligned: bool,
    /// Whether cells beyond a map are zeros, as with `padding_mode="zeros"` of PyTorch's `grid_sample`. If false, as in
    /// torchvision, a sample up to one cell outside the map reads the nearest cell. A sample farther outside is zero.
    pub zero_padding: bool,
    /// The levels of the pyramid.
    pub levels: Vec<PyramidLevel>,
}

/// 32-bit words per record on GPUs.
const RECORD: usize = 9;

/// RoIAlign as backend operations; use [`roi_align`].
///
/// The forward and the backward pass share the records of the RoIs, which depend on the RoIs, the parameters and the
/// number of images.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait RoiAlignOps: Backend {
    /// `rois [r, 6]` -> one record per RoI, i32, for the other operations of the same backend: the position of the
    /// samples on GPUs, the bits of the RoI on the CPU.
    #[fusion(dtype = burn::tensor::DType::I32, shape = records_shape(rois))]
    fn roi_records(
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> IntTensor<Self>;

    /// `pyramid [n * cells, c]`, `records` of `r` RoIs -> `[r, c, h, w]`.
    #[fusion(dtype = pyramid, shape = pooled_shape(pyramid, records, params))]
    fn roi_align(
        pyramid: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self>;

    /// `grad [r, c, h, w]`, `records` of `r` RoIs -> the gradient of `pyramid [images * cells, c]`.
    #[fusion(dtype = grad, shape = gradient_shape(grad, params, images))]
    fn roi_align_backward(
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> FloatTensor<Self>;

    /// `gradient [n * cells, c]` plus [`Self::roi_align_backward`] of the others, in the dtype of `gradient`, in place
    /// if nothing else refers to it.
    #[fusion(dtype = gradient, shape = gradient)]
    fn roi_align_accumulate(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self>;
}

impl RoiAlignParams {
    /// Cells of all levels together.
    pub fn cells(&self) -> usize {
        self.levels
            .iter()
            .map(|level| level.height * level.width)
            .sum()
    }
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn records_shape(rois: &Shape) -> Shape {
    Shape::new([rois[0], RECORD])
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn pooled_shape(pyramid: &Shape, records: &Shape, params: &RoiAlignParams) -> Shape {
    Shape::new([records[0], pyramid[1], params.output[0], params.output[1]])
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn gradient_shape(grad: &Shape, params: &RoiAlignParams, images: &usize) -> Shape {
    Shape::new([images * params.cells(), grad[1]])
}

/// Packs feature maps `[n, c, h, w]` (finest first) into `[n * cells, c]`, and returns the table of levels. All
/// images of a level come before the next level, so that each level of the gradient is a view.
///
/// `scales` has the feature cells per pixel of each level. Differentiable.
///
/// # Panics
///
/// If there are no maps, or they differ in `n` or `c`.
pub fn pack_pyramid(features: &[Tensor<4>], scales: &[f32]) -> (Tensor<2>, Vec<PyramidLevel>) {
    let mut levels = Vec::with_capacity(features.len());
    let mut offset = 0;
    for (feature, &scale) in features.iter().zip(scales) {
        let [_, _, height, width] = feature.dims();
        levels.push(PyramidLevel {
            height,
            width,
            offset,
            scale,
        });
        offset += height * width;
    }
    (crate::features::pack(features), levels)
}

/// Number of images of a pyramid of `cells` cells.
///
/// # Panics
///
/// If `cells` is not a multiple of the cells of the levels. If those have no cells, `cells` must be 0.
fn images(cells: usize, params: &RoiAlignParams) -> usize {
    let per_image = params.cells();
    assert!(
        cells.is_multiple_of(per_image),
        "the pyramid's {cells} cells must be a multiple of the {per_image} cells of the levels"
    );
    cells / per_image.max(1)
}

/// Pools every RoI to `params.output` bins: `[r, c, h, w]`.
///
/// * `pyramid` - `[n * cells, c]`, from [`pack_pyramid`].
/// * `rois` - `[r, 6]`: image index, level index, then `x1, y1, x2, y2` in pixels of the input
///   image. RoIs are constants without gradients.
///
/// Equals torchvision's `roi_align` (Mask R-CNN, section 3) applied level by level, but for
/// [`RoiAlignParams::zero_padding`]. An RoI pools zeros, without gradient, if its box is not finite or more than 65536
/// cells from the origin, or if its image or level does not exist. f16 features are summed in f32 and rounded once at
/// the end. Gradients are summed in a fixed order, so two runs are bit-equal.
///
/// # Panics
///
/// If the number of cells of `pyramid` is not a multiple of [`RoiAlignParams::cells`], or a row of `rois` does not have
/// 6 values.
pub fn roi_align(pyramid: Tensor<2>, rois: Tensor<2>, params: &RoiAlignParams) -> Tensor<4> {
    let images = images(pyramid.dims()[0], params);
    assert_eq!(
        rois.dims()[1],
        6,
        "an RoI has 6 values: image, level, x1, y1, x2, y2"
    );
    let rois = to_f32(rois).into_dispatch();
    let records = <Dispatch as RoiAlignOps>::roi_records(rois, params.clone(), images);
    let pyramid = pyramid.into_dispatch();
    let pooled = <Dispatch as RoiAlignOps>::roi_align(pyramid, records, params.clone());
    Tensor::from_dispatch(pooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(width: usize) -> RoiAlignParams {
        RoiAlignParams {
            output: [7, 7],
            sampling_ratio: 2,
            aligned: false,
            zero_padding: false,
            levels: vec![PyramidLevel {
                height: 2,
                width,
                offset: 0,
                scale: 0.25,
            }],
        }
    }

    #[test]
    fn images_have_the_cells_of_all_levels() {
        assert_eq!(images(18, &params(3)), 3);
        assert_eq!([3, 0].map(|width| images(0, &params(width))), [0, 0]);
    }

    #[test]
    #[should_panic(expected = "must be a multiple of the 6 cells")]
    fn images_have_whole_levels() {
        images(17, &params(3));
    }

    #[test]
    #[should_panic(expected = "must be a multiple of the 0 cells")]
    fn cells_are_of_a_level() {
        images(18, &params(0));
    }
}
