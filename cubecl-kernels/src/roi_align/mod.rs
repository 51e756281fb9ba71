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
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};

/// Position of a level in the packed pyramid, and its scale.
#[derive(Clone, Debug, PartialEq)]
pub struct PyramidLevel {
    /// Rows of the feature map.
    pub height: usize,
    /// Columns of the feature map.
    pub width: usize,
    /// Index of its first cell in the packed tensor; levels are contiguous.
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
    /// The levels of the pyramid.
    pub levels: Vec<PyramidLevel>,
}

/// RoIAlign as a backend operation; use [`roi_align`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait RoiAlignOps: Backend {
    /// `pyramid [n, cells, c]`, `rois [r, 6]` -> `[r, c, h, w]`.
    #[fusion(dtype = pyramid, shape = pooled_shape(pyramid, rois, params))]
    fn roi_align(
        pyramid: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self>;

    /// `grad [r, c, h, w]`, `rois [r, 6]` -> the gradient of `pyramid [images, cells, c]`.
    #[fusion(dtype = grad, shape = gradient_shape(grad, params, images))]
    fn roi_align_backward(
        grad: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> FloatTensor<Self>;

    /// `gradient [n, cells, c]` plus [`Self::roi_align_backward`] of the others, in the dtype of `gradient`, in place
    /// if nothing else refers to it.
    #[fusion(dtype = gradient, shape = gradient)]
    fn roi_align_accumulate(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rois: FloatTensor<Self>,
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
fn pooled_shape(pyramid: &Shape, rois: &Shape, params: &RoiAlignParams) -> Shape {
    Shape::new([rois[0], pyramid[2], params.output[0], params.output[1]])
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn gradient_shape(grad: &Shape, params: &RoiAlignParams, images: &usize) -> Shape {
    Shape::new([*images, params.cells(), grad[1]])
}

/// Packs feature maps `[n, c, h, w]` (finest first) into `[n, cells, c]`, and returns the table of levels.
///
/// `scales` has the feature cells per pixel of each level. Differentiable.
pub fn pack_pyramid(features: &[Tensor<4>], scales: &[f32]) -> (Tensor<3>, Vec<PyramidLevel>) {
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

/// Pools every RoI to `params.output` bins: `[r, c, h, w]`.
///
/// * `pyramid` - `[n, cells, c]`, from [`pack_pyramid`].
/// * `rois` - `[r, 6]`: image index, level index, then `x1, y1, x2, y2` in pixels of the input
///   image. RoIs are constants without gradients.
///
/// Equals torchvision's `roi_align` (Mask R-CNN, section 3) applied level by level. An RoI pools
/// zeros, without gradient, if its box is not finite or more than 65536 cells away, or if its image or level does not
/// exist. f16 features are summed in f32 and rounded once at the end. Gradients are summed in a fixed order, so two
/// runs are bit-equal.
///
/// # Panics
///
/// If `params.levels` does not describe the cells of `pyramid`, or a row of `rois` does not have 6 values.
pub fn roi_align(pyramid: Tensor<3>, rois: Tensor<2>, params: &RoiAlignParams) -> Tensor<4> {
    assert_eq!(
        pyramid.dims()[1],
        params.cells(),
        "the levels must cover the cells of the pyramid"
    );
    assert_eq!(
        rois.dims()[1],
        6,
        "an RoI has 6 values: image, level, x1, y1, x2, y2"
    );
    let pooled = <Dispatch as RoiAlignOps>::roi_align(
        pyramid.into_dispatch(),
        to_f32(rois).into_dispatch(),
        params.clone(),
    );
    Tensor::from_dispatch(pooled)
}
