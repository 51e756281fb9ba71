//! RoIAlign over all levels of a feature pyramid at once, forward and backward.
//!
//! The pyramid travels as one channels-last tensor ([`pack_pyramid`]), so that a single launch reads
//! every level and a sample's channels lie side by side.

mod autodiff;
mod backends;
pub mod cpu;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

/// Where one level of the pyramid lies in the packed tensor, and its scale.
#[derive(Clone, Debug, PartialEq)]
pub struct PyramidLevel {
    /// Rows of the feature map.
    pub height: usize,
    /// Columns of the feature map.
    pub width: usize,
    /// First of the level's cells in the packed tensor.
    pub offset: usize,
    /// Feature cells a pixel, e.g. 1/4 for P2.
    pub scale: f32,
}

/// What RoIAlign does, as in torchvision's `roi_align`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoiAlignParams {
    /// Output height and width in bins.
    pub output: [usize; 2],
    /// Samples a bin and axis; 0 adapts to the box (`ceil(bin size)`).
    pub sampling_ratio: usize,
    /// Shift by half a cell, as Detectron2 does and torchvision's detectors do not.
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

fn pooled_shape(pyramid: &Shape, rois: &Shape, params: &RoiAlignParams) -> Shape {
    Shape::new([rois[0], pyramid[2], params.output[0], params.output[1]])
}

fn gradient_shape(grad: &Shape, params: &RoiAlignParams, images: &usize) -> Shape {
    Shape::new([*images, params.cells(), grad[1]])
}

/// Packs feature maps `[n, c, h, w]` (finest first) into `[n, cells, c]`, with the levels' table.
///
/// `scales` gives the feature cells a pixel of each level. Differentiable.
pub fn pack_pyramid(features: &[Tensor<4>], scales: &[f32]) -> (Tensor<3>, Vec<PyramidLevel>) {
    let mut levels = Vec::with_capacity(features.len());
    let mut packed = Vec::with_capacity(features.len());
    let mut offset = 0;
    for (feature, &scale) in features.iter().zip(scales) {
        let [n, c, height, width] = feature.dims();
        packed.push(
            feature
                .clone()
                .permute([0, 2, 3, 1])
                .reshape([n, height * width, c]),
        );
        levels.push(PyramidLevel {
            height,
            width,
            offset,
            scale,
        });
        offset += height * width;
    }
    (Tensor::cat(packed, 1), levels)
}

/// Pools every region of interest to `params.output` bins: `[r, c, h, w]`.
///
/// * `pyramid` - `[n, cells, c]`, from [`pack_pyramid`].
/// * `rois` - `[r, 6]`: image index, level index, then `x1, y1, x2, y2` in pixels of the input
///   picture. Rois are constants: no gradient flows into them.
///
/// Equals torchvision's `roi_align` (Mask R-CNN, section 3) applied level by level. Half-precision
/// features are read as f32 and rounded once at the end. The gradient is summed in a fixed order, so
/// two runs agree bit for bit.
pub fn roi_align(pyramid: Tensor<3>, rois: Tensor<2>, params: &RoiAlignParams) -> Tensor<4> {
    let dtype = pyramid.dtype();
    let pyramid = to_f32(pyramid);
    let rois = to_f32(rois);
    let pooled = <Dispatch as RoiAlignOps>::roi_align(
        pyramid.into_dispatch(),
        rois.into_dispatch(),
        params.clone(),
    );
    let pooled = Tensor::<4>::from_dispatch(pooled);
    match dtype {
        DType::F16 => pooled.cast(FloatDType::F16),
        DType::BF16 => pooled.cast(FloatDType::BF16),
        _ => pooled,
    }
}

fn to_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.dtype() == DType::F32 {
        tensor
    } else {
        tensor.cast(FloatDType::F32)
    }
}
